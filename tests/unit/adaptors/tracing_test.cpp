// SPDX-License-Identifier: Apache-2.0
#include "fake_device.hpp"

#include <support/catch.hpp>
#include <support/death.hpp>

#include <vtensor/adaptors/chrome_trace_sink.hpp>
#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace vtensor::testing {
namespace {

const address somewhere{std::uintptr_t{0x7f00'0000'1000}};

/// A file name of this process, removed at the end.
struct scratch_file {
    std::filesystem::path path =
        std::filesystem::temp_directory_path() / ("vtensor-trace-" + std::to_string(::getpid()) + ".json");
    ~scratch_file() { std::filesystem::remove(path); }

    [[nodiscard]] std::string text() const {
        std::ifstream file{path};
        std::ostringstream all;
        all << file.rdbuf();
        return all.str();
    }
};

TEST_CASE("tracing tells what, where, how much, how it ended, when, how long and on which thread") {
    fake_device device;
    adaptors::memory_sink sink;
    adaptors::tracing traced{device, sink};
    const auto before = std::chrono::steady_clock::now();
    const auto chunk = *traced.create(128_KiB);
    CHECK(traced.map(somewhere, chunk).ok());
    device.break_down(error{errc::not_mapped, verb::unmap, 0, 64_KiB});
    CHECK_FALSE(traced.unmap(somewhere, 64_KiB).ok());
    const auto after = std::chrono::steady_clock::now();

    const auto events = sink.events();
    REQUIRE(events.size() == 3);
    CHECK(events[0].what == verb::create);
    CHECK(events[0].where.is_null());
    CHECK(events[0].size == 128_KiB);
    CHECK(events[0].outcome == errc::ok);
    CHECK(events[1].what == verb::map);
    CHECK(events[1].where == somewhere);
    CHECK(events[1].size == 128_KiB); // the chunk's
    CHECK(events[2].what == verb::unmap);
    CHECK(events[2].outcome == errc::not_mapped);
    auto earliest = before;
    for (const adaptors::trace_event& event : events) {
        CHECK(event.thread == std::this_thread::get_id());
        CHECK(event.start >= earliest);
        CHECK(event.duration >= std::chrono::nanoseconds{0});
        earliest = event.start + event.duration;
    }
    CHECK(earliest <= after);
    CHECK(sink.dropped() == 0);
    sink.clear();
    CHECK(sink.events().empty());
}

TEST_CASE("tracing tells which chunk, which access, and where a reservation came to lie") {
    host_backend memory;
    adaptors::memory_sink sink;
    adaptors::tracing traced{memory, sink};
    const bytes page = traced.granularity();
    const address where = *traced.reserve(2 * page, 0_B);
    const auto first = *traced.create(page);
    const auto second = *traced.create(page);
    CHECK(traced.map(where, second).ok());
    CHECK(traced.map(where + page, first).ok());
    CHECK(traced.set_access(where, 2 * page, access_mode::read).ok());
    CHECK_FALSE(traced.map(where, first).ok());
    CHECK(traced.unmap(where, 2 * page).ok());
    CHECK(traced.destroy(first).ok());
    const auto third = *traced.create(page); // perhaps with the first one's handle
    CHECK(traced.destroy(third).ok());
    CHECK_FALSE(traced.destroy(third).ok());
    CHECK(traced.destroy(second).ok());
    CHECK(traced.release(where, 2 * page).ok());

    const auto events = sink.events();
    std::vector<std::uint64_t> chunks;
    for (const adaptors::trace_event& event : events) {
        chunks.push_back(event.chunk);
        CHECK(event.allowed == (event.what == verb::set_access ? access_mode::read : access_mode::none));
    }
    CHECK(chunks == std::vector<std::uint64_t>{0, 1, 2, 2, 1, 0, 1, 0, 1, 3, 3, 0, 2, 0});
    REQUIRE_FALSE(events.empty());
    CHECK(events.front().what == verb::reserve);
    CHECK(events.front().where == where);
}

TEST_CASE("a call that failed has no address and no chunk of its own to tell of") {
    fake_device device;
    adaptors::memory_sink sink;
    adaptors::tracing traced{device, sink};
    device.break_down(error{errc::out_of_memory, verb::create, 0, 64_KiB});
    CHECK_FALSE(traced.create(64_KiB).ok());
    CHECK_FALSE(traced.reserve(64_KiB, 0_B).ok());
    for (const adaptors::trace_event& event : sink.events()) {
        CHECK(event.chunk == 0);
        CHECK(event.where.is_null());
    }
    CHECK(sink.events().size() == 2);
}

TEST_CASE("the memory sink keeps every event of several threads") {
    fake_device device;
    adaptors::memory_sink sink;
    adaptors::tracing traced{device, sink};
    std::vector<std::thread> running;
    for (int index = 0; index < 4; ++index) {
        running.emplace_back([&] {
            for (int round = 0; round < 200; ++round)
                static_cast<void>(traced.reserve(64_KiB, 0_B));
        });
    }
    for (std::thread& thread : running)
        thread.join();
    const auto events = sink.events();
    CHECK(events.size() == 800);
    std::set<std::thread::id> threads;
    for (const adaptors::trace_event& event : events)
        threads.insert(event.thread);
    CHECK(threads.size() == 4);
}

TEST_CASE("the Chrome trace is valid JSON once it is closed") {
    scratch_file file;
    fake_device device;
    adaptors::chrome_trace_sink sink{file.path.string()};
    adaptors::tracing traced{device, sink};
    const auto chunk = *traced.create(128_KiB);
    CHECK(traced.map(somewhere, chunk).ok());
    std::thread{[&] { static_cast<void>(traced.unmap(somewhere, 64_KiB)); }}.join();
    device.break_down(error{errc::unknown_chunk, verb::destroy, 0, 0_B});
    CHECK_FALSE(traced.destroy(chunk).ok());
    CHECK(sink.close().ok());
    CHECK(sink.close().ok());                      // once more does nothing
    CHECK_FALSE(traced.reserve(64_KiB, 0_B).ok()); // and what comes after is not written

    const auto trace = nlohmann::json::parse(file.text());
    REQUIRE(trace.is_array());
    REQUIRE(trace.size() == 5); // four calls, and the name of the process
    double last_end = 0;
    for (std::size_t index = 0; index < 4; ++index) {
        const auto& event = trace[index];
        CHECK(event.at("ph") == "X");
        CHECK(event.at("cat") == "vtensor");
        CHECK(event.at("ts").get<double>() >= last_end);
        CHECK(event.at("dur").get<double>() >= 0);
        last_end = event.at("ts").get<double>() + event.at("dur").get<double>() - 0.0005;
    }
    CHECK(trace[0].at("name") == "create");
    CHECK(trace[0].at("args").at("bytes") == 131072);
    CHECK(trace[1].at("name") == "map");
    CHECK(trace[1].at("args").at("address") == "0x7f0000001000");
    CHECK(trace[1].at("args").at("chunk") == 1);
    CHECK(trace[1].at("args").at("outcome") == "ok");
    CHECK(trace[3].at("args").at("outcome") == "unknown_chunk");
    CHECK(trace[0].at("tid") == trace[1].at("tid"));
    CHECK(trace[0].at("tid") != trace[2].at("tid"));
    CHECK(trace[4].at("ph") == "M");
}

TEST_CASE("a Chrome trace without events is valid JSON, closed by the destructor") {
    scratch_file file;
    { const adaptors::chrome_trace_sink sink{file.path.string()}; }
    CHECK(nlohmann::json::parse(file.text()).size() == 1);
}

TEST_CASE("after a crash the Chrome trace lacks only what the format allows to be missing") {
    scratch_file file;
    const child_end end = run_in_child([&] {
        fake_device device;
        adaptors::chrome_trace_sink sink{file.path.string()};
        adaptors::tracing traced{device, sink};
        for (int round = 0; round < 10; ++round)
            static_cast<void>(traced.reserve(64_KiB, 0_B));
        std::raise(SIGKILL);
    });
    REQUIRE(end.signal == SIGKILL);
    const std::string text = file.text();
    REQUIRE(text.ends_with("},\n"));
    // A reader of the format supplies the bracket and forgives the comma.
    const auto trace = nlohmann::json::parse(text.substr(0, text.size() - 2) + "]");
    CHECK(trace.size() == 10);
}

TEST_CASE("a Chrome trace that cannot be opened is an exception that says why") {
    try {
        const adaptors::chrome_trace_sink sink{"/nowhere/at/all.json"};
        FAIL("opened a file in a folder that does not exist");
    } catch (const backend_failure& refused) {
        CHECK(refused.error().code == errc::native_failure);
        CHECK(refused.error().native == ENOENT);
    }
}

TEST_CASE("a Chrome trace that cannot be written says so when it is closed") {
    if (!std::filesystem::exists("/dev/full"))
        return;
    fake_device device;
    adaptors::chrome_trace_sink sink{"/dev/full"};
    adaptors::tracing traced{device, sink};
    CHECK(traced.reserve(64_KiB, 0_B).ok()); // the verb does not care
    const status outcome = sink.close();
    CHECK(outcome.code() == errc::native_failure);
    CHECK(outcome.error().native == ENOSPC);
}

} // namespace
} // namespace vtensor::testing
