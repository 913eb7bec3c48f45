// SPDX-License-Identifier: Apache-2.0
//
// Defragmentation over simulated CUDA and HIP machines, which are as strict about work in flight as a test
// can be: on a stream of the program's own, with held up work, with what some runtimes do otherwise than
// documented, and each driver call failing.
#include "support/fault_loop.hpp"
#include "support/simulated_streams.hpp"
#include "world.hpp"

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Device>
using device_tensor =
    virtual_tensor<std::uint32_t, typename Device::backend_type, growth::exact, eviction::by_caller>;

/// A few words of each row say whose row it is; the machine's memory is this process's.
template <class Tensor>
void stamp(Tensor& tensor) {
    const auto view = tensor.view();
    for (std::size_t slot = 0; slot < tensor.rows(); ++slot) {
        for (const std::size_t word : {std::size_t{0}, view.extents[1] / 2, view.extents[1] - 1})
            view(slot, word) = static_cast<std::uint32_t>(slot * 1000 + word);
    }
}
template <class Tensor>
std::size_t wrong_words(const Tensor& tensor) {
    const auto view = tensor.view();
    std::size_t wrong = 0;
    for (std::size_t slot = 0; slot < tensor.rows(); ++slot) {
        const auto positions = tensor.positions();
        const std::size_t at = positions.empty() ? slot : positions[slot];
        if (at == no_position)
            continue;
        for (const std::size_t word : {std::size_t{0}, view.extents[1] / 2, view.extents[1] - 1})
            wrong += view(slot, word) != static_cast<std::uint32_t>(at * 1000 + word) ? 1u : 0u;
    }
    return wrong;
}

/// Of 40 rows: some blocks of pages dead, some full, some in between.
std::vector<slot_type> some_rows() {
    std::vector<slot_type> kept{9, 11, 12};
    for (slot_type slot = 24; slot < 32; ++slot)
        kept.push_back(slot);
    kept.push_back(34);
    return kept;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("rows on a device keep their content whatever policy moves them", "[device]",
                        simulated_devices) {
    for (const std::size_t blocks : {1u, 3u}) { // pages a block: 8 rows a page, and 16 on 3 pages
        for (std::size_t number = 0; number < policies - 1; ++number) {
            INFO(policy_names[number] << ", pages a block: " << blocks);
            device_world<TestType> now;
            {
                const std::size_t row =
                    now.page.count() / sizeof(std::uint32_t) / (blocks == 1 ? 8 : 16) * blocks;
                device_tensor<TestType> tensor{*now.pool, {row}, 60};
                tensor.append(40);
                stamp(tensor);
                tensor.evict(some_rows());
                defrag::plan plan;
                const bool copies_alone = number == 1 || number == 2;
                if (copies_alone) // nobody waits: the stream is held up
                    now.read(now.first, address{tensor.data()}, tensor.stats().used);
                REQUIRE(tensor.try_defragment(numbered_policy{number}, plan, now.first));
                CHECK((!copies_alone || !plan.rows.empty()));
                if (number == 3) { // with rows over the edges of pages no block is dead
                    CHECK(plan.rows.empty());
                    CHECK(plan.blocks.empty() == (blocks != 1));
                }
                now.machine.resume_all();
                REQUIRE(now.pool->retiring().drain());
                CHECK(wrong_words(tensor) == 0);
                CHECK(tensor.live_rows() == 12);
                CHECK(tensor.mapped_bytes() == round_up(tensor.row_bytes() * tensor.rows(), now.page));
                CHECK(now.mapped(address{tensor.data()}, tensor.reserved_bytes()) == tensor.mapped_bytes());
                CHECK(bytes{now.machine.accessible_bytes(tensor.data(), tensor.reserved_bytes().count())} ==
                      tensor.mapped_bytes());
                CHECK(tensor.verify());
                CHECK(tensor.try_defragment(defrag::compact{}).code() == // without a stream
                      (tensor.rows() == 12 ? errc::ok : errc::unsupported));
                tensor.append(3); // and the pages serve again
                CHECK(tensor.verify());
            }
            now.close();
        }
    }
}

TEMPLATE_LIST_TEST_CASE("pages of a device change places only behind the work that reads them", "[device]",
                        simulated_devices) {
    device_world<TestType> now;
    {
        device_tensor<TestType> tensor{*now.pool, {now.page.count() / sizeof(std::uint32_t) / 8}, 60};
        tensor.append(40);
        stamp(tensor);
        tensor.evict(some_rows());
        bool was_read = false;
        const address start{tensor.data()};
        REQUIRE(now.machine.launch(now.first, {{start.value(), tensor.stats().used.count()}}, {},
                                   [&] { was_read = wrong_words(tensor) == 0; }) == 0);
        const std::size_t waits = now.machine.calls(simulated::entry::event_synchronize);
        REQUIRE(tensor.try_defragment(defrag::remap{}, now.first));
        CHECK(now.machine.calls(simulated::entry::event_synchronize) == waits + 1);
        CHECK(was_read);
        CHECK(wrong_words(tensor) == 0);
    }
    now.close();
}

TEMPLATE_LIST_TEST_CASE("a driver that fails leaves the rows where they were, or where they go", "[device]",
                        simulated_devices) {
    for (const std::size_t number : {1u, 3u, 4u}) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            INFO(policy_names[number] << ", calls in a row: " << static_cast<std::size_t>(length));
            device_world<TestType> now;
            {
                std::optional<device_tensor<TestType>> tensor;
                std::size_t old_rows = 0;
                const auto set = [&] {
                    tensor.reset();
                    REQUIRE(now.pool->retiring().drain());
                    tensor.emplace(*now.pool, row_shape{now.page.count() / sizeof(std::uint32_t) / 8}, 60);
                    tensor->append(40);
                    stamp(*tensor);
                    tensor->evict(some_rows());
                    old_rows = tensor->rows();
                };
                set();
                simulated::driver_faults faults{now.machine, simulated::code::unknown};
                const std::size_t calls = for_each_failing_call(
                    faults, [&] { return tensor->try_defragment(numbered_policy{number}, now.first).ok(); },
                    [&](std::size_t) {
                        CHECK(tensor->rows() == old_rows);
                        CHECK(tensor->mapped_bytes() == 5 * now.page);
                        CHECK(tensor->live_rows() == 12);
                        CHECK(wrong_words(*tensor) == 0);
                        CHECK(tensor->verify());
                        REQUIRE(tensor->try_defragment(numbered_policy{number}, now.first));
                        CHECK(wrong_words(*tensor) == 0);
                        set();
                    },
                    [&] { // the pages that should have left are still there, and counted
                        CHECK(tensor->rows() < old_rows);
                        CHECK(wrong_words(*tensor) == 0);
                        CHECK(tensor->verify());
                        set();
                    },
                    errc::native_failure, length);
                CHECK(calls >= 4);
                CHECK(wrong_words(*tensor) == 0);
            }
            now.close();
        }
    }
}
