// SPDX-License-Identifier: Apache-2.0
//
// What a host backend can be made with: granularity, capacity, a ceiling on mappings, huge pages.
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstring>
#include <string>
#include <vector>

using namespace vtensor;
using vtensor::testing::open_descriptors;

TEST_CASE("the granularity is the system page, or any power of two above it") {
    CHECK(host_backend{}.granularity() == 4_KiB);
    for (const bytes granularity : {4_KiB, 64_KiB, 2_MiB}) {
        host_backend backend{{.granularity = granularity}};
        CHECK(backend.granularity() == granularity);
        const auto where = backend.reserve(granularity, 0_B);
        REQUIRE(where);
        CHECK(where->is_multiple_of(granularity));
        CHECK(backend.create(granularity));
        CHECK(backend.create(granularity + 4_KiB).code() ==
              (granularity == 4_KiB ? errc::ok : errc::misaligned));
    }
}

TEST_CASE("a granularity that no page table knows is refused and leaves no descriptor open") {
    const std::size_t descriptors = open_descriptors();
    for (const bytes granularity : {1_B, 2_KiB, 6_KiB, 12_KiB, 3_MiB})
        CHECK_THROWS_AS((host_backend{{.granularity = granularity}}), bad_argument);
    CHECK_THROWS_AS((host_backend{{.granularity = 64_KiB, .pages = host_pages::huge}}), bad_argument);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("no more than the capacity can be created, and what is destroyed counts no more") {
    host_backend backend{{.capacity = 3 * 4_KiB}};
    CHECK(backend.capacity() == 3 * 4_KiB);
    const auto first = backend.create(8_KiB);
    REQUIRE(first);
    const auto refused = backend.create(8_KiB);
    CHECK(refused.code() == errc::out_of_memory);
    CHECK(refused.error().size == 8_KiB);
    CHECK(backend.kernel_physical_bytes() == 8_KiB);
    REQUIRE(backend.create(4_KiB));
    CHECK(backend.create(4_KiB).code() == errc::out_of_memory);
    REQUIRE(backend.destroy(*first));
    CHECK(backend.create(8_KiB));
}

TEST_CASE("more than the machine can spare is refused before any of it is taken") {
    host_backend backend{{.capacity = bytes{std::size_t{1} << 62}}};
    for (const bytes absurd : {bytes{std::size_t{1} << 61}, 1024 * 1_TiB}) {
        const auto refused = backend.create(absurd);
        CHECK(refused.code() == errc::out_of_memory);
        CHECK(refused.error().size == absurd);
        CHECK(backend.physical_bytes() == 0_B);
        CHECK(backend.kernel_physical_bytes() == 0_B);
    }
    CHECK(backend.create(4_KiB));
}

TEST_CASE("the ceiling on mappings is kept, and unmapping makes room under it") {
    host_backend backend{{.max_mappings = 3}};
    const address where = *backend.reserve(64_KiB, 0_B);
    const host_chunk chunk = *backend.create(4_KiB);
    for (std::size_t slot = 0; slot < 3; ++slot)
        REQUIRE(backend.map(where + slot * 4_KiB, chunk));
    const status refused = backend.map(where + 12_KiB, chunk);
    CHECK(refused.code() == errc::too_many_mappings);
    CHECK(backend.mapping_count() == 3);
    CHECK(backend.mapped_bytes() == 12_KiB);
    REQUIRE(backend.unmap(where + 4_KiB, 4_KiB));
    REQUIRE(backend.map(where + 12_KiB, chunk));
    CHECK(backend.map(where + 4_KiB, chunk).code() == errc::too_many_mappings);
}

TEST_CASE("a refused mapping leaves its page free for another") {
    host_backend backend{{.max_mappings = 1}};
    const address where = *backend.reserve(8_KiB, 0_B);
    const host_chunk chunk = *backend.create(4_KiB);
    REQUIRE(backend.map(where, chunk));
    REQUIRE(backend.map(where + 4_KiB, chunk).code() == errc::too_many_mappings);
    REQUIRE(backend.unmap(where, 4_KiB));
    CHECK(backend.map(where + 4_KiB, chunk));
}

TEST_CASE("huge pages are granted and used, or the report says why not") {
    host_backend backend{{.pages = host_pages::huge}};
    const huge_page_report& report = backend.huge_pages();
    CHECK(backend.granularity() == 2_MiB);
    INFO("huge pages: " << report.reason);
    CHECK(backend.describe().find(report.reason) != std::string::npos);
    if (report.source == huge_page_source::none) {
        CHECK(report.reason.substr(0, 12) == "not granted:");
        CHECK(report.reason.find("nr_hugepages") != std::string_view::npos);
        CHECK(report.reason.find("shmem_enabled") != std::string_view::npos);
    } else {
        CHECK(report.reason.substr(0, 8) == "granted ");
    }
    // Granted or not, a tensor on it works.
    chunk_pool<host_backend> pool{backend};
    virtual_tensor<int, host_backend> tensor{pool, {1024}, 1024};
    const auto rows = tensor.try_append(1);
    if (!rows) {
        CHECK(rows.code() == errc::out_of_memory); // a pool of huge pages with a single page
        return;
    }
    std::memset(tensor.data(), 0x11, 4096);
    CHECK(tensor.data()[1023] == 0x11111111);
    CHECK(tensor.mapped_bytes() == 2_MiB);
    CHECK(backend.kernel_physical_bytes() == 2_MiB);
    CHECK(vtensor::testing::kernel_range(address{tensor.data()}, 4_MiB).memory_file == 2_MiB);
    tensor.resize(0);
    CHECK(pool.trim());
    CHECK(backend.kernel_physical_bytes() == 0_B);
}

TEST_CASE("a backend that was not asked for huge pages says so") {
    const host_backend backend;
    CHECK(backend.huge_pages().source == huge_page_source::none);
    CHECK(backend.huge_pages().reason == "not asked for");
    CHECK(backend.describe().find("4 KiB") != std::string::npos);
}

TEST_CASE("looking for huge pages leaves nothing open and nothing mapped") {
    const std::size_t descriptors = open_descriptors();
    {
        const host_backend backend{{.pages = host_pages::huge}};
        CHECK(open_descriptors() == descriptors + 1);
        CHECK(vtensor::testing::memory_file_lines() == 0);
    }
    CHECK(open_descriptors() == descriptors);
}
