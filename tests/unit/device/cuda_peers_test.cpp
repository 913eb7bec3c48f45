// SPDX-License-Identifier: Apache-2.0
// What CUDA's virtual memory demands of several devices, over a driver as strict as the manual.
#include "cuda_case.hpp"

#include <array>
#include <cstddef>

namespace vtensor::testing {
namespace {

TEST_CASE("peers: each needs its own grant, and each can have its own", "[device]") {
    cuda_case on{{.devices = 3}};
    chunks_at run{*on.memory, 2};
    run.map_and_open();
    CHECK(on.memory->can_reach(0));
    CHECK(on.memory->can_reach(2));
    CHECK_FALSE(on.memory->can_reach(3));
    CHECK_FALSE(on.memory->can_reach(-1));
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    CHECK(ended(on.memory->set_peer_access(run.at(1), run.size, access_mode::read_write, 1)) == "ok");
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == run.size);
    CHECK(open_bytes(on.machine, run.start, run.all(), 2) == bytes{0});
    CHECK(open_bytes(on.machine, run.start, run.all(), 0) == run.all());

    // Refused as set_access refuses, and for devices that there are not.
    const auto refused = [&](address where, bytes size, access_mode allowed, int device) {
        return ended(on.memory->set_peer_access(where, size, allowed, device));
    };
    constexpr verb what = verb::set_peer_access;
    CHECK(refused(run.start, run.size, access_mode::read, 3) == ended(what, errc::no_device));
    CHECK(refused(run.start, bytes{0}, access_mode::read, 1) == ended(what, errc::invalid_argument));
    CHECK(refused(run.start, run.size, static_cast<access_mode>(7), 1) ==
          ended(what, errc::invalid_argument));
    CHECK(refused(run.start, bytes{4096}, access_mode::read, 1) == ended(what, errc::misaligned));
    CHECK(refused(run.at(100), run.size, access_mode::read, 1) == ended(what, errc::not_reserved));
    CHECK(refused(run.at(2), run.size, access_mode::read, 1) == ended(what, errc::not_mapped));

    CHECK(ended(on.memory->set_peer_access(run.at(1), run.size, access_mode::none, 1)) == "ok");
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    run.take_down();
}

TEST_CASE("peers: a grant goes with its mapping, and does not come back with the next one", "[device]") {
    cuda_case on{{.devices = 2}};
    chunks_at run{*on.memory, 2};
    run.map_and_open();
    CHECK(ended(on.memory->set_peer_access(run.start, run.all(), access_mode::read_write, 1)) == "ok");
    CHECK(ended(on.memory->unmap(run.start, run.all())) == "ok");
    run.map_and_open();
    on.machine.fail_entry(entry::mem_set_access, simulated::code::unknown); // and what was is told again
    CHECK(ended(on.memory->set_access(run.start, run.all(), access_mode::read)) ==
          ended(verb::set_access, errc::native_failure));
    on.machine.disarm();
    CHECK(open_bytes(on.machine, run.start, run.all(), 0) == run.all());
    CHECK(open_bytes(on.machine, run.start, run.all(), 1) == bytes{0});
    run.take_down();
}

TEST_CASE("peers: a device out of reach is refused at construction and afterwards", "[device]") {
    simulated_cuda machine{{.devices = 2, .peers_can_access = false}};
    const auto refused = cuda_backend::try_open({.peers = {1}, .driver = machine.driver()});
    CHECK(refused.failure.code == errc::unsupported);
    CHECK(refused.reason.find("device 1 is no peer") != std::string::npos);
    const auto opened = cuda_backend::try_open({.driver = machine.driver()});
    REQUIRE(opened);
    chunks_at run{*opened.backend, 1};
    run.map();
    CHECK_FALSE(opened.backend->can_reach(1));
    CHECK(ended(opened.backend->set_peer_access(run.start, run.size, access_mode::read, 1)) ==
          ended(verb::set_peer_access, errc::unsupported));
    run.take_down();
}

} // namespace
} // namespace vtensor::testing
