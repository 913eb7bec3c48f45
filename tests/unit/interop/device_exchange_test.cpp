// SPDX-License-Identifier: Apache-2.0
//
// The same messages between device backends, over two simulated machines that share nothing but the
// connection, as two processes do; and between backends that cannot use each other's memory.
#include "connection.hpp"
#include "support/catch.hpp"
#include "support/proc_maps.hpp"
#include "unit/device/machines.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <array>
#include <cstddef>
#include <vector>

namespace vtensor::testing {
namespace {

static_assert(interop::shareable_backend<cuda_backend> && interop::shareable_backend<hip_backend> &&
              interop::shareable_backend<host_backend>);

template <class Machine, class Backend, class Options>
void exchange(const simulated::machine_options& kind, sharing_wish wish) {
    const std::size_t descriptors = open_descriptors();
    {
        Machine there{kind};
        Machine here{kind};
        {
            connection both;
            Backend sender{Options{.sharing = wish, .driver = there.driver()}};
            Backend receiver{Options{.sharing = wish, .driver = here.driver()}};
            chunks_at run{sender, 3};
            run.map_and_open();
            for (std::size_t index = 0; index < 3; ++index)
                *run.at(index).template to_pointer<std::size_t>() = 100 + index;
            REQUIRE(interop::send_chunks<Backend>(both.sender, sender, run.chunks, granule, soon()));
            if (wish == sharing_wish::descriptor)
                run.take_down(); // the descriptors under way keep the memory
            std::vector<device_chunk> got(3);
            REQUIRE(interop::receive_chunks<Backend>(both.receiver, receiver, got, granule, soon()));
            if (wish == sharing_wish::fabric)
                run.take_down();
            const auto where = *receiver.reserve(3 * granule, bytes{0});
            for (std::size_t index = 0; index < 3; ++index)
                REQUIRE(receiver.map(where + granule * index, got[index]));
            REQUIRE(receiver.set_access(where, 3 * granule, access_mode::read_write));
            for (std::size_t index = 0; index < 3; ++index)
                CHECK(*(where + granule * index).template to_pointer<std::size_t>() == 100 + index);
            REQUIRE(receiver.unmap(where, 3 * granule));
            for (const device_chunk chunk : got)
                REQUIRE(receiver.destroy(chunk));
            REQUIRE(receiver.release(where, 3 * granule));
        }
        CHECK(to_string(there.leaks()) == "nothing");
        CHECK(to_string(here.leaks()) == "nothing");
    }
    CHECK(open_descriptors() == descriptors);
}

/// What a receiver says of a chunk that another kind of backend sent, with nothing left behind.
template <class Sender, class Receiver>
errc refusal(Sender& sender, Receiver& receiver) {
    connection both;
    const auto made = sender.create(granule);
    REQUIRE(made);
    REQUIRE(interop::send_chunks<Sender>(both.sender, sender, std::array{*made}, granule, soon()));
    REQUIRE(sender.destroy(*made));
    const std::size_t descriptors = open_descriptors();
    std::array<typename Receiver::chunk_type, 1> got;
    const auto outcome =
        interop::receive_chunks<Receiver>(both.receiver, receiver, got, granule, soon()).code();
    CHECK(open_descriptors() == descriptors - 1); // the connection's end
    CHECK(got[0] == typename Receiver::chunk_type{});
    return outcome;
}

} // namespace

TEST_CASE("chunks of a CUDA device go from process to process by descriptor") {
    exchange<simulated_cuda, cuda_backend, cuda_options>({}, sharing_wish::descriptor);
}

TEST_CASE("chunks of a HIP device go from process to process by descriptor") {
    exchange<simulated_hip, hip_backend, hip_options>({}, sharing_wish::descriptor);
}

TEST_CASE("chunks of a CUDA device go from machine to machine of a fabric") {
    exchange<simulated_cuda, cuda_backend, cuda_options>({.sharing = {.fabric_supported = true}},
                                                         sharing_wish::fabric);
}

TEST_CASE("a fabric handle keeps nothing alive: a chunk that went before it arrived is foreign") {
    simulated_cuda machine{{.sharing = {.fabric_supported = true}}};
    {
        const cuda_options options{.sharing = sharing_wish::fabric, .driver = machine.driver()};
        cuda_backend sender{options};
        cuda_backend receiver{options};
        CHECK(refusal(sender, receiver) == errc::foreign_handle);
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

TEST_CASE("a device's chunks are foreign to the host and to a device that deals in other handles") {
    simulated_cuda machine{{.sharing = {.fabric_supported = true}}};
    {
        cuda_backend by_descriptor{{.sharing = sharing_wish::descriptor, .driver = machine.driver()}};
        cuda_backend by_fabric{{.sharing = sharing_wish::fabric, .driver = machine.driver()}};
        cuda_backend without{{.driver = machine.driver()}};
        host_backend host{{.granularity = granule, .exportable = true}};
        CHECK(refusal(by_descriptor, host) == errc::foreign_handle);
        CHECK(refusal(host, by_descriptor) == errc::foreign_handle);
        CHECK(refusal(host, by_fabric) == errc::foreign_handle);
        CHECK(refusal(by_descriptor, by_fabric) == errc::foreign_handle);
        CHECK(refusal(by_descriptor, without) == errc::unsupported);

        connection both;
        const auto chunk = *without.create(granule);
        CHECK(interop::send_chunks<cuda_backend>(both.sender, without, std::array{chunk}, granule, soon())
                  .code() == errc::unsupported);
        CHECK(without.destroy(chunk));
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

} // namespace vtensor::testing
