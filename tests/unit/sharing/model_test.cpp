// SPDX-License-Identifier: Apache-2.0
//
// A million random forks, shares, merges, writes, appends, cuts and releases, with failures now and then,
// against plain copies. VTENSOR_TEST_SEED repeats a run, VTENSOR_TEST_OPERATIONS sets its length.
#include "model_subject.hpp"

#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

#ifdef NDEBUG
constexpr bool optimised = true;
#else
constexpr bool optimised = false;
#endif
constexpr std::size_t full_run = 1'000'000;
constexpr std::size_t default_operations = any_sanitizer ? full_run / 50
                                           : optimised   ? full_run
                                                         : full_run / 10;

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// By the kernel's tables: how many distinct pieces of the memory file lie behind pages, and how many pages
/// there are beyond one for each.
void check_by_kernel(const model_run& run, const sharing_subject& subject) {
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> pages; // file and offset
    const std::string text = vtensor::testing::detail::read_whole("/proc/self/maps");
    const auto places = subject.places();
    std::size_t all = 0;
    for (std::size_t start = 0; start < text.size(); start = text.find('\n', start) + 1) {
        unsigned long long first = 0;
        unsigned long long last = 0;
        unsigned long long offset = 0;
        unsigned long long inode = 0;
        if (std::sscanf(text.c_str() + start, "%llx-%llx %*s %llx %*s %llu", &first, &last, &offset,
                        &inode) != 4 ||
            inode == 0)
            continue;
        for (const auto& [where, count] : places) {
            const auto from = reinterpret_cast<std::uintptr_t>(where);
            for (std::size_t page = 0; page < count; ++page) {
                const std::uintptr_t at = from + page * subject.page();
                if (at < first || at >= last)
                    continue;
                ++pages[{inode, offset + (at - first)}];
                ++all;
            }
        }
    }
    run.expect(pages.size() == subject.memory().in_use(), "the kernel has other pieces of memory in use");
    run.expect(all - pages.size() == subject.memory().aliases(), "the kernel has other pages mapped twice");
}

} // namespace

TEST_CASE("tensors that share pages agree with plain copies over a million random operations") {
    model_run run{number_from_environment("VTENSOR_TEST_SEED", std::random_device{}())};
    const std::size_t operations = number_from_environment("VTENSOR_TEST_OPERATIONS", default_operations);
    std::printf("VTENSOR_TEST_SEED=%llu, %zu operations\n", static_cast<unsigned long long>(run.seed),
                operations);
    std::fflush(stdout);
    const std::size_t descriptors = open_descriptors();
    {
        std::vector<std::unique_ptr<sharing_subject>> subjects;
        const auto add = [&](bytes page, std::size_t row) {
            subjects.push_back(std::make_unique<sharing_subject>(run, page, row, 7));
        };
        add(4_KiB, 1024); // whole rows a page
        add(4_KiB, 600);  // rows over the edges of pages
        add(4_KiB, 5000); // rows longer than a page
        add(12_KiB, 700); // pages of three
        add(64_KiB, 3000);
        for (run.operation = 1; run.operation <= operations; ++run.operation) {
            subjects[run.below(subjects.size())]->step();
            if (run.operation % 1000 == 0) {
                for (const auto& subject : subjects)
                    subject->check_whole();
            }
            if (run.operation % 10'000 == 0) {
                for (const auto& subject : subjects)
                    check_by_kernel(run, *subject);
            }
        }
        CHECK(run.injected > operations / 200);
        std::printf("%zu operations met a failure\n", run.injected);
        for (const auto& subject : subjects)
            subject->close();
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(memory_file_lines() == 0);
}
