// SPDX-License-Identifier: Apache-2.0
//
// Random lives of tensors on host memory: rows are appended, evicted, brought together by every policy and
// taken back, with pages and rows of sizes that fit and that do not. Every byte of every live row stays what
// it was, and memory is what the rows need.
#include "support/kernel_figures.hpp"
#include "world.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/tensor_group.hpp>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// One random life. Rows of `row` bytes, pages of `page`.
template <class Growth, class Backend>
void live_on(Backend& backend, bytes page, std::size_t row, std::uint64_t seed, std::size_t max_rows) {
    INFO("seed " << seed << ", row " << row << ", page " << page.count());
    dice random{seed};
    chunk_pool<Backend> pool{backend, {.chunk_size = page}};
    evicting_tensor<Backend, Growth> tensor{pool, {row}, max_rows};
    std::vector<position_type> expected;
    const std::uint8_t* const data = tensor.data();
    for (int step = 0; step < 14; ++step) {
        const std::size_t room = max_rows - tensor.rows();
        const std::size_t added = std::min(room, 1 + random.below(max_rows / 3));
        for (std::size_t index = 0; index < added; ++index)
            expected.push_back(tensor.next_position() + static_cast<position_type>(index));
        REQUIRE(append_filled(tensor, added));
        if (random.one_in(8)) { // the newest tokens are taken back
            const std::size_t taken = random.below(added + 1);
            tensor.resize(tensor.rows() - taken);
            expected.resize(expected.size() - taken);
        }
        if (tensor.rows() == 0)
            expected.clear();
        if (!random.one_in(4))
            expected = evict_some(tensor, random);
        const std::size_t number = random.below(policies);
        INFO("step " << step << ", " << policy_names[number]);
        REQUIRE(tensor.try_defragment(numbered_policy{number}));
        REQUIRE(tensor.verify());
        REQUIRE(pool.verify());
        CHECK(wrong_bytes(tensor) == 0);
        CHECK(live_positions(tensor) == expected);
        CHECK(tensor.data() == data);
        const bytes needed = round_up(tensor.row_bytes() * tensor.rows(), page);
        if constexpr (std::is_same_v<Growth, growth::exact>)
            CHECK(tensor.mapped_bytes() == needed);
        CHECK(tensor.mapped_bytes() >= needed);
        CHECK(pool.stats().in_use == tensor.mapped_bytes());
    }
}

/// What a policy keeps, and a policy that keeps rows by a score each.
struct lists {
    std::vector<slot_type> slots;
    [[nodiscard]] std::span<const slot_type> of(std::size_t, std::size_t) const { return slots; }
};
struct keep_above {
    static constexpr eviction_scope scope = eviction_scope::tensor;
    float least = 0;
    [[nodiscard]] status choose(std::span<const std::span<const float>> layers, int& calls,
                                lists& kept) const noexcept {
        ++calls;
        if (layers.size() != 1)
            return error{errc::invalid_argument, verb::choose, 0, bytes{0}};
        for (slot_type slot = 0; slot < layers[0].size(); ++slot) {
            if (layers[0][slot] > least)
                kept.slots.push_back(slot);
        }
        return {};
    }
};

} // namespace

TEST_CASE("rows keep their bytes whatever policy moves them") {
    host_backend host;
    const std::size_t rows[] = {256, 1024, 96, 4096, 1000, 8192 + 512, 1};
    const bytes pages[] = {4_KiB, 64_KiB, 12_KiB};
    std::uint64_t seed = 0;
    for (const std::size_t row : rows) {
        for (const bytes page : pages) {
            const std::size_t most = std::clamp<std::size_t>(150'000 / row, 24, 400);
            live_on<growth::exact>(host, page, row, ++seed, most);
            live_on<growth::geometric<3, 2>>(host, page, row, ++seed, most);
        }
    }
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(host.reserved_bytes() == 0_B);
}

TEST_CASE("rows keep their bytes on pages of 2 MiB") {
    host_backend host{{.granularity = 2_MiB}};
    live_on<growth::exact>(host, 2_MiB, 65536 + 4096, 101, 100); // rows over the edges of pages
    live_on<growth::exact>(host, 2_MiB, 65536, 102, 120);
}

TEST_CASE("rows keep their bytes behind adaptors") {
    host_backend host;
    adaptors::limiting limited{host, 8_MiB};
    adaptors::counting counted{limited};
    for (std::uint64_t seed = 200; seed < 206; ++seed)
        live_on<growth::fixed<4>>(counted, 4_KiB, 512, seed, 300);
}

TEST_CASE("keys and values move by one plan though their rows and pages differ") {
    host_backend host;
    chunk_pool<host_backend> small{host, {.chunk_size = 4_KiB}};
    chunk_pool<host_backend> large{host, {.chunk_size = 16_KiB}};
    for (std::uint64_t seed = 300; seed < 312; ++seed) {
        INFO("seed " << seed);
        dice random{seed};
        evicting_tensor<host_backend> keys{small, {512}, 1000};
        evicting_tensor<host_backend> values{large, {384}, 1000};
        tensor_group both{keys, values};
        for (int step = 0; step < 8; ++step) {
            const std::size_t added = std::min<std::size_t>(1000 - keys.rows(), 1 + random.below(300));
            REQUIRE(append_filled(keys, added));
            REQUIRE(append_filled(values, added, 7));
            const auto kept = choose_some(random, live_slots(keys.positions(), keys.rows()));
            REQUIRE(both.try_evict(kept));
            REQUIRE(both.try_defragment(numbered_policy{random.below(policies)}));
            CHECK(keys.rows() == values.rows());
            CHECK(std::ranges::equal(keys.positions(), values.positions()));
            CHECK(keys.live_rows() == kept.size());
            CHECK(wrong_bytes(keys) == 0);
            CHECK(wrong_bytes(values, 7) == 0);
            CHECK((keys.verify() && values.verify()));
            CHECK(keys.mapped_bytes() == round_up(keys.row_bytes() * keys.rows(), 4_KiB));
            CHECK(values.mapped_bytes() == round_up(values.row_bytes() * values.rows(), 16_KiB));
        }
    }
}

TEST_CASE("a group of tensors that are not alike is refused") {
    host_backend host;
    chunk_pool<host_backend> pool{host};
    evicting_tensor<host_backend> keys{pool, {512}, 100};
    evicting_tensor<host_backend> values{pool, {512}, 100};
    keys.append(10);
    values.append(9);
    tensor_group both{keys, values};
    const std::vector<slot_type> kept{0, 1};
    CHECK(both.try_evict(kept).code() == errc::invalid_argument);
    CHECK(both.try_defragment(defrag::compact{}).code() == errc::invalid_argument);
    CHECK((keys.live_rows() == 10 && values.live_rows() == 9));
    values.append(1);
    keys.evict(kept); // the same rows, with other positions
    CHECK(both.try_defragment(defrag::compact{}).code() == errc::invalid_argument);
    values.evict(kept);
    REQUIRE(both.try_defragment(defrag::compact{}));
    CHECK((keys.rows() == 2 && values.rows() == 2));
    const evicting_tensor<host_backend> taken{std::move(keys)};
    CHECK(both.try_defragment(defrag::compact{}).code() == errc::invalid_argument); // NOLINT: moved from
    CHECK(keys.try_evict({}).code() == errc::invalid_argument);
}

TEST_CASE("a policy that would lose a row is refused, and nothing has changed") {
    struct careless {
        [[nodiscard]] status plan(const defrag::state& from, defrag::plan& into) const noexcept {
            into.reset(from);
            into.rows_after = from.rows / 2;
            return {};
        }
    };
    host_backend host;
    chunk_pool<host_backend> pool{host};
    evicting_tensor<host_backend> tensor{pool, {512}, 100};
    REQUIRE(append_filled(tensor, 40));
    tensor.evict(std::vector<slot_type>{1, 39});
    const status outcome = tensor.try_defragment(careless{});
    CHECK(outcome.code() == errc::invalid_argument);
    CHECK(outcome.error().where == verb::defragment);
    CHECK(tensor.rows() == 40);
    CHECK(wrong_bytes(tensor) == 0);
    CHECK_THROWS_AS(tensor.defragment(careless{}), bad_argument);
    CHECK_THROWS_AS(tensor.evict(std::vector<slot_type>{40}), bad_argument);
}

TEST_CASE("a policy of one tensor chooses from evidence what stays") {
    host_backend host;
    chunk_pool<host_backend> pool{host};
    evicting_tensor<host_backend> tensor{pool, {64}, 10};
    REQUIRE(append_filled(tensor, 4));
    const std::vector<float> scores{0.5F, 0.1F, 0.9F, 0.2F};
    const std::vector<std::span<const float>> layer{scores};
    int calls = 0;
    lists kept;
    REQUIRE(tensor.try_evict(keep_above{0.3F}, std::span{layer}, calls, kept));
    CHECK(live_positions(tensor) == std::vector<position_type>{0, 2});
    CHECK(tensor.try_evict(keep_above{}, std::span{layer}.first(0), calls, kept).code() ==
          errc::invalid_argument);
    CHECK(calls == 2);
    CHECK(tensor.live_rows() == 2);
}

TEST_CASE("the memory of evicted rows is really gone") {
    for (const std::size_t number : {1u, 2u, 4u, 5u, 6u, 7u}) {
        for (const bytes page : {4_KiB, 64_KiB, 2_MiB}) {
            INFO(policy_names[number] << ", page " << page.count());
            host_backend host;
            chunk_pool<host_backend> pool{host, {.chunk_size = page}};
            evicting_tensor<host_backend> tensor{pool, {256}, 20'000};
            REQUIRE(append_filled(tensor, 20'000));
            const bytes before = kernel_memory_file_bytes();
            CHECK(before == tensor.mapped_bytes());
            dice random{number};
            std::vector<slot_type> kept;
            for (slot_type slot = 0; slot < 20'000; ++slot) {
                if (random.one_in(5))
                    kept.push_back(slot);
            }
            kept.resize(std::min<std::size_t>(kept.size(), 4000)); // 20 %
            tensor.evict(kept);
            for (int call = 0; tensor.rows() > tensor.live_rows(); ++call) { // incremental takes several
                REQUIRE(call < 400);
                REQUIRE(tensor.try_defragment(numbered_policy{number}));
                if (number != 7)
                    break;
            }
            REQUIRE(pool.trim());
            CHECK(kernel_memory_file_bytes() <= bytes{before.count() / 5} + page);
            CHECK(wrong_bytes(tensor) == 0);
        }
    }
}

TEST_CASE("remap copies nothing and creates nothing") {
    host_backend host;
    adaptors::counting counted{host};
    chunk_pool<adaptors::counting<host_backend>> pool{counted, {.chunk_size = 4_KiB}};
    evicting_tensor<adaptors::counting<host_backend>> tensor{pool, {1024}, 1000};
    REQUIRE(append_filled(tensor, 1000)); // 250 pages of four rows
    std::vector<slot_type> kept;
    for (slot_type slot = 400; slot < 1000; ++slot)
        kept.push_back(slot);
    tensor.evict(kept);
    // The very chunks lie at other places now: their bytes, also of dead rows, have moved with them.
    std::vector<std::uint8_t> page_bytes;
    for (std::size_t row = 400; row < 1000; ++row)
        page_bytes.push_back(tensor.view()(row, 17));
    const auto before = counted.snapshot();
    defrag::plan plan;
    REQUIRE(tensor.try_defragment(defrag::remap{}, plan));
    const auto after = counted.snapshot();
    CHECK(plan.rows.empty());
    CHECK(after[verb::map].calls - before[verb::map].calls == 150);
    CHECK(after[verb::unmap].calls - before[verb::unmap].calls == 1);
    CHECK(after[verb::set_access].calls - before[verb::set_access].calls == 1);
    CHECK(after[verb::create].calls == before[verb::create].calls);
    CHECK(tensor.rows() == 600);
    CHECK(pool.stats().free == 100 * 4_KiB);
    for (std::size_t row = 0; row < 600; ++row)
        REQUIRE(tensor.view()(row, 17) == page_bytes[row]);
}
