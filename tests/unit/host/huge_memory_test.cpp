// SPDX-License-Identifier: Apache-2.0
// Memory on huge pages by the kernel's own account.
#include "support/catch.hpp"

#include <vtensor/backends/host/huge_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory_resource>
#include <new>
#include <string>

using vtensor::huge_memory;

namespace {

/// What the kernel says of the mapping that a block begins: its size, and whether huge pages are wished for.
struct mapping {
    std::size_t size = 0;
    bool is_huge = false;
};
mapping mapping_at(const void* where) {
    std::ifstream smaps{"/proc/self/smaps"};
    mapping found;
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        std::uintptr_t first = 0, last = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) {
            inside = first <= reinterpret_cast<std::uintptr_t>(where) &&
                     reinterpret_cast<std::uintptr_t>(where) < last;
            if (inside)
                found.size = last - reinterpret_cast<std::uintptr_t>(where);
        } else if (inside && line.starts_with("VmFlags:")) {
            found.is_huge = line.find(" hg") != std::string::npos;
        }
    }
    return found;
}
std::size_t pages_of_process() {
    std::ifstream statm{"/proc/self/statm"};
    std::size_t pages = 0;
    statm >> pages;
    return pages;
}

} // namespace

TEST_CASE("large blocks are whole huge pages of their own, and go back to the system") {
    huge_memory memory;
    static_cast<void>(pages_of_process()); // what reading needs is there
    static_cast<void>(mapping_at(&memory));
    for (const std::size_t size : {huge_memory::page / 4, huge_memory::page, huge_memory::page * 5 / 2}) {
        INFO(size << " bytes");
        const std::size_t before = pages_of_process();
        void* const block = memory.allocate(size, 64);
        CHECK(reinterpret_cast<std::uintptr_t>(block) % huge_memory::page == 0);
        const std::size_t whole = (size + huge_memory::page - 1) / huge_memory::page * huge_memory::page;
        CHECK(pages_of_process() == before + whole / 4096); // what was mapped around it is gone
        const mapping kernel = mapping_at(block);
        CHECK(kernel.size >= whole);
        CHECK(kernel.is_huge);
        std::memset(block, 1, size);
        memory.deallocate(block, size, 64);
        CHECK(pages_of_process() == before);
    }
}

TEST_CASE("small blocks come from operator new, and too large ones are refused") {
    huge_memory memory;
    void* const small = memory.allocate(100, 64);
    CHECK(reinterpret_cast<std::uintptr_t>(small) % 64 == 0);
    CHECK_FALSE(mapping_at(small).is_huge);
    std::memset(small, 1, 100);
    memory.deallocate(small, 100, 64);
    CHECK_THROWS_AS(memory.allocate(std::numeric_limits<std::size_t>::max() - 100, 64), std::bad_alloc);
    CHECK_THROWS_AS(memory.allocate(std::size_t{1} << 60, 64), std::bad_alloc);
    CHECK(memory.is_equal(huge_memory{}));
    CHECK_FALSE(memory.is_equal(*std::pmr::new_delete_resource()));
}
