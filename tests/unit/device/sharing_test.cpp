// SPDX-License-Identifier: Apache-2.0
// Exporting and importing chunks of a device: what was found by trying, what a receiver refuses.
#include "machines.hpp"

#include <support/catch.hpp>

#include <vtensor/backends/os/handle.hpp>

#include <array>
#include <cstddef>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::testing {
namespace {

using simulated::sharing_options;

/// A descriptor of a plain file in memory: no device's.
os_handle plain_file(std::size_t size) {
    const int number = ::memfd_create("none of a device", MFD_CLOEXEC);
    REQUIRE(number >= 0);
    REQUIRE(::ftruncate(number, static_cast<off_t>(size)) == 0);
    return file_descriptor{number};
}

TEST_CASE("an exported chunk is imported as the same memory, by descriptor and by fabric handle",
          "[device]") {
    for (const auto wish :
         {sharing_wish::descriptor, sharing_wish::fabric, sharing_wish::fabric_or_descriptor}) {
        simulated_cuda machine{{.sharing = {.fabric_supported = true}}};
        const cuda_options options{.sharing = wish, .driver = machine.driver()};
        {
            cuda_backend sender{options};
            cuda_backend receiver{options};
            CHECK(sender.can_export());
            CHECK(sender.report().fabric.on == (wish != sharing_wish::descriptor));
            CHECK(sender.report().descriptors.on == (wish == sharing_wish::descriptor));

            chunks_at run{sender, 1};
            run.map_and_open();
            auto handle = sender.export_chunk(run.chunks[0]);
            REQUIRE(ended(handle) == "ok");
            CHECK((*handle).kind() ==
                  (wish == sharing_wish::descriptor ? os_handle_kind::descriptor : os_handle_kind::fabric));
            const auto chunk = receiver.import_chunk(std::move(*handle), granule);
            REQUIRE(ended(chunk) == "ok");
            const auto where = receiver.reserve(granule, bytes{0});
            REQUIRE(ended(where) == "ok");
            REQUIRE(ended(receiver.map(*where, *chunk)) == "ok");
            REQUIRE(ended(receiver.set_access(*where, granule, access_mode::read_write)) == "ok");
            *run.start.to_pointer<int>() = 4711;
            CHECK(*where->to_pointer<int>() == 4711);

            // The sender's chunk goes, the receiver's stays.
            run.take_down();
            CHECK(*where->to_pointer<int>() == 4711);
            CHECK(receiver.physical_bytes() == granule);
            CHECK(ended(receiver.unmap(*where, granule)) == "ok");
            CHECK(ended(receiver.destroy(*chunk)) == "ok");
            CHECK(ended(receiver.destroy(*chunk)) == ended(verb::destroy, errc::unknown_chunk));
            CHECK(ended(receiver.release(*where, granule)) == "ok");
        }
        CHECK(to_string(machine.leaks()) == "nothing");
    }
}

TEST_CASE("what cannot be exported says so, and why: not asked for, not supported, or it fails when tried",
          "[device]") {
    struct situation {
        sharing_wish wish;
        sharing_options machine;
        const char* reason;
    };
    const std::array situations{
        situation{sharing_wish::none, {}, "not asked for"},
        situation{sharing_wish::descriptor, {.posix_supported = false}, "does not support"},
        situation{sharing_wish::descriptor, {.posix_export_fails = true}, "exporting it failed with 801"},
    };
    for (const auto& [wish, sharing, reason] : situations) {
        simulated_cuda machine{{.sharing = sharing}};
        {
            cuda_backend memory{{.sharing = wish, .driver = machine.driver()}};
            CHECK_FALSE(memory.can_export());
            CHECK_THAT(memory.report().descriptors.reason, Catch::Matchers::ContainsSubstring(reason));
            CHECK_THAT(memory.describe(), Catch::Matchers::ContainsSubstring(reason));
            chunks_at run{memory, 1}; // everything else works
            run.map_and_open();
            CHECK(ended(memory.export_chunk(run.chunks[0])) == ended(verb::export_chunk, errc::unsupported));
            CHECK(ended(memory.export_chunk({})) == ended(verb::export_chunk, errc::unknown_chunk));
            CHECK(ended(memory.import_chunk(plain_file(granule.count()), granule)) ==
                  ended(verb::import_chunk, errc::unsupported));
            run.take_down();
        }
        CHECK(to_string(machine.leaks()) == "nothing");
    }
}

TEST_CASE("fabric handles that do not work leave descriptors, where either is wanted", "[device]") {
    simulated_cuda machine{{.sharing = {.fabric_supported = true, .fabric_export_fails = true}}};
    const cuda_backend memory{{.sharing = sharing_wish::fabric_or_descriptor, .driver = machine.driver()}};
    CHECK(memory.can_export());
    CHECK(memory.report().descriptors.on);
    CHECK_FALSE(memory.report().fabric.on);
    CHECK_THAT(memory.report().fabric.reason, Catch::Matchers::ContainsSubstring("exporting it failed"));
    const cuda_backend only_fabric{{.sharing = sharing_wish::fabric, .driver = machine.driver()}};
    CHECK_FALSE(only_fabric.can_export());
}

TEST_CASE("the flag for GPUDirect RDMA is set where the attribute says so and creating works", "[device]") {
    struct situation {
        bool wanted;
        sharing_options machine;
        bool on;
    };
    for (const auto& [wanted, sharing, on] :
         {situation{true, {.rdma_supported = true}, true}, situation{false, {.rdma_supported = true}, false},
          situation{true, {.rdma_supported = false}, false},
          situation{true, {.rdma_supported = true, .rdma_create_fails = true}, false}}) {
        simulated_cuda machine{{.sharing = sharing}};
        cuda_backend memory{{.gpu_direct_rdma = wanted, .driver = machine.driver()}};
        CHECK(memory.report().gpu_direct_rdma.on == on);
        CHECK(memory.report().gpu_direct_rdma.reason.empty() == on);
        chunks_at run{memory, 1};
        run.take_down(false);
    }
}

TEST_CASE("a receiver refuses a handle of another kind, of another size, of nothing, and of another device",
          "[device]") {
    simulated_cuda machine{{.devices = 2, .sharing = {.fabric_supported = true}}};
    {
        cuda_backend memory{{.sharing = sharing_wish::descriptor, .driver = machine.driver()}};
        cuda_backend elsewhere{
            {.device = 1, .sharing = sharing_wish::descriptor, .driver = machine.driver()}};
        chunks_at run{memory, 1, 8_MiB};
        run.map_and_open();
        chunks_at other{elsewhere, 1};
        const auto exported = [&] { return *memory.export_chunk(run.chunks[0]); };
        const auto refused = [&](os_handle handle, bytes size, errc code) {
            CHECK(ended(memory.import_chunk(std::move(handle), size)) == ended(verb::import_chunk, code));
        };
        const auto before = machine.leaks();
        refused(os_handle{}, 8_MiB, errc::foreign_handle);
        refused(os_handle{fabric_handle{}}, 8_MiB, errc::foreign_handle);
        refused(plain_file((8_MiB).count()), 8_MiB, errc::foreign_handle);
        refused(file_descriptor{::open("/dev/null", O_RDWR | O_CLOEXEC)}, 8_MiB, errc::foreign_handle);
        refused(*elsewhere.export_chunk(other.chunks[0]), granule, errc::foreign_handle);
        refused(exported(), bytes{0}, errc::invalid_argument);
        refused(exported(), 1_MiB, errc::misaligned);
        refused(exported(), 6_MiB, errc::size_mismatch);
        refused(exported(), 2_MiB, errc::size_mismatch);
        refused(exported(), 10_MiB, errc::size_mismatch);
        refused(exported(), 1024_TiB, errc::size_mismatch);
        CHECK(to_string(machine.leaks()) == to_string(before));
        const auto right = memory.import_chunk(exported(), 8_MiB);
        REQUIRE(ended(right) == "ok");
        CHECK(ended(memory.destroy(*right)) == "ok");
        CHECK(to_string(machine.leaks()) == to_string(before));
        run.take_down();
        other.take_down(false);
    }
    CHECK(to_string(machine.leaks()) == "nothing");
}

TEST_CASE("HIP: a descriptor is imported by value or by address, whichever the runtime wants", "[device]") {
    for (const bool by_address : {false, true}) {
        simulated_hip machine{
            {.version = hip::abi::version(7, 14), .quirks = {.import_reads_address = by_address}}};
        {
            hip_backend memory{{.sharing = sharing_wish::descriptor, .driver = machine.driver()}};
            INFO(memory.describe());
            REQUIRE(memory.can_export());
            chunks_at run{memory, 1};
            auto handle = memory.export_chunk(run.chunks[0]);
            REQUIRE(ended(handle) == "ok");
            const auto chunk = memory.import_chunk(std::move(*handle), granule);
            REQUIRE(ended(chunk) == "ok");
            CHECK(ended(memory.destroy(*chunk)) == "ok");
            CHECK(ended(memory.import_chunk(plain_file(granule.count()), granule)) ==
                  ended(verb::import_chunk, errc::foreign_handle));
            run.take_down(false);
        }
        CHECK(to_string(machine.leaks()) == "nothing");
    }
}

TEST_CASE("HIP: a chunk of several pieces is not exported", "[device]") {
    simulated_hip machine{{.version = hip::abi::version(6, 3)}};
    hip_backend memory{{.sharing = sharing_wish::descriptor, .driver = machine.driver()}};
    chunks_at run{memory, 1, 8_MiB};
    CHECK(ended(memory.export_chunk(run.chunks[0])) == ended(verb::export_chunk, errc::unsupported));
    run.take_down(false);
}

} // namespace
} // namespace vtensor::testing
