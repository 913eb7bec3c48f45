// SPDX-License-Identifier: Apache-2.0
//
// The simulated streams themselves: order, events, and that they report what they are there to report.
#include "support/catch.hpp"
#include "support/reference_backend.hpp"
#include "support/stream_model.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/backends/host.hpp>

#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

using host_device = stream_model<host_backend>;
using number_device = stream_model<reference_backend>;
static_assert(stream_ordered_backend<host_device> && host_visible_backend<host_device>);
static_assert(stream_ordered_backend<number_device> && !host_visible_backend<number_device>);
static_assert(stream_ordered_backend<stream_model<host_backend, opaque_stream>>);
static_assert(stream_ordered_backend<adaptors::counting<adaptors::limiting<adaptors::failing<host_device>>>>);

namespace {

/// Four accessible pages.
template <class Device>
struct four_pages {
    explicit four_pages(Device& used) : device{used} {
        start = *device.reserve(4 * page, 0_B);
        for (std::size_t index = 0; index < 4; ++index) {
            chunks.push_back(*device.create(page));
            REQUIRE(device.map(start + index * page, chunks.back()));
        }
        REQUIRE(device.set_access(start, 4 * page, access_mode::read_write));
    }
    static constexpr bytes page = 4_KiB;
    Device& device;
    address start;
    std::vector<typename Device::chunk_type> chunks;
};

} // namespace

TEST_CASE("a stream does its work in order, one step at a time") {
    reference_backend numbers;
    number_device device{numbers};
    const four_pages memory{device};
    const model_stream stream = device.make_stream();
    std::vector<int> done;
    for (int work = 0; work < 3; ++work)
        device.launch(stream, memory.start, 1_KiB, [&done, work] { done.push_back(work); });
    CHECK(device.queued() == 3);
    CHECK(done.empty());
    CHECK(device.step(stream));
    CHECK(done == std::vector<int>{0});
    device.run(stream);
    CHECK(done == std::vector<int>{0, 1, 2});
    CHECK_FALSE(device.step(stream));
    CHECK(device.violations().empty());
}

TEST_CASE("an event happens after the work before it, each recording anew") {
    reference_backend numbers;
    number_device device{numbers};
    const four_pages memory{device};
    const model_stream stream = device.make_stream();
    const model_event event = *device.create_event();
    CHECK(*device.query(event)); // never recorded
    device.launch(stream, memory.start, 1_KiB);
    REQUIRE(device.record(event, stream));
    CHECK_FALSE(*device.query(event));
    CHECK(device.step(stream));
    CHECK_FALSE(*device.query(event));
    CHECK(device.step(stream));
    CHECK(*device.query(event));

    REQUIRE(device.record(event, stream));
    device.launch(stream, memory.start, 1_KiB);
    REQUIRE(device.record(event, stream));
    CHECK(device.step(stream));
    CHECK_FALSE(*device.query(event)); // the first of two
    CHECK(device.host_waits() == 0);
    REQUIRE(device.wait(event));
    CHECK(device.host_waits() == 1);
    CHECK(*device.query(event));
    CHECK(device.queued() == 0);
    CHECK(device.destroy_event(event));
    CHECK(device.destroy_event(event).code() == errc::invalid_argument);
    CHECK(device.query(event).code() == errc::invalid_argument);
    CHECK(device.events() == 0);
}

TEST_CASE("a stream that waits for another goes on when that is so far") {
    reference_backend numbers;
    number_device device{numbers};
    const four_pages memory{device};
    const model_stream first = device.make_stream();
    const model_stream second = device.make_stream();
    const model_event here = *device.create_event();
    const model_event there = *device.create_event();
    device.launch(first, memory.start, 1_KiB);
    REQUIRE(device.record(here, first));
    device.launch(first, memory.start, 1_KiB);
    REQUIRE(device.wait(second, here));
    device.launch(second, memory.start, 1_KiB);
    REQUIRE(device.record(there, second));
    CHECK_FALSE(device.step(second));

    SECTION("by itself") {
        device.run_all();
        CHECK(device.queued() == 0);
        CHECK(*device.query(there));
    }
    SECTION("because the host waits, which takes no more than it needs") {
        REQUIRE(device.wait(there));
        CHECK(*device.query(here));
        CHECK(device.queued() == 1); // what the first stream has behind the event
    }
    device.run_all();
}

TEST_CASE("memory taken from under queued work is reported") {
    host_backend host;
    host_device device{host};
    const four_pages memory{device};
    const model_stream stream = device.make_stream();
    const bytes page = memory.page;
    device.launch(stream, memory.start + page, page + 1_B); // two pages

    SECTION("nothing, where it is other memory") {
        REQUIRE(device.unmap(memory.start, page));
        REQUIRE(device.unmap(memory.start + 3 * page, page));
        CHECK(device.violations().empty());
    }
    SECTION("nothing, where the work is done") {
        device.run(stream);
        REQUIRE(device.unmap(memory.start, 4 * page));
        CHECK(device.violations().empty());
        CHECK(host.mapped_bytes() == 0_B);
    }
    SECTION("unmapped") {
        static_cast<void>(device.unmap(memory.start + 2 * page, 2 * page));
        CHECK(device.violations().size() == 1);
    }
    SECTION("out of reach") {
        static_cast<void>(device.set_access(memory.start, 2 * page, access_mode::none));
        CHECK(device.violations().size() == 1);
    }
    SECTION("read from a copy that is queued") {
        device.run(stream);
        REQUIRE(device.copy(memory.start, memory.start + 3 * page, 16_B, stream));
        static_cast<void>(device.unmap(memory.start + 3 * page, page));
        CHECK(device.violations().size() == 1);
    }
}

TEST_CASE("work on memory that is not accessible is reported") {
    host_backend host;
    host_device device{host};
    const four_pages memory{device};
    const model_stream stream = device.make_stream();
    REQUIRE(device.unmap(memory.start, memory.page));
    device.launch(stream, memory.start, 1_B);
    CHECK(device.violations().size() == 1);
    REQUIRE(device.set_access(memory.start + memory.page, memory.page, access_mode::none));
    device.launch(stream, memory.start + memory.page, memory.page);
    CHECK(device.violations().size() == 2);
    device.launch(stream, memory.start + 2 * memory.page, 2 * memory.page);
    CHECK(device.violations().size() == 2);
    device.run(stream);
    CHECK(device.unmap(memory.start, 4 * memory.page).code() == errc::not_mapped);
    device.launch(stream, memory.start + 3 * memory.page, memory.page);
    CHECK(device.violations().size() == 2);
}

TEST_CASE("copies and fills move bytes when their turn comes") {
    host_backend host;
    host_device device{host};
    const four_pages memory{device};
    const model_stream stream = device.make_stream();
    auto* const data = memory.start.to_pointer<unsigned char>();
    data[0] = data[4096] = 1;
    REQUIRE(device.fill(memory.start, std::byte{7}, 16_B, stream));
    REQUIRE(device.copy(memory.start + memory.page, memory.start, 16_B, stream));
    CHECK(data[0] == 1);
    CHECK(device.step(stream));
    CHECK(data[0] == 7);
    CHECK(data[4096] == 1);
    CHECK(device.step(stream));
    CHECK(data[4096 + 15] == 7);
    CHECK(device.fill(memory.start, std::byte{7}, 16_B, model_stream{9}).code() == errc::invalid_argument);
}
