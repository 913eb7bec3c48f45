// SPDX-License-Identifier: Apache-2.0
//
// Tensors that share pages, on host memory: what is in memory once, what is read-only, what is copied, and
// what is refused. The kernel's own figures are the truth.
#include "numbered_rows.hpp"
#include "support/catch.hpp"
#include "support/death.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <array>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using pool_type = chunk_pool<host_backend>;
using tensor = virtual_tensor<int, host_backend>;

constexpr std::size_t max_rows = 20'000;

tensor make_filled(pool_type& pool, std::size_t rows, int salt = 0) {
    tensor made{pool, {row_ints}, max_rows};
    made.append(rows);
    fill(made, 0, salt);
    return made;
}

} // namespace

TEST_CASE("a common prefix of ten thousand rows is in memory once, by the kernel's figures") {
    host_backend backend;
    pool_type pool{backend};
    constexpr std::size_t rows = 10'000;
    tensor first = make_filled(pool, rows);
    const bytes alone = kernel_memory_file_bytes();
    CHECK(alone == page * pages_of(rows));

    std::vector<tensor> others;
    for (std::size_t more = 1; more <= 4; ++more) { // two tensors, and up to five
        tensor other{pool, {row_ints}, max_rows};
        other.share_prefix_of(first, rows);
        others.push_back(std::move(other));
        CHECK(kernel_memory_file_bytes() == alone + more * page); // a part page each
        CHECK(others.back().shared_bytes() == page * whole_pages_of(rows));
        CHECK(first.shared_bytes() == page * whole_pages_of(rows));
        CHECK(pool.stats().aliases == more * whole_pages_of(rows));
        for (const tensor& one : others) {
            const range_figures kernel = kernel_range(address{one.data()}, one.reserved_bytes());
            CHECK(one.rows() == rows);
            CHECK(wrong(one, 0, rows, 0) == 0);
            CHECK(one.mapped_bytes() == page * pages_of(rows));
            CHECK(kernel.memory_file == one.mapped_bytes());
            CHECK(kernel.accessible == page); // what may be written: the part page
            CHECK(one.verify());
        }
        CHECK((first.verify() && pool.verify()));
    }

    // The memory lives until the last of them goes.
    { const tensor gone = std::move(first); }
    CHECK(pool.stats().in_use == page * (whole_pages_of(rows) + 4));
    while (others.size() > 1) {
        others.erase(others.begin());
        CHECK(pool.stats().in_use == page * (whole_pages_of(rows) + others.size()));
        CHECK(wrong(others.back(), 0, rows, 0) == 0);
    }
    CHECK(others.back().shared_bytes() == 0_B);
    others.clear();
    CHECK(pool.stats().in_use == 0_B);
    CHECK(pool.stats().aliases == 0);
    REQUIRE(pool.trim());
    CHECK(kernel_memory_file_bytes() == 0_B);
}

TEST_CASE("shared rows fault where they are written, in the donor and in the sharer, until made writable") {
    host_backend backend;
    pool_type pool{backend};
    tensor donor = make_filled(pool, 30); // 2 whole pages, and a part
    tensor sharer{pool, {row_ints}, max_rows};
    sharer.share_prefix_of(donor, 30);
    const auto first_of = [](tensor& held, std::size_t row) { return &held.view()(row, 0); };
    for (tensor* const one : {&donor, &sharer}) {
        CHECK(writing_faults(first_of(*one, 0)));
        CHECK(writing_faults(first_of(*one, 15)));
        CHECK_FALSE(reading_faults(first_of(*one, 0)));
        CHECK_FALSE(writing_faults(first_of(*one, 29))); // on the part page, which is its own
    }
    sharer.make_writable(15, 1); // on the second page: row 10 lies on both
    CHECK(writing_faults(first_of(sharer, 0)));
    CHECK_FALSE(writing_faults(first_of(sharer, 11)));
    CHECK_FALSE(writing_faults(first_of(sharer, 15)));
    CHECK(writing_faults(first_of(donor, 15))); // read-only until it is made writable, though alone now
    CHECK(donor.shared_bytes() == page);
    CHECK(pool.stats().in_use == 5 * page);
    donor.make_writable(15, 1);
    CHECK_FALSE(writing_faults(first_of(donor, 15)));
    CHECK(pool.stats().in_use == 5 * page); // nothing was copied for it

    first_of(sharer, 15)[0] = -1;
    first_of(donor, 15)[0] = -2;
    CHECK(wrong(sharer, 0, 15, 0) + wrong(sharer, 16, 30, 0) == 0);
    CHECK(*first_of(sharer, 15) == -1);
    CHECK(*first_of(donor, 15) == -2);
    CHECK((donor.verify() && sharer.verify() && pool.verify()));
}

TEST_CASE("a forked tensor is like its source, and neither sees what is done to the other") {
    host_backend backend;
    pool_type pool{backend};
    tensor source = make_filled(pool, 1000);
    tensor forked = source.fork();
    CHECK(forked.rows() == 1000);
    CHECK(forked.max_rows() == source.max_rows());
    CHECK(forked.shape() == source.shape());
    source.append(500);
    fill(source, 1000, 7);
    forked.append(500);
    fill(forked, 1000, 9);
    CHECK(wrong(source, 0, 1000, 0) + wrong(source, 1000, 1500, 7) == 0);
    CHECK(wrong(forked, 0, 1000, 0) + wrong(forked, 1000, 1500, 9) == 0);
    forked.make_writable(0, 1500);
    fill(forked, 0, 11);
    CHECK(forked.shared_bytes() == 0_B);
    CHECK(wrong(source, 0, 1000, 0) + wrong(source, 1000, 1500, 7) == 0);
    source.resize(0);
    source.trim();
    CHECK(wrong(forked, 0, 1500, 11) == 0);
    CHECK(pool.stats().in_use == forked.mapped_bytes());
    const tensor empty = source.fork();
    CHECK(empty.rows() == 0);
    CHECK(empty.mapped_bytes() == 0_B);
    CHECK((source.verify() && forked.verify() && pool.verify()));
}

TEST_CASE("rows that are appended over a shared page get a copy of it first") {
    host_backend backend;
    pool_type pool{backend};
    tensor source = make_filled(pool, 100);
    tensor forked = source.fork();
    for (const std::size_t kept : {85u, 45u, 40u, 7u}) { // ends inside a shared page each time
        forked.resize(kept);
        CHECK(forked.prepared_rows() == kept);
        const bytes before = pool.stats().in_use;
        forked.append(3);
        CHECK(pool.stats().in_use == before + page * (pages_of(kept + 3) - whole_pages_of(kept)));
        fill(forked, kept, 5);
        CHECK(wrong(forked, 0, kept, 0) + wrong(forked, kept, kept + 3, 5) == 0);
        CHECK(wrong(source, 0, 100, 0) == 0);
        CHECK((forked.verify() && source.verify() && pool.verify()));
    }
    forked.resize(5);
    forked.prepare(20); // the same before the rows are there
    CHECK(forked.prepared_rows() >= 20);
    forked.append(15);
    fill(forked, 5, 3);
    CHECK(wrong(source, 0, 100, 0) + wrong(forked, 0, 5, 0) + wrong(forked, 5, 20, 3) == 0);

    tensor alone = source.fork(); // the page is read-only, and nobody else's by then
    source.resize(0);
    alone.resize(3);
    const bytes before = pool.stats().in_use;
    alone.append(1);
    CHECK(pool.stats().in_use == before);
    fill(alone, 3, 1);
    CHECK(wrong(alone, 0, 3, 0) == 0);
}

TEST_CASE("what a growth policy keeps mapped is never a shared page") {
    host_backend backend;
    pool_type pool{backend};
    virtual_tensor<int, host_backend, growth::geometric<2, 1>> source{pool, {1024}, 1000};
    source.append(32);
    auto forked = source.fork();
    source.resize(24);
    CHECK(source.mapped_bytes() == 24 * page); // alone it would keep all of them
    forked.cut(2);                             // keeps its memory, whatever it is
    CHECK(forked.mapped_bytes() == 32 * page);
    CHECK(forked.prepared_rows() == 2);
    forked.append(10)(9, 0) = 1;
    CHECK(source.view()(11, 0) == 0);
    CHECK(forked.prepared_rows() == 12);
    CHECK((source.verify() && forked.verify() && pool.verify()));
}

TEST_CASE("sharing is refused with a code, and changes nothing") {
    host_backend backend;
    pool_type pool{backend};
    pool_type other_pool{backend};
    tensor source = make_filled(pool, 100);
    tensor other{pool, {row_ints}, 50};
    tensor shaped{pool, {row_ints / 2, 2}, max_rows};
    tensor elsewhere{other_pool, {row_ints}, max_rows};
    const auto refusal = [&](tensor& to, tensor& from, std::size_t rows) {
        const status outcome = to.try_share_prefix_of(from, rows);
        CHECK(pool.stats().aliases == 0);
        CHECK(pool.stats().in_use == source.mapped_bytes());
        return outcome.code();
    };
    CHECK(refusal(other, source, 101) == errc::invalid_argument);
    CHECK(refusal(other, source, 51) == errc::limit_exceeded);
    CHECK(refusal(other, other, 0) == errc::invalid_argument);
    CHECK(refusal(source, other, 0) == errc::invalid_argument);
    CHECK(refusal(shaped, source, 10) == errc::invalid_argument);
    CHECK(refusal(elsewhere, source, 10) == errc::invalid_argument);
    CHECK(refusal(other, source, 0) == errc::ok);
    CHECK_THROWS_AS(other.share_prefix_of(source, 101), bad_argument);
    CHECK(source.try_make_writable(90, 11).code() == errc::invalid_argument);
    CHECK(source.try_make_writable(101, 0).code() == errc::invalid_argument);
    CHECK(source.try_make_writable(100, 0));
    CHECK(source.try_make_writable(0, 100));
    CHECK(source.try_make_writable(50, static_cast<std::size_t>(-1)).error().where == verb::make_writable);
    const tensor moved = std::move(source);
    CHECK(source.try_fork().code() == errc::invalid_argument);
    CHECK(other.try_share_prefix_of(source, 0).error().where == verb::share);
    CHECK(source.try_make_writable(0, 0).code() == errc::invalid_argument);
    CHECK(source.shared_bytes() == 0_B);
}

TEST_CASE(
    "the receiver's surplus pages are given up where pages are shared, and used where they are copied") {
    host_backend backend;
    pool_type pool{backend};
    tensor source = make_filled(pool, 100);
    tensor other{pool, {row_ints}, max_rows};
    other.prepare(200);
    const bytes prepared = other.mapped_bytes();
    other.share_prefix_of(source, 100, sharing::copy_all{});
    CHECK(other.mapped_bytes() == prepared);
    CHECK(pool.stats().aliases == 0);
    CHECK(source.shared_bytes() == 0_B);
    CHECK(wrong(other, 0, 100, 0) == 0);
    CHECK_FALSE(writing_faults(other.data()));
    CHECK_FALSE(writing_faults(source.data()));
    other.cut(0);
    other.share_prefix_of(source, 100);
    CHECK(other.mapped_bytes() == page * pages_of(100));
    CHECK(wrong(other, 0, 100, 0) == 0);
    CHECK((source.verify() && other.verify() && pool.verify()));
}

TEST_CASE("positions and dead rows come along with the rows that are shared") {
    using evicting = virtual_tensor<int, host_backend, growth::exact, eviction::by_caller>;
    host_backend backend;
    pool_type pool{backend};
    evicting source{pool, {512}, 100};
    const auto view = source.append(20);
    for (std::size_t row = 0; row < 20; ++row)
        view(row, 0) = static_cast<int>(row);
    evicting early = source.fork();
    const std::vector<slot_type> kept{0, 1, 5, 9, 12, 19};
    source.evict(kept);
    evicting other{pool, {512}, 100};
    other.share_prefix_of(source, 10);
    CHECK(other.rows() == 10);
    CHECK(other.live_rows() == 4);
    CHECK(other.next_position() == 12); // as if the source had been cut to these rows
    CHECK(other.positions()[9] == 9);
    CHECK(other.positions()[2] == no_position);
    CHECK(other.view()(9, 0) == 9);
    CHECK(early.positions().empty());
    CHECK(early.live_rows() == 20);
    other.append(1)(0, 0) = 100;
    CHECK(other.positions()[10] == 12);
    CHECK(source.view()(10, 0) == 10);
    CHECK((source.verify() && early.verify() && other.verify()));
}

TEST_CASE("a tensor that looks ahead shares its pages while its mapper thread maps") {
    using ahead = virtual_tensor<int, host_backend, growth::look_ahead<4>>;
    host_backend backend;
    ahead::pool_type pool{backend};
    mapper thread;
    ahead source{pool, thread, {1024}, 4000};
    for (int round = 0; round < 200; ++round) {
        const std::size_t rows = source.rows() + 3;
        source.append(3)(2, 0) = round;
        ahead forked = source.fork();
        source.append(1)(0, 0) = -1;
        forked.append(1)(0, 0) = -2;
        forked.make_writable(rows - 1, 1);
        forked.view()(rows - 1, 0) = -3;
        CHECK(source.view()(rows - 1, 0) == round);
        CHECK(source.view()(rows, 0) == -1);
        CHECK(forked.view()(rows, 0) == -2);
        CHECK((source.verify() && forked.verify()));
    }
    thread.drain();
    CHECK(source.shared_bytes() == 0_B);
    CHECK(pool.verify());
}

TEST_CASE("a page that passes to another owner by sharing is scrubbed before its first owner sees it again") {
    host_backend backend;
    pool_type pool{backend, {.scrub = scrub_policy::between_owners}};
    const owner_id alice{1};
    const owner_id bob{2};
    tensor source{pool, {1024}, 10, {}, {alice}};
    source.append(1)(0, 0) = 111;
    tensor other{pool, {1024}, 10, {}, {bob}};
    other.share_prefix_of(source, 1);
    source.resize(0);
    other.make_writable(0, 1); // no copy: bob is alone with the page
    other.view()(0, 0) = 222;
    other.resize(0);
    CHECK(source.append(1)(0, 0) == 0); // the same chunk, without what bob wrote
    CHECK(pool.stats().scrubbed == 1);
}
