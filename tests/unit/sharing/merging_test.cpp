// SPDX-License-Identifier: Apache-2.0
//
// Tensors whose equal rows come to lie on the same pages, on host memory: what is in memory once, what is
// read-only, what is left alone, and what is refused. The kernel's own figures are the truth.
#include "numbered_rows.hpp"
#include "support/catch.hpp"
#include "support/death.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using counted = adaptors::counting<host_backend>;
using pool_type = chunk_pool<counted>;
using tensor = virtual_tensor<int, counted>;

constexpr std::size_t max_rows = 2'000;

struct scene {
    host_backend memory;
    counted backend{memory};
    pool_type pool{backend};

    /// Rows that begin alike in all tensors, and from `common` on are its own.
    tensor make_filled(std::size_t rows, std::size_t common, int salt) {
        tensor made{pool, {row_ints}, max_rows};
        made.append(rows);
        fill(made, 0, 0);
        fill(made, common, salt);
        return made;
    }
};

} // namespace

TEST_CASE("rows that are equal in many tensors come to be in memory once, by the kernel's figures") {
    constexpr std::size_t common = 700;
    constexpr std::size_t rows = 1000;
    scene now;
    tensor first = now.make_filled(rows, common, 1);
    const bytes alone = page * pages_of(rows);
    std::vector<tensor> others;
    for (int more = 1; more <= 4; ++more)
        others.push_back(now.make_filled(rows, common, 1 + more));
    CHECK(now.pool.stats().in_use == 5 * alone);
    std::size_t merged = 0;
    for (tensor& other : others) {
        const int* const data = other.data();
        other.merge_prefix_of(first, common);
        ++merged;
        REQUIRE(now.pool.trim());
        CHECK(kernel_memory_file_bytes() == 5 * alone - page * (merged * whole_pages_of(common)));
        CHECK(now.pool.stats().aliases == merged * whole_pages_of(common));
        CHECK(other.data() == data);
        CHECK(other.rows() == rows);
        CHECK(other.mapped_bytes() == alone);
        CHECK(other.shared_bytes() == page * whole_pages_of(common));
        const range_figures kernel = kernel_range(address{other.data()}, other.reserved_bytes());
        CHECK(kernel.memory_file == alone);
        CHECK(kernel.accessible == alone - page * whole_pages_of(common)); // what may be written
        CHECK((first.verify() && other.verify() && now.pool.verify()));
    }
    CHECK(wrong(first, 0, common, 0) + wrong(first, common, rows, 1) == 0);
    for (std::size_t index = 0; index < others.size(); ++index)
        CHECK(wrong(others[index], 0, common, 0) +
                  wrong(others[index], common, rows, 2 + static_cast<int>(index)) ==
              0);
    { const tensor gone = std::move(first); }
    CHECK(wrong(others.front(), 0, common, 0) == 0); // lives until the last of them goes
    others.clear();
    CHECK(now.pool.stats().in_use == 0_B);
    CHECK(now.pool.stats().aliases == 0);
}

TEST_CASE("merged rows fault where they are written, and what is written then nobody else sees") {
    scene now;
    tensor one = now.make_filled(30, 30, 0); // 2 whole pages, and a part
    tensor other = now.make_filled(30, 30, 0);
    other.merge_prefix_of(one, 30);
    for (tensor* const each : {&one, &other}) {
        CHECK(writing_faults(&each->view()(0, 0)));
        CHECK(writing_faults(&each->view()(15, 0)));
        CHECK_FALSE(reading_faults(&each->view()(15, 0)));
        CHECK_FALSE(writing_faults(&each->view()(29, 0))); // on the part page, which each has
    }
    other.make_writable(0, 30);
    fill(other, 0, 5);
    CHECK(wrong(one, 0, 30, 0) + wrong(other, 0, 30, 5) == 0);
    one.make_writable(0, 30);
    fill(one, 0, 6);
    CHECK(wrong(one, 0, 30, 6) + wrong(other, 0, 30, 5) == 0);
    CHECK(now.pool.stats().aliases == 0);
    other.truncate(7);
    other.append(20);
    fill(other, 7, 7);
    CHECK(wrong(one, 0, 30, 6) + wrong(other, 0, 7, 5) + wrong(other, 7, 27, 7) == 0);
    CHECK((one.verify() && other.verify() && now.pool.verify()));
}

TEST_CASE("it is the other's rows that are seen afterwards, on whole pages, and no byte is compared") {
    scene now;
    tensor one = now.make_filled(100, 0, 1);
    tensor other = now.make_filled(100, 0, 2);
    other.merge_prefix_of(one, 31); // 12,400 bytes: three pages, which end inside row 30
    CHECK(wrong(other, 0, 30, 1) == 0);
    CHECK(wrong(other, 31, 100, 2) == 0);
    CHECK(wrong(one, 0, 100, 1) == 0);
}

TEST_CASE("pages that are the same already cost no call of the backend") {
    scene now;
    tensor one = now.make_filled(200, 200, 0);
    tensor other = now.make_filled(200, 200, 0);
    other.merge_prefix_of(one, 100);
    tensor forked = one.fork();
    const auto before = now.backend.snapshot();
    other.merge_prefix_of(one, 100);
    other.merge_prefix_of(one, 40);
    one.merge_prefix_of(other, 100);
    forked.merge_prefix_of(one, 200);
    forked.merge_prefix_of(other, 10);
    other.merge_prefix_of(one, 9); // less than a page
    CHECK(now.backend.snapshot() == before);

    other.merge_prefix_of(one, 200); // only those that are not
    const auto after = now.backend.snapshot();
    CHECK(after[verb::map].calls - before[verb::map].calls == whole_pages_of(200) - whole_pages_of(100));
    CHECK(after[verb::create].calls == before[verb::create].calls);
    CHECK(now.pool.stats().in_use == page * (pages_of(200) + 2 * (pages_of(200) - whole_pages_of(200))));
    CHECK((one.verify() && other.verify() && forked.verify() && now.pool.verify()));
}

TEST_CASE("pages that a third tensor holds stay with it") {
    scene now;
    tensor one = now.make_filled(100, 100, 0);
    tensor other = now.make_filled(100, 100, 0);
    tensor forked = other.fork();
    const bytes before = now.pool.stats().in_use;
    other.merge_prefix_of(one, 100);
    CHECK(now.pool.stats().in_use == before); // the fork has the old ones
    CHECK(forked.shared_bytes() == 0_B);
    CHECK(other.shared_bytes() == page * whole_pages_of(100));
    forked.make_writable(0, 100);
    fill(forked, 0, 3);
    CHECK(wrong(one, 0, 100, 0) + wrong(other, 0, 100, 0) + wrong(forked, 0, 100, 3) == 0);
    fill(forked, 0, 0);
    forked.merge_prefix_of(other, 100);
    CHECK(now.pool.stats().in_use == before - page * whole_pages_of(100));
    CHECK((one.verify() && other.verify() && forked.verify() && now.pool.verify()));
}

TEST_CASE("merging is refused with a code, and changes nothing") {
    scene now;
    pool_type other_pool{now.backend};
    tensor one = now.make_filled(100, 100, 0);
    tensor shorter = now.make_filled(50, 50, 0);
    tensor shaped{now.pool, {row_ints / 2, 2}, max_rows};
    shaped.append(100);
    tensor elsewhere{other_pool, {row_ints}, max_rows};
    elsewhere.append(100);
    const auto before = now.backend.snapshot();
    CHECK(one.try_merge_prefix_of(shorter, 51).code() == errc::invalid_argument);
    CHECK(shorter.try_merge_prefix_of(one, 51).code() == errc::invalid_argument);
    CHECK(one.try_merge_prefix_of(one, 10).code() == errc::invalid_argument);
    CHECK(shaped.try_merge_prefix_of(one, 100).code() == errc::invalid_argument);
    CHECK(elsewhere.try_merge_prefix_of(one, 100).code() == errc::invalid_argument);
    CHECK_THROWS_AS(one.merge_prefix_of(shorter, 51), bad_argument);
    CHECK(one.try_merge_prefix_of(shorter, 0));
    CHECK(now.backend.snapshot() == before);
    CHECK(now.pool.stats().aliases == 0);
    const tensor moved = std::move(one);
    CHECK(one.try_merge_prefix_of(shorter, 0).error().where == verb::share); // NOLINT: moved from
    CHECK(shorter.try_merge_prefix_of(one, 0).code() == errc::invalid_argument);
}

TEST_CASE("positions and dead rows stay as they are where rows are merged") {
    using evicting = virtual_tensor<int, host_backend, growth::exact, eviction::by_caller>;
    host_backend backend;
    chunk_pool<host_backend> pool{backend};
    evicting one{pool, {1024}, 100};
    evicting other{pool, {1024}, 100};
    for (evicting* const each : {&one, &other}) {
        const auto view = each->append(20);
        for (std::size_t row = 0; row < 20; ++row)
            view(row, 0) = static_cast<int>(row);
    }
    const std::vector<slot_type> kept{0, 1, 5, 9, 12, 19};
    other.evict(kept);
    other.merge_prefix_of(one, 15);
    CHECK(pool.stats().in_use == 25 * page);
    CHECK(other.live_rows() == 6);
    CHECK(other.positions()[2] == no_position);
    CHECK(other.view()(12, 0) == 12);
    CHECK(one.live_rows() == 20);
    CHECK((one.verify() && other.verify() && pool.verify()));
}

TEST_CASE("tensors that look ahead merge their pages while a mapper thread maps") {
    using ahead = virtual_tensor<int, host_backend, growth::look_ahead<4>>;
    host_backend backend;
    ahead::pool_type pool{backend};
    mapper thread;
    ahead one{pool, thread, {1024}, 4000};
    ahead other{pool, thread, {1024}, 4000};
    for (int round = 0; round < 200; ++round) {
        one.append(2)(1, 0) = round;
        other.append(2)(1, 0) = round;
        other.append(1)(0, 0) = -2; // its own, and at work ahead of it
        other.merge_prefix_of(one, one.rows());
        other.truncate(one.rows());
        one.append(1)(0, 0) = round;
        other.append(1)(0, 0) = round;
        CHECK(other.view()(one.rows() - 1, 0) == round);
        CHECK(other.shared_bytes() == page * (one.rows() - 1));
        CHECK((one.verify() && other.verify()));
    }
    thread.drain();
    CHECK(pool.verify());
}
