// SPDX-License-Identifier: Apache-2.0
//
// Defragmentation over a simulated CUDA machine, which is as strict about work in flight as a test can be: on
// a stream of the program's own, with pages of 2 MiB, held up work, and each driver call failing.
#include "support/fault_loop.hpp"
#include "world.hpp"

#include <conformance/device_fixtures.hpp>
#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using tensor_type = virtual_tensor<std::uint32_t, cuda_backend, growth::exact, eviction::by_caller>;
constexpr bytes page = 2_MiB;

/// A machine, a stream of the program, a pool.
struct scene : conformance::clean_machine<simulated_cuda> {
    scene() : conformance::clean_machine<simulated_cuda>{simulated::machine_options{}} {
        CUctx_st* context = nullptr;
        REQUIRE(driver.init(0) == 0);
        REQUIRE(driver.device_primary_ctx_retain(&context, 0) == 0);
        REQUIRE(driver.ctx_push_current(context) == 0);
        REQUIRE(driver.stream_create(&stream, cuda::abi::stream_flags::non_blocking) == 0);
    }
    ~scene() {
        CUctx_st* context = nullptr;
        CHECK(driver.stream_destroy(stream) == 0);
        CHECK(driver.ctx_pop_current(&context) == 0);
        CHECK(driver.device_primary_ctx_release(0) == 0);
    }

    cuda_driver driver = machine.driver();
    cuda_backend::stream_type stream{};
    std::optional<cuda_backend> memory{cuda_options{.driver = machine.driver()}};
    std::optional<chunk_pool<cuda_backend>> pool{std::in_place, *memory};
};

/// A few words of each row say whose row it is; the machine's memory is this process's.
void stamp(const tensor_type& tensor, std::size_t first) {
    const auto view = const_cast<tensor_type&>(tensor).view();
    for (std::size_t slot = first; slot < tensor.rows(); ++slot) {
        for (const std::size_t word : {std::size_t{0}, view.extents[1] / 2, view.extents[1] - 1})
            view(slot, word) = static_cast<std::uint32_t>(slot * 1000 + word);
    }
}
std::size_t wrong_words(const tensor_type& tensor) {
    const auto view = tensor.view();
    std::size_t wrong = 0;
    for (std::size_t slot = 0; slot < tensor.rows(); ++slot) {
        const auto positions = tensor.positions();
        const std::size_t at = positions.empty() ? slot : positions[slot];
        if (at == no_position)
            continue;
        for (const std::size_t word : {std::size_t{0}, view.extents[1] / 2, view.extents[1] - 1})
            wrong += view(slot, word) != static_cast<std::uint32_t>(at * 1000 + word) ? 1u : 0u;
    }
    return wrong;
}

/// 40 rows: some blocks of pages dead, some full, some in between.
std::vector<slot_type> some_rows() {
    std::vector<slot_type> kept{9, 11, 12};
    for (slot_type slot = 24; slot < 32; ++slot)
        kept.push_back(slot);
    kept.push_back(34);
    return kept;
}

} // namespace

TEST_CASE("rows on a device keep their content whatever policy moves them", "[device]") {
    for (const std::size_t row : {64u * 1024, 96u * 1024}) { // words: 8 rows a page, and 16 on 3 pages
        for (std::size_t number = 0; number < policies - 1; ++number) {
            INFO(policy_names[number] << ", rows of " << row << " words");
            scene now;
            {
                tensor_type tensor{*now.pool, {row}, 60};
                tensor.append(40);
                stamp(tensor, 0);
                tensor.evict(some_rows());
                defrag::plan plan;
                const bool copies_alone = number == 1 || number == 2;
                if (copies_alone) { // nobody waits: the stream is held up
                    now.machine.stall(now.stream);
                    const address start{tensor.data()};
                    REQUIRE(now.machine.launch(now.stream, {{start.value(), tensor.stats().used.count()}},
                                               {}) == 0);
                }
                REQUIRE(tensor.try_defragment(numbered_policy{number}, plan, now.stream));
                CHECK((!copies_alone || !plan.rows.empty()));
                if (number == 3) { // with rows over the edges of pages no block is dead
                    CHECK(plan.rows.empty());
                    CHECK(plan.blocks.empty() == (row != 64 * 1024));
                }
                now.machine.resume_all();
                REQUIRE(now.pool->retiring().drain());
                CHECK(wrong_words(tensor) == 0);
                CHECK(tensor.live_rows() == 12);
                CHECK(tensor.mapped_bytes() == round_up(tensor.row_bytes() * tensor.rows(), page));
                CHECK(bytes{now.machine.mapped_bytes(tensor.data(), tensor.reserved_bytes().count())} ==
                      tensor.mapped_bytes());
                CHECK(tensor.verify());
                CHECK(tensor.try_defragment(defrag::compact{}).code() == // without a stream
                      (tensor.rows() == 12 ? errc::ok : errc::unsupported));
            }
            now.pool.reset();
            now.memory.reset();
        }
    }
}

TEST_CASE("a driver that fails leaves the rows where they were, or where they go", "[device]") {
    for (const std::size_t number : {1u, 3u, 4u}) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            INFO(policy_names[number] << ", calls in a row: " << static_cast<std::size_t>(length));
            scene now;
            {
                std::optional<tensor_type> tensor;
                std::size_t old_rows = 0;
                const auto set = [&] {
                    tensor.reset();
                    REQUIRE(now.pool->retiring().drain());
                    tensor.emplace(*now.pool, row_shape{64 * 1024}, 60);
                    tensor->append(40);
                    stamp(*tensor, 0);
                    tensor->evict(some_rows());
                    old_rows = tensor->rows();
                };
                set();
                simulated::driver_faults faults{now.machine, simulated::code::unknown};
                const std::size_t calls = for_each_failing_call(
                    faults, [&] { return tensor->try_defragment(numbered_policy{number}, now.stream).ok(); },
                    [&](std::size_t) {
                        CHECK(tensor->rows() == old_rows);
                        CHECK(tensor->mapped_bytes() == 5 * page);
                        CHECK(tensor->live_rows() == 12);
                        CHECK(wrong_words(*tensor) == 0);
                        CHECK(tensor->verify());
                        REQUIRE(tensor->try_defragment(numbered_policy{number}, now.stream));
                        CHECK(wrong_words(*tensor) == 0);
                        set();
                    },
                    [&] { // the pages that should have left are still there, and counted
                        CHECK(tensor->rows() < old_rows);
                        CHECK(wrong_words(*tensor) == 0);
                        CHECK(tensor->verify());
                        set();
                    },
                    errc::native_failure, length);
                CHECK(calls >= 4);
                CHECK(wrong_words(*tensor) == 0);
            }
            now.pool.reset();
            now.memory.reset();
        }
    }
}
