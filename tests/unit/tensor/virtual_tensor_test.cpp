// SPDX-License-Identifier: Apache-2.0
//
// virtual_tensor on the host backend: rows, views, figures, refusals and moves. Faults, the kernel's figures
// over long sequences and random operations are in the files beside this one.
#include "support/catch.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

using namespace vtensor;

namespace {

using pool_type = chunk_pool<host_backend>;
using tensor = virtual_tensor<float, host_backend>;
template <class Growth>
using grown = virtual_tensor<float, host_backend, Growth>;

constexpr std::size_t row_floats = 256; // 1 KiB a row, four rows a page

struct record {
    double score;
    std::int32_t token;
    char tag[3];
};

template <class Tensor>
std::size_t mapped_pages(const Tensor& held) {
    const bytes kernel =
        vtensor::testing::kernel_range(address{held.data()}, held.reserved_bytes()).memory_file;
    CHECK(kernel == held.mapped_bytes());
    CHECK(held.verify());
    return held.mapped_bytes() / 4_KiB;
}

template <class Tensor>
concept has_copies = std::is_copy_constructible_v<Tensor> || std::is_copy_assignable_v<Tensor>;

} // namespace

static_assert(!has_copies<tensor>);
static_assert(std::is_nothrow_move_constructible_v<tensor> && std::is_nothrow_move_assignable_v<tensor>);
static_assert(std::is_same_v<decltype(std::declval<const tensor&>().data()), const float*>);

TEST_CASE("a new tensor has addresses for all its rows and memory for none") {
    host_backend backend;
    pool_type pool{backend};
    const tensor keys{pool, {8, 128}, 1'000'000};
    CHECK(keys.rows() == 0);
    CHECK(keys.max_rows() == 1'000'000);
    CHECK(keys.row_bytes() == 4_KiB);
    CHECK(keys.reserved_bytes() == 1'000'000 * 4_KiB);
    CHECK(mapped_pages(keys) == 0);
    CHECK(keys.mapped_rows() == 0);
    CHECK(keys.data() != nullptr);
    CHECK(keys.shape() == row_shape{8, 128});
}

TEST_CASE("rows map just the pages they touch, and row 0 never moves") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 64};
    const float* const start = keys.data();
    const std::size_t expected[][2] = {{1, 1}, {4, 1}, {5, 2}, {64, 16}, {63, 16}, {60, 15}, {1, 1}, {0, 0}};
    for (const auto& [rows, pages] : expected) {
        keys.resize(rows);
        CHECK(keys.rows() == rows);
        CHECK(mapped_pages(keys) == pages);
        CHECK(keys.mapped_rows() == pages * 4);
        CHECK(keys.data() == start);
        CHECK(keys.stats().used == rows * 1_KiB);
    }
}

TEST_CASE("mapped rows never exceed the longest length") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 6};
    keys.resize(6);
    CHECK(mapped_pages(keys) == 2);
    CHECK(keys.mapped_rows() == 6);
}

TEST_CASE("append hands out the new rows to be filled, behind those that are there") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {2, 3}, 4000};
    float next = 0;
    for (const std::size_t count : {1u, 999u, 0u, 3000u}) {
        const auto fresh = keys.append(count);
        REQUIRE(fresh.extents[0] == count);
        REQUIRE(fresh.extents[1] == 6);
        for (std::size_t row = 0; row < count; ++row) {
            for (std::size_t column = 0; column < 6; ++column)
                fresh(row, column) = next++;
        }
    }
    const auto all = std::as_const(keys).view<3>();
    REQUIRE(all.extents[0] == 4000);
    float expected = 0;
    std::size_t wrong = 0;
    for (std::size_t row = 0; row < 4000; ++row) {
        for (std::size_t i = 0; i < 2; ++i) {
            for (std::size_t j = 0; j < 3; ++j)
                wrong += all(row, i, j) != expected++ ? 1u : 0u;
        }
    }
    CHECK(wrong == 0);
    CHECK(keys.try_append(1).code() == errc::limit_exceeded);
}

TEST_CASE("rows keep their content while the tensor shrinks and grows behind them") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 100};
    keys.append(10);
    for (std::size_t row = 0; row < 10; ++row)
        keys.view()(row, row_floats - 1) = static_cast<float>(row) + 0.5f;
    keys.resize(100);
    keys.resize(9);
    keys.resize(50);
    for (std::size_t row = 0; row < 9; ++row)
        CHECK(keys.view()(row, row_floats - 1) == static_cast<float>(row) + 0.5f);
}

TEST_CASE("a page may be no multiple of the row, nor the row of the page") {
    host_backend backend;
    pool_type pool{backend};
    virtual_tensor<record, host_backend> odd{pool, {}, 10'000};
    REQUIRE(sizeof(record) == 16);
    virtual_tensor<char, host_backend> bytes_of_three{pool, {3}, 5000};
    virtual_tensor<double, host_backend> long_rows{pool, {1000}, 7};
    odd.resize(257);
    CHECK(mapped_pages(odd) == 2);
    bytes_of_three.resize(1366); // 4,098 bytes
    CHECK(mapped_pages(bytes_of_three) == 2);
    CHECK(bytes_of_three.mapped_rows() == 8192 / 3);
    long_rows.resize(3); // 24,000 bytes
    CHECK(mapped_pages(long_rows) == 6);
    CHECK(long_rows.mapped_rows() == 3);
    long_rows.resize(7);
    long_rows.view()(6, 999) = 1.25;
    CHECK(long_rows.data()[6999] == 1.25);
}

TEST_CASE("views have the rank that fits the shape, and any other is refused") {
    host_backend backend;
    pool_type pool{backend};
    tensor cube{pool, {4, 5, 6}, 10};
    cube.resize(3);
    const auto view = cube.view<4>();
    CHECK(view.strides[0] == 120);
    CHECK(view.strides[1] == 30);
    CHECK(view.strides[2] == 6);
    CHECK(view.strides[3] == 1);
    CHECK(&view(2, 3, 4, 5) == cube.data() + 3 * 120 - 1);
    CHECK(cube.view().extents[1] == 120);
    CHECK(cube.try_view<3>().code() == errc::invalid_argument);
    CHECK(cube.try_view<1>().code() == errc::invalid_argument);
    CHECK_THROWS_AS(cube.view<5>(), bad_argument);

    tensor scalars{pool, {}, 10};
    scalars.resize(7);
    CHECK(scalars.view<1>().extents[0] == 7);
    CHECK(scalars.view<1>().strides[0] == 1);
    CHECK(scalars.view<2>().extents[1] == 1);
}

TEST_CASE("a view stays valid for its rows while the tensor grows") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 1000};
    keys.resize(3);
    const auto early = keys.view();
    early(2, 0) = 2.5f;
    keys.resize(1000);
    CHECK(early(2, 0) == 2.5f);
    early(2, 0) = 3.5f;
    CHECK(keys.view()(2, 0) == 3.5f);
}

TEST_CASE("prepared memory makes growth need no backend call, until it is trimmed") {
    host_backend host;
    adaptors::counting<host_backend> backend{host};
    chunk_pool<adaptors::counting<host_backend>> pool{backend};
    virtual_tensor<float, adaptors::counting<host_backend>> keys{pool, {row_floats}, 64};
    keys.append(2);
    keys.prepare(40);
    CHECK(keys.rows() == 2);
    CHECK(keys.mapped_rows() == 40);
    const auto calls = backend.snapshot().calls();
    keys.resize(2);
    keys.append(0);
    keys.append(3);
    keys.prepare(10);
    keys.resize(40);
    CHECK(backend.snapshot().calls() == calls);
    keys.resize(41);
    CHECK(backend.snapshot().calls() > calls);
    keys.prepare(64);
    keys.trim();
    CHECK(keys.mapped_rows() == 44);
    CHECK(mapped_pages(keys) == 11);
}

TEST_CASE("growth policies decide what is mapped beyond the rows, and trim takes it back") {
    host_backend backend;
    pool_type pool{backend};
    grown<growth::fixed<4>> stepped{pool, {row_floats}, 80};
    stepped.resize(1);
    CHECK(mapped_pages(stepped) == 4);
    stepped.resize(17);
    CHECK(mapped_pages(stepped) == 8);
    stepped.resize(16);
    CHECK(mapped_pages(stepped) == 4);
    stepped.resize(80);
    CHECK(mapped_pages(stepped) == 20);
    stepped.resize(1);
    stepped.trim();
    CHECK(mapped_pages(stepped) == 1);

    grown<growth::geometric<2, 1>> doubling{pool, {row_floats}, 60};
    doubling.resize(4);
    CHECK(mapped_pages(doubling) == 1);
    doubling.resize(12);
    CHECK(mapped_pages(doubling) == 3);
    doubling.resize(13);
    CHECK(mapped_pages(doubling) == 6);
    doubling.resize(60); // 15 pages are all there are
    CHECK(mapped_pages(doubling) == 15);
    doubling.resize(16);
    CHECK(mapped_pages(doubling) == 15);
    doubling.resize(12);
    CHECK(mapped_pages(doubling) == 6);
    doubling.trim();
    CHECK(mapped_pages(doubling) == 3);
}

TEST_CASE("what a growth policy wishes beyond the need is given up when memory is short") {
    host_backend backend;
    pool_type pool{backend, {.limit = 10 * 4_KiB}};
    grown<growth::fixed<8>> greedy{pool, {row_floats}, 400};
    greedy.resize(4);
    CHECK(mapped_pages(greedy) == 8);
    greedy.resize(36);
    CHECK(mapped_pages(greedy) == 9);
    CHECK(greedy.try_resize(44).code() == errc::limit_exceeded);
    CHECK(greedy.rows() == 36);
    CHECK(mapped_pages(greedy) == 9);
    greedy.resize(40);
    CHECK(mapped_pages(greedy) == 10);
}

TEST_CASE("growing beyond the longest length is refused and changes nothing") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 10};
    keys.resize(7);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const std::size_t rows : {std::size_t{11}, most / 1024 + 1, most}) {
        CAPTURE(rows);
        const status refusal = keys.try_resize(rows);
        CHECK(refusal.code() == errc::limit_exceeded);
        CHECK(refusal.error().size == bytes{rows > most / 1024 ? most : rows * 1024});
        CHECK(keys.try_prepare(rows).code() == errc::limit_exceeded);
        CHECK(keys.try_append(rows).code() == errc::limit_exceeded);
    }
    CHECK_THROWS_AS(keys.resize(11), out_of_memory);
    CHECK_THROWS_AS(keys.append(4), std::bad_alloc);
    CHECK(keys.rows() == 7);
    CHECK(mapped_pages(keys) == 2);
}

TEST_CASE("an empty shape or length is refused, and so is a tensor larger than all addresses") {
    host_backend backend;
    pool_type pool{backend};
    CHECK(tensor::try_create(pool, {0}, 10).code() == errc::invalid_argument);
    CHECK(tensor::try_create(pool, {4, -1}, 10).code() == errc::invalid_argument);
    CHECK(tensor::try_create(pool, {4}, 0).code() == errc::invalid_argument);
    CHECK_THROWS_AS((tensor{pool, {4}, 0}), bad_argument);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    CHECK(tensor::try_create(pool, {1}, most).code() == errc::out_of_addresses);
    CHECK(tensor::try_create(pool, {most / 4}, 1).code() == errc::out_of_addresses);
    CHECK(tensor::try_create(pool, {most / 8}, 3).code() == errc::out_of_addresses);
    CHECK(tensor::try_create(pool, {std::size_t{1} << 32}, std::size_t{1} << 32).code() ==
          errc::out_of_addresses);
    CHECK(tensor::try_create(pool, {std::size_t{1} << 30}, std::size_t{1} << 28).code() ==
          errc::out_of_addresses);
    CHECK_THROWS_AS((tensor{pool, {1}, most}), out_of_memory);
    CHECK(backend.reserved_bytes() == 0_B);
}

TEST_CASE("a tensor that moves keeps its address, rows and memory") {
    host_backend backend;
    pool_type pool{backend};
    tensor first{pool, {row_floats}, 40};
    first.append(5)(4, 1) = 4.5f;
    float* const start = first.data();

    tensor second{std::move(first)};
    CHECK(second.data() == start);
    CHECK(second.rows() == 5);
    CHECK(second.view()(4, 1) == 4.5f);
    CHECK(mapped_pages(second) == 2);

    tensor third{pool, {8}, 10};
    third.append(10);
    third = std::move(second);
    CHECK(third.data() == start);
    CHECK(third.rows() == 5);
    CHECK(third.max_rows() == 40);
    CHECK(third.shape() == row_shape{row_floats});
    CHECK(backend.reserved_bytes() == third.reserved_bytes());
    CHECK(backend.mapped_bytes() == third.mapped_bytes());

    tensor& same = third;
    third = std::move(same);
    CHECK(third.data() == start);
    CHECK(third.view()(4, 1) == 4.5f);
    third.resize(40);
    CHECK(mapped_pages(third) == 10);
}

// NOLINTBEGIN(bugprone-use-after-move): the moved-from state is what is tested
TEST_CASE("a moved-from tensor is empty, refuses what needs memory, and can be assigned to") {
    host_backend backend;
    pool_type pool{backend};
    tensor first{pool, {row_floats}, 40};
    first.append(5);
    const tensor second{std::move(first)};

    CHECK(first.data() == nullptr);
    CHECK(first.rows() == 0);
    CHECK(first.max_rows() == 0);
    CHECK(first.mapped_rows() == 0);
    CHECK(first.mapped_bytes() == 0_B);
    CHECK(first.reserved_bytes() == 0_B);
    CHECK(first.stats().page == 0_B);
    CHECK(first.view().size() == 0);
    CHECK(first.verify());
    CHECK_FALSE(first.try_resize(0));
    CHECK_FALSE(first.try_resize(1));
    CHECK_FALSE(first.try_append(0));
    CHECK_FALSE(first.try_append(1));
    CHECK_FALSE(first.try_prepare(0));
    CHECK_FALSE(first.try_trim());
    CHECK_THROWS_AS(first.trim(), bad_argument);

    first = tensor{pool, {row_floats}, 8};
    first.resize(8);
    CHECK(mapped_pages(first) == 2);
    CHECK(mapped_pages(second) == 2);
}
// NOLINTEND(bugprone-use-after-move)

TEST_CASE("a look-ahead tensor that was moved from needs no mapper") {
    host_backend backend;
    chunk_pool<host_backend, std::mutex> pool{backend};
    mapper thread;
    using ahead = virtual_tensor<float, host_backend, growth::look_ahead<2>>;
    ahead first{pool, thread, {row_floats}, 40};
    first.append(5);
    ahead second{std::move(first)};
    CHECK(first.look_ahead_status()); // NOLINT(bugprone-use-after-move)
    CHECK(first.mapped_bytes() == 0_B);
    CHECK(first.verify());
    second.append(5);
    thread.drain();
    CHECK(second.mapped_rows() >= 10);
    CHECK(second.verify());
}

TEST_CASE("tensors on one pool share its limit and its freed chunks") {
    host_backend backend;
    pool_type pool{backend, {.limit = 6 * 4_KiB}};
    tensor keys{pool, {row_floats}, 100};
    tensor values{pool, {row_floats}, 100};
    keys.resize(16);
    values.resize(8);
    CHECK(values.try_resize(9).code() == errc::limit_exceeded);
    keys.resize(4);
    values.resize(20);
    CHECK(pool.stats().created == 6 * 4_KiB);
    CHECK(pool.stats().in_use == keys.mapped_bytes() + values.mapped_bytes());
    CHECK(mapped_pages(keys) == 1);
    CHECK(mapped_pages(values) == 5);
}

TEST_CASE("cutting rows keeps their memory, and trimming to so many bytes keeps the pages that hold them") {
    host_backend backend;
    pool_type pool{backend};
    tensor keys{pool, {row_floats}, 100}; // four rows a page
    keys.prepare(40);
    keys.resize(30);
    CHECK(keys.prepared_rows() == 40);
    keys.cut(5);
    CHECK(keys.rows() == 5);
    CHECK(mapped_pages(keys) == 10);
    keys.cut(6); // not more rows than there are
    CHECK(keys.rows() == 5);
    keys.trim(7 * 4_KiB + 1_B);
    CHECK(mapped_pages(keys) == 8);
    CHECK(keys.prepared_rows() == 32);
    keys.trim(9 * 4_KiB); // maps nothing
    CHECK(mapped_pages(keys) == 8);
    keys.trim(1_B); // the rows stay
    CHECK(mapped_pages(keys) == 2);
    CHECK(keys.prepared_rows() == 8);
    const tensor moved = std::move(keys);
    CHECK(keys.try_trim(1_B).code() == errc::invalid_argument);
    CHECK(keys.prepared_rows() == 0);
}
