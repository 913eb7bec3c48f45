// SPDX-License-Identifier: Apache-2.0
//
// How much of a prefix is mapped and how much is copied: by the rule, and by what the backend can do.
#include "support/catch.hpp"
#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/measure_costs.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Host memory of a machine that cannot map a chunk twice, and says so.
struct not_twice : host_backend {
    [[nodiscard]] bool can_alias() const noexcept { return false; }
};
/// Host memory behind a backend that lacks the verb.
struct without_the_verb : private host_backend {
    using host_backend::chunk_type;
    using host_backend::create;
    using host_backend::destroy;
    using host_backend::granularity;
    using host_backend::host_visible;
    using host_backend::kernel_physical_bytes;
    using host_backend::map;
    using host_backend::release;
    using host_backend::reserve;
    using host_backend::set_access;
    using host_backend::unmap;
};
static_assert(backend<without_the_verb> && host_visible_backend<without_the_verb>);
static_assert(!aliasing_backend<without_the_verb>);

/// Microseconds, round: a page of 4 KiB costs 4 to copy and 10 to map.
constexpr defrag::costs machine{
    .copied_byte = 4.0 / 4096, .copied_run = 1, .remapped_page = 10, .remapped_run = 20, .waited = 1000};

sharing_state pages(std::size_t whole, std::size_t mapped, std::size_t writable = 0) {
    sharing_state state{};
    state.whole = page_count{whole};
    state.mapped = page_count{mapped};
    state.writable = page_count{writable};
    state.page = 4_KiB;
    return state;
}

} // namespace

TEMPLATE_TEST_CASE("a backend that cannot map a chunk twice copies, and the tensors are as separate", "",
                   not_twice, without_the_verb) {
    TestType backend;
    chunk_pool<TestType> pool{backend};
    virtual_tensor<int, TestType> source{pool, {256}, 100};
    const auto rows = source.append(50);
    for (std::size_t row = 0; row < 50; ++row)
        rows(row, 0) = static_cast<int>(row);
    auto forked = source.fork();
    CHECK(forked.shared_bytes() == 0_B);
    CHECK(pool.stats().aliases == 0);
    CHECK(pool.stats().in_use == 2 * source.mapped_bytes());
    CHECK(backend.kernel_physical_bytes() == pool.stats().created);
    forked.view()(7, 0) = -1; // nothing is read-only
    source.view()(8, 0) = -2;
    CHECK(source.view()(7, 0) == 7);
    CHECK(forked.view()(8, 0) == 8);
    CHECK(forked.try_merge_prefix_of(source, 50)); // each keeps its own
    CHECK(forked.view()(7, 0) == -1);
    CHECK(pool.stats().in_use == 2 * source.mapped_bytes());
    CHECK((source.verify() && forked.verify()));
}

TEST_CASE("by cost, a short prefix is copied into pages that are there, and a long one is mapped") {
    const sharing::by_cost rule{.measured = machine};
    CHECK(rule.pages(pages(2, 2)) == 0_pages);      // 8 to copy, 40 to map
    CHECK(rule.pages(pages(100, 100)) == 0_pages);  // 400 and 1,020
    CHECK(rule.pages(pages(100, 0)) == 100_pages);  // mapped they must be in either case
    CHECK(rule.pages(pages(100, 90)) == 0_pages);   // 400 + 100 + 20
    CHECK(rule.pages(pages(100, 40)) == 100_pages); // 400 + 600 + 20
    CHECK(rule.pages(pages(2, 0, 2)) == 0_pages);   // 28 + 20 and 60: the donor's pages change too
    CHECK(rule.pages(pages(100, 0, 1)) == 100_pages);
    sharing_state waiting = pages(100, 0, 1);
    waiting.behind_work = true;
    CHECK(rule.pages(waiting) == 0_pages); // 1,420 and 2,040: queued work would be waited for
    waiting.writable = 0_pages;
    CHECK(rule.pages(waiting) == 100_pages); // shared before: nothing changes for the donor

    const sharing::by_cost saving{.measured = machine, .worth_of_byte = 0.01};
    CHECK(saving.pages(pages(2, 2)) == 2_pages);             // 8 + 82 and 40
    CHECK(sharing::by_cost{}.pages(pages(2, 2)) == 2_pages); // costs that nobody knows
}

TEST_CASE("with measured costs a tensor shares or copies, and its rows are the same") {
    host_backend backend;
    chunk_pool pool{backend, {.chunk_size = 64_KiB}};
    const auto measured = try_measure_costs(pool, 4_MiB);
    REQUIRE(measured);
    for (const double worth : {0.0, 1.0}) {
        const sharing::by_cost rule{.measured = *measured, .worth_of_byte = worth};
        virtual_tensor<int, host_backend> source{pool, {1024}, 1000};
        const auto rows = source.append(100);
        for (std::size_t row = 0; row < 100; ++row)
            rows(row, 1023) = static_cast<int>(row);
        virtual_tensor<int, host_backend> other{pool, {1024}, 1000};
        other.prepare(100);
        other.share_prefix_of(source, 100, rule);
        if (worth > 0) // a microsecond a byte is more than any copy
            CHECK(other.shared_bytes() == 6 * 64_KiB);
        std::size_t wrong = 0;
        for (std::size_t row = 0; row < 100; ++row)
            wrong += other.view()(row, 1023) != static_cast<int>(row) ? 1u : 0u;
        CHECK(wrong == 0);
    }
}

TEST_CASE("a budget of aliases holds over many forks, and what does not fit is copied") {
    host_backend backend;
    chunk_pool pool{backend};
    virtual_tensor<int, host_backend> source{pool, {1024}, 100}; // one row a page
    const auto rows = source.append(10);
    for (std::size_t row = 0; row < 10; ++row)
        rows(row, 0) = static_cast<int>(row);
    std::vector<virtual_tensor<int, host_backend>> forks;
    for (std::size_t index = 0; index < 5; ++index) {
        forks.push_back(source.fork(sharing::within{25}));
        const std::size_t expected = std::min<std::size_t>(25, 10 * (index + 1));
        CHECK(pool.stats().aliases == expected);
        CHECK(pool.stats().in_use == (10 * (index + 2) - expected) * 4_KiB);
        for (std::size_t row = 0; row < 10; ++row)
            CHECK(forks.back().view()(row, 0) == static_cast<int>(row));
    }
    forks.erase(forks.begin());
    CHECK(pool.stats().aliases == 15);
    forks.push_back(source.fork(sharing::within{25, sharing::copy_all{}}));
    CHECK(pool.stats().aliases == 15);
    CHECK((source.verify() && pool.verify()));
}

TEST_CASE("a rule that asks for more than there is gets what there is") {
    struct everything {
        [[nodiscard]] page_count pages(const sharing_state& state) const noexcept {
            return state.whole + page_count{1'000'000};
        }
    };
    host_backend backend;
    chunk_pool pool{backend};
    virtual_tensor<int, host_backend> source{pool, {1000}, 100};
    source.append(10);
    const auto forked = source.fork(everything{});
    CHECK(forked.shared_bytes() == 9 * 4_KiB);
}
