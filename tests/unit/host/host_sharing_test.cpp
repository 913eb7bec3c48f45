// SPDX-License-Identifier: Apache-2.0
//
// Exporting and importing on the host backend against the kernel: what a chunk costs, which handles are let
// in, and that a handle gives away one chunk and nothing else. Between two processes: tests/sharing.
#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"
#include "support/temporary_folder.hpp"

#include <vtensor/backends/host.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace vtensor;
using vtensor::testing::descriptor_limit;
using vtensor::testing::kernel_memory_file_bytes;
using vtensor::testing::kernel_range;
using vtensor::testing::memory_file_lines;
using vtensor::testing::open_descriptors;
using vtensor::testing::temporary_folder;

namespace {

const host_options exportable{.exportable = true};

address place(host_backend& backend, host_chunk chunk, bytes size) {
    const address where = *backend.reserve(size, 0_B);
    REQUIRE(backend.map(where, chunk));
    REQUIRE(backend.set_access(where, size, access_mode::read_write));
    return where;
}

int memory_file(unsigned flags = MFD_ALLOW_SEALING) { return ::memfd_create("other", MFD_CLOEXEC | flags); }

constexpr int ours = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// A memory file of `size` bytes, `filled` of them with memory, with the given seals.
file_descriptor sealed(int seals, off_t size = 8192, off_t filled = 8192) {
    file_descriptor file{memory_file()};
    REQUIRE(::ftruncate(file.number(), size) == 0);
    REQUIRE((filled == 0 || ::fallocate(file.number(), 0, 0, filled) == 0));
    REQUIRE(::fcntl(file.number(), F_ADD_SEALS, seals) == 0);
    return file;
}

/// The same file, opened once more in another way.
file_descriptor reopened(const file_descriptor& file, int flags) {
    const std::string name = "/proc/self/fd/" + std::to_string(file.number());
    return file_descriptor{::open(name.c_str(), flags | O_CLOEXEC)};
}

/// How importing it as a chunk of 8 KiB ends. Whatever is refused is closed, and changes no figure.
errc imported(file_descriptor file) {
    REQUIRE(file);
    host_backend backend;
    const std::size_t before = open_descriptors();
    const auto outcome = backend.import_chunk(std::move(file), 8_KiB);
    if (!outcome) {
        CHECK(open_descriptors() == before - 1);
        CHECK(backend.imported_bytes() == 0_B);
    }
    return outcome.code();
}

} // namespace

TEST_CASE("a chunk that can be exported is a file of its own, which goes with it") {
    const std::size_t descriptors = open_descriptors();
    {
        host_backend backend{exportable};
        CHECK(backend.can_export());
        CHECK(backend.describe().find(", exportable") != std::string::npos);
        CHECK(open_descriptors() == descriptors);
        const auto first = *backend.create(8_KiB);
        const auto second = *backend.create(64_KiB);
        CHECK(open_descriptors() == descriptors + 2);
        CHECK(backend.physical_bytes() == 72_KiB);
        CHECK(backend.kernel_physical_bytes() == 72_KiB);
        CHECK(kernel_memory_file_bytes() == 72_KiB);
        const address where = place(backend, first, 8_KiB);
        REQUIRE(backend.destroy(first));
        CHECK(kernel_memory_file_bytes() == 72_KiB);
        REQUIRE(backend.unmap(where, 8_KiB));
        CHECK(backend.physical_bytes() == 64_KiB);
        CHECK(kernel_memory_file_bytes() == 64_KiB);
        REQUIRE(backend.destroy(second));
        CHECK(open_descriptors() == descriptors);
        place(backend, *backend.create(4_KiB), 4_KiB); // left behind
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(memory_file_lines() == 0);
    CHECK(kernel_memory_file_bytes() == 0_B);
}

TEST_CASE("each exportable chunk shows its own bytes, also where access is given to many at once") {
    host_backend backend{exportable};
    const address where = *backend.reserve(32_KiB, 0_B);
    for (std::size_t slot = 0; slot < 8; ++slot)
        REQUIRE(backend.map(where + slot * 4_KiB, *backend.create(4_KiB)));
    REQUIRE(backend.set_access(where + 8_KiB, 4_KiB, access_mode::read_write));
    REQUIRE(backend.set_access(where, 32_KiB, access_mode::read_write));
    CHECK(kernel_range(where, 32_KiB).accessible == 32_KiB);
    for (std::size_t slot = 0; slot < 8; ++slot)
        *(where + slot * 4_KiB).to_pointer<std::size_t>() = slot;
    for (std::size_t slot = 0; slot < 8; ++slot)
        CHECK(*(where + slot * 4_KiB).to_pointer<std::size_t>() == slot);
    CHECK(memory_file_lines() == 8);
}

TEST_CASE("a backend that was not asked for it hands nothing out") {
    host_backend backend;
    CHECK_FALSE(backend.can_export());
    CHECK(backend.describe().find(", not exportable") != std::string::npos);
    const auto chunk = *backend.create(4_KiB);
    const std::size_t descriptors = open_descriptors();
    CHECK(backend.export_chunk(chunk).code() == errc::unsupported);
    CHECK(backend.export_chunk(host_chunk{}).code() == errc::unknown_chunk);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("imported memory counts as imported, is as large as it was, and outlives its exporter") {
    const std::size_t descriptors = open_descriptors();
    host_backend importer; // need not be exportable itself
    host_chunk chunk;
    {
        host_backend exporter{exportable};
        const auto made = *exporter.create(8_KiB);
        std::memset(place(exporter, made, 8_KiB).to_pointer(), 0x5C, 8192);
        chunk = *importer.import_chunk(*exporter.export_chunk(made), 8_KiB);
        CHECK(exporter.physical_bytes() == 8_KiB);
        CHECK(exporter.imported_bytes() == 0_B);
        CHECK(kernel_memory_file_bytes() == 8_KiB);
    }
    CHECK(importer.imported_bytes() == 8_KiB);
    CHECK(importer.physical_bytes() == 0_B);
    CHECK(importer.kernel_physical_bytes() == 0_B);
    CHECK(kernel_memory_file_bytes() == 8_KiB);
    const address where = place(importer, chunk, 8_KiB);
    const auto* const seen = where.to_pointer<unsigned char>();
    CHECK(std::all_of(seen, seen + 8192, [](unsigned char byte) { return byte == 0x5C; }));
    REQUIRE(importer.unmap(where, 8_KiB));
    CHECK(kernel_memory_file_bytes() == 8_KiB);
    REQUIRE(importer.destroy(chunk));
    CHECK(importer.imported_bytes() == 0_B);
    CHECK(kernel_memory_file_bytes() == 0_B);
    CHECK(open_descriptors() == descriptors + 1); // the importer's own file
    CHECK(importer.map(where, chunk).code() == errc::unknown_chunk);
}

TEST_CASE("an imported chunk is passed on, by a backend that exports") {
    host_backend first{exportable};
    host_backend second{exportable};
    host_backend third;
    const auto made = *first.create(4_KiB);
    const auto passed = *second.import_chunk(*first.export_chunk(made), 4_KiB);
    const auto got = *third.import_chunk(*second.export_chunk(passed), 4_KiB);
    *place(first, made, 4_KiB).to_pointer<int>() = 17;
    CHECK(*place(third, got, 4_KiB).to_pointer<int>() == 17);
    CHECK(third.export_chunk(got).code() == errc::unsupported);
    CHECK(second.physical_bytes() == 0_B);
    CHECK(kernel_memory_file_bytes() == 4_KiB);
}

TEST_CASE("imported memory is not held against the capacity") {
    host_backend exporter{exportable};
    host_backend importer{{.capacity = 8_KiB}};
    for (int round = 0; round < 3; ++round)
        REQUIRE(importer.import_chunk(*exporter.export_chunk(*exporter.create(8_KiB)), 8_KiB));
    CHECK(importer.imported_bytes() == 24_KiB);
    CHECK(importer.create(8_KiB).ok());
    CHECK(importer.create(4_KiB).code() == errc::out_of_memory);

    host_backend small{{.capacity = 8_KiB, .exportable = true}};
    const auto chunk = *small.create(8_KiB);
    CHECK(small.create(4_KiB).code() == errc::out_of_memory);
    REQUIRE(small.destroy(chunk));
    CHECK(small.create(4_KiB).ok());
}

TEST_CASE("a handle gives away one chunk, whose size nobody changes any more") {
    host_backend backend{exportable};
    const auto chunk = *backend.create(8_KiB);
    const address where = place(backend, chunk, 8_KiB);
    REQUIRE(backend.create(4_KiB));
    const os_handle handle = *backend.export_chunk(chunk);
    const int file = handle.descriptor();
    struct stat found {};
    REQUIRE(::fstat(file, &found) == 0);
    CHECK(found.st_size == 8192);
    CHECK((::fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    for (const off_t size : {0, 4096, 8191, 8193, 1 << 20}) {
        CHECK(::ftruncate(file, size) != 0);
        CHECK(errno == EPERM);
    }
    CHECK(::fallocate(file, 0, 8192, 4096) != 0);
    CHECK(::fcntl(file, F_ADD_SEALS, F_SEAL_WRITE) != 0);
    CHECK(errno == EPERM);
    std::memset(where.to_pointer(), 1, 8192); // no bus error

    // What cannot be prevented: who may write may also empty it. The memory comes back as zeros.
    REQUIRE(::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192) == 0);
    CHECK(*where.to_pointer<int>() == 0);
}

TEST_CASE("what is no chunk's file is refused and closed") {
    const temporary_folder folder;
    CHECK(imported(sealed(ours)) == errc::ok); // the yardstick: this one is let in

    const auto pipe_end = [](bool writing) {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        ::close(ends[writing ? 0 : 1]);
        return file_descriptor{ends[writing ? 1 : 0]};
    };
    CHECK(imported(pipe_end(false)) == errc::foreign_handle);
    CHECK(imported(pipe_end(true)) == errc::foreign_handle);
    CHECK(imported(file_descriptor{::open("/", O_RDONLY | O_DIRECTORY)}) == errc::foreign_handle);
    CHECK(imported(file_descriptor{::open("/dev/null", O_RDWR)}) == errc::foreign_handle);
    CHECK(imported(file_descriptor{::open("/dev/zero", O_RDWR)}) == errc::foreign_handle);
    CHECK(imported(file_descriptor{::socket(AF_UNIX, SOCK_STREAM, 0)}) == errc::foreign_handle);
    for (const std::string& path : {folder.file("plain"), std::string{"/dev/shm/vtensor-sharing-test"}}) {
        file_descriptor file{::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600)};
        if (!file)
            continue; // a machine without /dev/shm
        ::unlink(path.c_str());
        REQUIRE(::ftruncate(file.number(), 8192) == 0);
        CHECK(imported(std::move(file)) == errc::foreign_handle);
    }
}

TEST_CASE("a memory file that is not sealed as ours are is refused and closed") {
    for (const int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK | F_SEAL_GROW,
                            F_SEAL_SHRINK | F_SEAL_SEAL, F_SEAL_GROW | F_SEAL_SEAL}) {
        INFO("seals " << seals);
        CHECK(imported(sealed(seals)) == errc::foreign_handle);
    }
    CHECK(imported(sealed(ours | F_SEAL_WRITE)) == errc::foreign_handle);
    CHECK(imported(sealed(ours | F_SEAL_FUTURE_WRITE)) == errc::foreign_handle);
    file_descriptor unsealable{memory_file(0)};
    REQUIRE(::ftruncate(unsealable.number(), 8192) == 0);
    CHECK(imported(std::move(unsealable)) == errc::foreign_handle);
}

TEST_CASE("a memory file that may not be written, or whose memory is not there, is refused and closed") {
    const file_descriptor good = sealed(ours);
    CHECK(imported(reopened(good, O_RDWR)) == errc::ok);
    CHECK(imported(reopened(good, O_RDONLY)) == errc::foreign_handle);
    CHECK(imported(reopened(good, O_WRONLY)) == errc::foreign_handle);
    CHECK(imported(reopened(good, O_PATH)) == errc::foreign_handle);
    CHECK(imported(sealed(ours, 8192, 0)) == errc::foreign_handle);
    CHECK(imported(sealed(ours, 8192, 4096)) == errc::foreign_handle);
}

TEST_CASE("a file of another size, or a size that cannot be, is refused and closed") {
    CHECK(imported(sealed(ours, 4096, 4096)) == errc::size_mismatch);
    CHECK(imported(sealed(ours, 12288, 12288)) == errc::size_mismatch);
    CHECK(imported(sealed(ours, 8191, 4096)) == errc::size_mismatch);
    CHECK(imported(sealed(ours, 0, 0)) == errc::size_mismatch);

    host_backend backend;
    const std::size_t before = open_descriptors();
    CHECK(backend.import_chunk(sealed(ours), 0_B).code() == errc::invalid_argument);
    CHECK(backend.import_chunk(sealed(ours), 6_KiB).code() == errc::misaligned);
    CHECK(backend.import_chunk(os_handle{}, 8_KiB).code() == errc::foreign_handle);
    CHECK(backend.import_chunk(os_handle{fabric_handle{}}, 8_KiB).code() == errc::foreign_handle);
    CHECK(backend.import_chunk(file_descriptor{::dup(0)}, bytes{~std::size_t{0} - 4095}).code() ==
          errc::foreign_handle);
    CHECK(open_descriptors() == before);
}

TEST_CASE("granularities need not be equal, but chunks must fit them") {
    host_backend fine{exportable};
    host_backend coarse{{.granularity = 2_MiB, .exportable = true}};
    const auto large = *coarse.create(2_MiB);
    const auto small = *fine.create(4_KiB);
    CHECK(fine.import_chunk(*coarse.export_chunk(large), 2_MiB).ok());
    CHECK(coarse.import_chunk(*fine.export_chunk(small), 4_KiB).code() == errc::misaligned);
    CHECK(coarse.import_chunk(*fine.export_chunk(small), 2_MiB).code() == errc::size_mismatch);
}

TEST_CASE("huge pages from the machine's pool are shared, and not split into smaller ones") {
    host_backend exporter{{.pages = host_pages::huge, .exportable = true}};
    INFO("huge pages: " << exporter.huge_pages().reason);
    const auto chunk = exporter.create(2_MiB);
    if (!chunk) {
        CHECK(chunk.code() == errc::out_of_memory); // a pool of huge pages that somebody else took
        return;
    }
    host_backend same{{.granularity = 2_MiB}};
    const auto imported = same.import_chunk(*exporter.export_chunk(*chunk), 2_MiB);
    REQUIRE(imported);
    *place(exporter, *chunk, 2_MiB).to_pointer<int>() = 23;
    CHECK(*place(same, *imported, 2_MiB).to_pointer<int>() == 23);
    host_backend finer;
    const auto split = finer.import_chunk(*exporter.export_chunk(*chunk), 2_MiB);
    CHECK(split.code() ==
          (exporter.huge_pages().source == huge_page_source::hugetlb ? errc::foreign_handle : errc::ok));
}

TEST_CASE("a process that may open no more descriptors is told so, and nothing has changed") {
    host_backend backend{exportable};
    const auto chunk = *backend.create(8_KiB);
    const std::size_t before = open_descriptors();
    const auto unchanged = [&] {
        return open_descriptors() == before && backend.physical_bytes() == 8_KiB &&
               kernel_memory_file_bytes() == 8_KiB;
    };
    const auto limited = [](unsigned room, auto call) {
        const descriptor_limit limit{room};
        return call();
    };
    const auto refused = limited(0, [&] { return backend.create(8_KiB); });
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(refused.error().native == EMFILE);
    CHECK(limited(0, [&] { return backend.export_chunk(chunk).code(); }) == errc::limit_exceeded);
    CHECK(limited(0, [&] { return host::open(exportable).code(); }) == errc::limit_exceeded);
    CHECK(limited(0, [&] { return host::open({}).code(); }) == errc::limit_exceeded);
    CHECK(limited(1, [&] { return host::open({}).code(); }) == errc::ok);
    CHECK(unchanged());

    auto handle = limited(1, [&] { return backend.export_chunk(chunk); });
    REQUIRE(handle);
    const auto imported = // needs no descriptor but the handle's
        limited(0, [&] { return backend.import_chunk(*std::move(handle), 8_KiB).code(); });
    CHECK(imported == errc::ok);
}
