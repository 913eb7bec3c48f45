// SPDX-License-Identifier: Apache-2.0
//
// The host backend against the kernel: when memory is taken and given back, what a descriptor and a mapping
// cost, and what is left when the backend goes. The contract itself is the conformance suite's.
#include "support/catch.hpp"
#include "support/death.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

using namespace vtensor;
using vtensor::testing::kernel_memory_file_bytes;
using vtensor::testing::kernel_range;
using vtensor::testing::memory_file_lines;
using vtensor::testing::open_descriptors;
using vtensor::testing::reading_faults;
using vtensor::testing::writing_faults;

namespace {

constexpr std::size_t page = 4096;

/// Creates a chunk and makes it accessible at `where`.
host_chunk place(host_backend& backend, address where, bytes size = 4_KiB) {
    const auto chunk = backend.create(size);
    REQUIRE(chunk);
    REQUIRE(backend.map(where, *chunk));
    REQUIRE(backend.set_access(where, size, vtensor::access_mode::read_write));
    return *chunk;
}

bool all_zero(const unsigned char* data, std::size_t size) {
    return std::all_of(data, data + size, [](unsigned char byte) { return byte == 0; });
}

} // namespace

TEST_CASE("creating a chunk takes its memory from the kernel at once and destroying gives it back") {
    host_backend backend;
    std::vector<host_chunk> chunks;
    bytes expected{0};
    for (const bytes size : {4_KiB, 64_KiB, 1_MiB, 12_KiB}) {
        const auto chunk = backend.create(size);
        REQUIRE(chunk);
        chunks.push_back(*chunk);
        expected += size;
        CHECK(backend.physical_bytes() == expected);
        CHECK(backend.kernel_physical_bytes() == expected);
        CHECK(kernel_memory_file_bytes() == expected);
    }
    for (const host_chunk chunk : chunks)
        REQUIRE(backend.destroy(chunk));
    CHECK(backend.physical_bytes() == 0_B);
    CHECK(backend.kernel_physical_bytes() == 0_B);
}

TEST_CASE("a destroyed chunk keeps its memory until its last mapping goes") {
    host_backend backend;
    const address where = *backend.reserve(8_KiB, 0_B);
    const host_chunk chunk = place(backend, where);
    REQUIRE(backend.map(where + 4_KiB, chunk));
    REQUIRE(backend.set_access(where + 4_KiB, 4_KiB, vtensor::access_mode::read));
    std::memset(where.to_pointer(), 0x5A, page);

    REQUIRE(backend.destroy(chunk));
    CHECK(backend.kernel_physical_bytes() == 4_KiB);
    REQUIRE(backend.unmap(where, 4_KiB));
    CHECK(backend.kernel_physical_bytes() == 4_KiB);
    CHECK((where + 4_KiB).to_pointer<unsigned char>()[page - 1] == 0x5A);
    REQUIRE(backend.unmap(where + 4_KiB, 4_KiB));
    CHECK(backend.kernel_physical_bytes() == 0_B);
    REQUIRE(backend.release(where, 8_KiB));
}

TEST_CASE("memory that was destroyed and created again is zero") {
    host_backend backend;
    const address where = *backend.reserve(64_KiB, 0_B);
    for (int round = 0; round < 3; ++round) {
        const host_chunk chunk = place(backend, where, 64_KiB);
        CHECK(all_zero(where.to_pointer<unsigned char>(), 16 * page));
        std::memset(where.to_pointer(), 0xEE, 16 * page);
        REQUIRE(backend.unmap(where, 64_KiB));
        REQUIRE(backend.destroy(chunk));
    }
}

TEST_CASE("two addresses of one chunk show the same bytes") {
    host_backend backend;
    const address first = *backend.reserve(4_KiB, 0_B);
    const address second = *backend.reserve(4_KiB, 0_B);
    const host_chunk chunk = place(backend, first);
    REQUIRE(backend.map(second, chunk));
    REQUIRE(backend.set_access(second, 4_KiB, vtensor::access_mode::read_write));
    *first.to_pointer<int>() = 41;
    *second.to_pointer<int>() += 1;
    CHECK(*first.to_pointer<int>() == 42);
}

TEST_CASE("only accessible pages can be touched, and only as the access says") {
    host_backend backend;
    const address where = *backend.reserve(8_KiB, 0_B);
    const host_chunk chunk = *backend.create(4_KiB);
    CHECK(reading_faults(where.to_pointer()));
    REQUIRE(backend.map(where, chunk));
    CHECK(reading_faults(where.to_pointer()));
    REQUIRE(backend.set_access(where, 4_KiB, vtensor::access_mode::read));
    CHECK_FALSE(reading_faults(where.to_pointer()));
    CHECK(writing_faults(where.to_pointer()));
    REQUIRE(backend.set_access(where, 4_KiB, vtensor::access_mode::read_write));
    CHECK_FALSE(writing_faults(where.to_pointer()));
    CHECK(reading_faults((where + 4_KiB).to_pointer()));
    REQUIRE(backend.set_access(where, 4_KiB, vtensor::access_mode::none));
    CHECK(reading_faults(where.to_pointer()));
    REQUIRE(backend.set_access(where, 4_KiB, vtensor::access_mode::read_write));
    CHECK_FALSE(writing_faults(where.to_pointer()));
    REQUIRE(backend.unmap(where, 4_KiB));
    CHECK(reading_faults(where.to_pointer()));
}

TEST_CASE("access given over mixed mappings holds for each of them") {
    // Pages 0 to 5: some installed before, some not, neighbours in the file and strangers.
    host_backend backend;
    const address where = *backend.reserve(24_KiB, 0_B);
    std::array<host_chunk, 6> chunks;
    for (host_chunk& chunk : chunks)
        chunk = *backend.create(4_KiB);
    const std::array<std::size_t, 6> order{0, 1, 4, 2, 3, 5};
    for (std::size_t slot = 0; slot < 6; ++slot)
        REQUIRE(backend.map(where + slot * 4_KiB, chunks[order[slot]]));
    REQUIRE(backend.set_access(where + 4_KiB, 8_KiB, vtensor::access_mode::read_write));
    *(where + 4_KiB).to_pointer<int>() = 7;
    REQUIRE(backend.set_access(where, 24_KiB, vtensor::access_mode::read_write));
    CHECK(kernel_range(where, 24_KiB).accessible == 24_KiB);
    CHECK(*(where + 4_KiB).to_pointer<int>() == 7);

    // Each page shows its own chunk: written here, read through a second address.
    for (std::size_t slot = 0; slot < 6; ++slot)
        *(where + slot * 4_KiB).to_pointer<std::size_t>() = 100 + order[slot];
    const address window = *backend.reserve(24_KiB, 0_B);
    for (std::size_t slot = 0; slot < 6; ++slot)
        REQUIRE(backend.map(window + slot * 4_KiB, chunks[slot]));
    REQUIRE(backend.set_access(window, 24_KiB, vtensor::access_mode::read));
    for (std::size_t slot = 0; slot < 6; ++slot)
        CHECK(*(window + slot * 4_KiB).to_pointer<std::size_t>() == 100 + slot);
}

TEST_CASE("a backend that goes leaves nothing mapped, nothing open and no memory, whatever was forgotten") {
    const std::size_t descriptors = open_descriptors();
    address where;
    {
        host_backend backend;
        CHECK(open_descriptors() == descriptors + 1);
        where = *backend.reserve(1_GiB, 0_B);
        place(backend, where, 1_MiB);
        place(backend, where + 512_MiB);
        REQUIRE(backend.create(64_KiB));
        CHECK(kernel_range(where, 1_GiB).covered() == 1_GiB);
        CHECK(memory_file_lines() == 2);
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(memory_file_lines() == 0);
    CHECK(kernel_range(where, 1_GiB).covered() == 0_B);
    CHECK(kernel_memory_file_bytes() == 0_B);
}

TEST_CASE("backends in one process do not know one another") {
    host_backend first;
    host_backend second;
    const address where = *first.reserve(4_KiB, 0_B);
    const host_chunk chunk = *first.create(4_KiB);
    CHECK(second.map(where, chunk).code() == errc::unknown_chunk);
    const host_chunk own = *second.create(4_KiB);
    CHECK(second.map(where, own).code() == errc::not_reserved);
    CHECK(second.release(where, 4_KiB).code() == errc::not_reserved);
    CHECK(first.mapped_bytes() == 0_B);
}

TEST_CASE("sizes and alignments near the end of the address space are refused, not wrapped") {
    host_backend backend;
    constexpr std::size_t half = std::size_t{1} << 63;
    for (const std::size_t size :
         {half, half + page, half - page, half + half / 2, ~std::size_t{0} - page + 1}) {
        for (const std::size_t align : {std::size_t{0}, page, std::size_t{1} << 40, half / 2, half}) {
            CAPTURE(size, align);
            CHECK(backend.reserve(bytes{size}, bytes{align}).code() == errc::out_of_addresses);
        }
        CHECK(backend.create(bytes{size}).code() == errc::out_of_memory);
    }
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("handles of destroyed chunks stay invalid when their place is used again") {
    host_backend backend;
    const host_chunk old = *backend.create(4_KiB);
    REQUIRE(backend.destroy(old));
    for (int round = 0; round < 100; ++round) {
        const host_chunk next = *backend.create(4_KiB);
        CHECK_FALSE(next == old);
        CHECK(backend.destroy(old).code() == errc::unknown_chunk);
        REQUIRE(backend.destroy(next));
    }
    CHECK(backend.destroy(host_chunk{}).code() == errc::unknown_chunk);
    CHECK(backend.destroy(host_chunk{1'000'000, 1}).code() == errc::unknown_chunk);
}
