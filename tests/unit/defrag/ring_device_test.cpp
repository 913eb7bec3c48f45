// SPDX-License-Identifier: Apache-2.0
//
// The ring on devices with streams: what queued work reads stays as it was until what is queued behind it
// writes; growing touches nothing that is in use; a failing driver changes nothing.
#include "support/fault_loop.hpp"
#include "support/simulated_streams.hpp"

#include <vtensor/ring_tensor.hpp>

#include <cstdint>
#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using ring_devices = std::tuple<cuda_device, hip_device, quirky_hip_device, hip_device_in_pieces>;

std::uint32_t word(std::uint64_t at, std::size_t column) {
    return static_cast<std::uint32_t>(at * 2654435761u + column);
}

/// Rows of three eighths of a page, 10 of them: the window fills 4 pages but for 2 eighths.
template <class Device>
struct ring_scene : device_world<Device> {
    using base = device_world<Device>;
    using ring_type = ring_tensor<std::uint32_t, typename base::backend_type>;
    using base::machine;
    using base::page;
    using base::pool;

    ring_scene() { ring.emplace(*pool, row_shape{columns}, 10); }
    ~ring_scene() {
        machine.resume_all();
        ring.reset();
        base::close();
        CHECK(wrong == 0);
    }

    /// Words at the ends and in the middle of a row: the pages of a device are large.
    [[nodiscard]] std::size_t different(const std::uint32_t* row, std::uint64_t at) const {
        std::size_t found = 0;
        for (const std::size_t column : {std::size_t{0}, columns / 3, columns / 2, columns - 1})
            found += row[column] != word(at, column) ? 1u : 0u;
        return found;
    }
    /// Appends rows that a kernel on the stream fills.
    [[nodiscard]] status append(std::size_t count, typename base::stream_type stream) {
        const std::uint64_t oldest = ring->next_position();
        const auto made = ring->try_append(count);
        if (!made)
            return made.status();
        const auto rows = *made;
        const address start{rows.data};
        REQUIRE(machine.launch(stream, {}, {{start.value(), (ring->row_bytes() * count).count()}}, [=, this] {
            for (std::size_t row = 0; row < count; ++row)
                for (const std::size_t column : {std::size_t{0}, columns / 3, columns / 2, columns - 1})
                    rows(row, column) = word(oldest + row, column);
        }) == 0);
        return {};
    }
    /// Queues a kernel that reads the window as it is now.
    void read(typename base::stream_type stream, std::size_t& wrong_words) {
        const auto view = std::as_const(*ring).view();
        const std::uint64_t oldest = ring->first_position();
        const address start{view.data};
        REQUIRE(machine.launch(stream, {{start.value(), (ring->row_bytes() * ring->rows()).count()}}, {},
                               [=, this, &wrong_words] {
                                   for (std::size_t row = 0; row < view.extents[0]; ++row)
                                       wrong_words += different(&view(row, 0), oldest + row);
                               }) == 0);
    }
    [[nodiscard]] std::size_t driver_calls() {
        std::size_t sum = 0;
        for (const auto each : {simulated::entry::mem_map, simulated::entry::mem_unmap,
                                simulated::entry::mem_set_access, simulated::entry::mem_create})
            sum += machine.calls(each);
        return sum;
    }

    [[nodiscard]] std::size_t waits() {
        return machine.calls(simulated::entry::event_synchronize) +
               machine.calls(simulated::entry::stream_synchronize);
    }

    std::size_t columns = page.count() / sizeof(std::uint32_t) * 3 / 8;
    std::optional<ring_type> ring;
    std::size_t wrong = 0;
};

} // namespace

TEMPLATE_LIST_TEST_CASE("queued work reads the window of a ring as it was when it was queued", "[device]",
                        ring_devices) {
    ring_scene<TestType> now;
    now.machine.stall(now.first);
    const std::size_t waits = now.waits();
    const std::size_t counts[] = {4, 6, 3, 7, 1, 10, 2, 9, 5, 10};
    for (const std::size_t count : counts) { // all of it is queued before anything is done
        REQUIRE(now.append(count, now.first));
        now.read(now.first, now.wrong);
        CHECK(now.ring->verify());
    }
    CHECK(now.ring->rows() == 10);
    CHECK(now.waits() == waits);
    now.machine.resume_all();
    CHECK(now.wrong == 0);
    now.read(now.first, now.wrong);
    CHECK(now.ring->mapped_bytes() == 4 * now.page);
    CHECK(bytes{now.machine.leaks().physical_bytes} == 4 * now.page);
}

TEMPLATE_LIST_TEST_CASE("a full ring calls no driver, and another stream's rows overtake the readers",
                        "[device]", ring_devices) {
    ring_scene<TestType> now;
    REQUIRE(now.append(10, now.first));
    const std::size_t calls = now.driver_calls();
    now.machine.stall(now.first);
    std::size_t overtaken = 0;
    now.read(now.first, overtaken);
    REQUIRE(now.append(10, now.second)); // in nobody's order: what the contract asks the caller not to do
    now.machine.resume_all();
    CHECK(overtaken > 0);
    now.read(now.second, now.wrong);
    REQUIRE(now.append(10, now.second));
    CHECK(now.driver_calls() == calls);
}

TEMPLATE_LIST_TEST_CASE("a ring grows under queued work, whichever driver call fails", "[device]",
                        ring_devices) {
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        ring_scene<TestType> now;
        REQUIRE(now.append(2, now.first));
        now.machine.stall(now.first);
        now.read(now.first, now.wrong);
        using simulated::entry;
        simulated::driver_faults faults{
            now.machine, simulated::code::unknown, [](const simulated::call& one) {
                return one.what == entry::mem_create || one.what == entry::mem_map ||
                       one.what == entry::mem_set_access || one.what == entry::mem_unmap;
            }};
        const std::size_t failures = for_each_failing_call(
            faults, [&] { return now.ring->try_append(8).ok(); },
            [&](std::size_t) {
                CHECK(now.ring->rows() == 2);
                CHECK(now.ring->mapped_bytes() == now.page);
                CHECK(now.ring->verify());
                REQUIRE(now.pool->trim());
            },
            errc::native_failure, length);
        CHECK(failures >= 6);
        CHECK(now.ring->rows() == 10);
        CHECK(now.machine.violations().empty());
        now.machine.resume_all();
    }
}

TEST_CASE("a runtime that sets access only from the first mapping on refuses a ring's second half",
          "[device]") {
    ring_scene<hip_device_from_start> now;
    CHECK(now.ring->try_append(2).code() == errc::native_failure);
    CHECK(now.ring->rows() == 0);
    CHECK(now.ring->mapped_bytes() == 0_B);
    REQUIRE(now.ring->try_prepare()); // both halves whole: one run
    CHECK(now.ring->mapped_bytes() == 4 * now.page);
    const std::size_t calls = now.driver_calls();
    for (int step = 0; step < 30; ++step)
        REQUIRE(now.append(3, now.first));
    now.read(now.first, now.wrong);
    CHECK(now.driver_calls() == calls);
    CHECK(now.ring->verify());
}
