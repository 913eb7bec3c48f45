// SPDX-License-Identifier: Apache-2.0
//
// Sharing and copy-on-write over a simulated CUDA machine, which is strict about memory that work in flight
// uses: on a stream of the program's own, with pages of 2 MiB, and each driver call failing.
#include "support/catch.hpp"
#include "support/fault_loop.hpp"

#include <conformance/device_fixtures.hpp>
#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using tensor_type = virtual_tensor<std::uint32_t, cuda_backend, growth::exact, eviction::by_caller>;
constexpr bytes page = 2_MiB;
constexpr std::size_t row_words = 96 * 1024; // 384 KiB: 16 rows are 3 pages
constexpr std::size_t source_rows = 30;      // 5 whole pages and a part
constexpr sharing::map_all map_all{};

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
    /// Queues a kernel that reads all rows, or writes them.
    void use(const tensor_type& tensor, bool writes) {
        const simulated::touched rows{address{tensor.data()}.value(), tensor.stats().used.count()};
        REQUIRE((writes ? machine.launch(stream, {}, {rows}) : machine.launch(stream, {rows}, {})) == 0);
    }
    tensor_type make() { return tensor_type{*pool, {row_words}, 60}; }
    void close() {
        REQUIRE(pool->retiring().drain());
        CHECK(pool->stats().in_use == 0_B);
        pool.reset();
        memory.reset();
    }

    cuda_driver driver = machine.driver();
    cuda_backend::stream_type stream{};
    std::optional<cuda_backend> memory{cuda_options{.driver = machine.driver()}};
    std::optional<chunk_pool<cuda_backend>> pool{std::in_place, *memory};
};

/// A few words of each row say whose row it is; the machine's memory is this process's.
void stamp(tensor_type& tensor, std::size_t first, std::size_t last, std::uint32_t salt) {
    const auto view = tensor.view();
    for (std::size_t slot = first; slot < last; ++slot) {
        for (const std::size_t word : {std::size_t{0}, row_words / 2, row_words - 1})
            view(slot, word) = static_cast<std::uint32_t>(slot * 1000 + word) + salt;
    }
}
std::size_t wrong_words(const tensor_type& tensor, std::size_t first, std::size_t last, std::uint32_t salt) {
    const auto view = tensor.view();
    const auto positions = tensor.positions();
    std::size_t wrong = 0;
    for (std::size_t slot = first; slot < last; ++slot) {
        const std::size_t at = positions.empty() ? slot : positions[slot];
        for (const std::size_t word : {std::size_t{0}, row_words / 2, row_words - 1})
            wrong +=
                at != no_position && view(slot, word) != static_cast<std::uint32_t>(at * 1000 + word) + salt;
    }
    return wrong;
}

} // namespace

TEST_CASE("a prefix on a device is shared, copied on write, and given up, with work in flight", "[device]") {
    scene now;
    {
        tensor_type source = now.make();
        source.append(source_rows);
        stamp(source, 0, source_rows, 0);
        now.use(source, true);
        CHECK(source.try_fork().code() == errc::unsupported); // a part page, and nobody to copy it
        tensor_type forked = source.fork(map_all, now.stream);
        CHECK(forked.shared_bytes() == 5 * page);
        CHECK(bytes{now.machine.leaks().physical_bytes} == 7 * page);
        CHECK(bytes{now.machine.mapped_bytes(forked.data(), forked.reserved_bytes().count())} == 6 * page);

        now.use(source, false);
        now.use(forked, false);
        tensor_type third = now.make();
        third.share_prefix_of(forked, 12, map_all, now.stream);
        now.use(third, false);
        third.resize(9, now.stream);
        third.append(5, now.stream); // row 9 begins on a shared page
        forked.make_writable(20, 2, now.stream);
        CHECK(forked.shared_bytes() == 3 * page); // rows 20 and 21 are on pages 3 and 4
        now.use(source, false);
        now.use(third, false);
        stamp(forked, 20, 22, 5);
        stamp(third, 9, 14, 9);
        REQUIRE(now.pool->retiring().drain());
        CHECK(wrong_words(source, 0, source_rows, 0) == 0);
        CHECK(wrong_words(forked, 0, 20, 0) + wrong_words(forked, 22, source_rows, 0) == 0);
        CHECK(wrong_words(forked, 20, 22, 5) == 0);
        CHECK(wrong_words(third, 0, 9, 0) + wrong_words(third, 9, 14, 9) == 0);
        CHECK((source.verify() && forked.verify() && third.verify() && now.pool->verify()));
        source.retire(now.stream);
        CHECK(wrong_words(forked, 0, 20, 0) == 0);
        forked.retire(now.stream);
        third.retire(now.stream);
    }
    now.close();
}

TEST_CASE("equal rows on a device come to lie on the same pages when the work in flight is done",
          "[device]") {
    scene now;
    {
        tensor_type one = now.make();
        tensor_type other = now.make();
        for (tensor_type* const each : {&one, &other}) {
            each->append(source_rows);
            stamp(*each, 0, source_rows, 0);
            now.use(*each, true);
        }
        other.merge_prefix_of(one, source_rows, now.stream);
        CHECK(other.shared_bytes() == 5 * page);
        now.use(one, false);
        now.use(other, false);
        other.merge_prefix_of(one, source_rows, now.stream); // the same already
        other.make_writable(20, 2, now.stream);
        stamp(other, 20, 22, 5);
        now.use(one, false);
        now.use(other, false);
        REQUIRE(now.pool->retiring().drain());
        REQUIRE(now.pool->trim());
        CHECK(bytes{now.machine.leaks().physical_bytes} == 9 * page);
        CHECK(wrong_words(one, 0, source_rows, 0) == 0);
        CHECK(wrong_words(other, 0, 20, 0) + wrong_words(other, 20, 22, 5) == 0);
        CHECK(wrong_words(other, 22, source_rows, 0) == 0);
        CHECK((one.verify() && other.verify() && now.pool->verify()));
        one.retire(now.stream);
        other.retire(now.stream);
    }
    now.close();
}

TEST_CASE("a driver that fails leaves tensors that share as they were", "[device]") {
    enum class operation { share, merge, write, grow, defragment };
    for (const operation tried :
         {operation::share, operation::merge, operation::write, operation::grow, operation::defragment}) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            INFO("operation " << static_cast<int>(tried)
                              << ", calls in a row: " << static_cast<std::size_t>(length));
            scene now;
            {
                std::optional<tensor_type> source;
                std::optional<tensor_type> other;
                bytes in_use{};
                bytes shared{};
                std::size_t rows = 0;
                const auto set = [&] {
                    source.reset();
                    other.reset();
                    REQUIRE(now.pool->retiring().drain());
                    REQUIRE(now.pool->trim());
                    source.emplace(now.make());
                    source->append(source_rows);
                    stamp(*source, 0, source_rows, 0);
                    other.emplace(now.make());
                    if (tried == operation::merge) {
                        other->append(source_rows);
                        stamp(*other, 0, source_rows, 0);
                    }
                    if (tried > operation::merge)
                        other->share_prefix_of(*source, source_rows, map_all, now.stream);
                    if (tried == operation::grow)
                        other->resize(9);
                    if (tried == operation::defragment)
                        other->evict(std::vector<slot_type>{0, 9, 11, 12, 24, 29});
                    in_use = now.pool->stats().in_use;
                    shared = source->shared_bytes();
                    rows = other->rows();
                };
                const auto run = [&] {
                    if (tried == operation::share)
                        return other->try_share_prefix_of(*source, source_rows, map_all, now.stream);
                    if (tried == operation::merge)
                        return other->try_merge_prefix_of(*source, source_rows, now.stream);
                    if (tried == operation::write)
                        return other->try_make_writable(3, 5, now.stream);
                    if (tried == operation::grow)
                        return other->try_append(12, now.stream).status();
                    return other->try_defragment(defrag::compact{}, now.stream);
                };
                const auto check_done = [&] {
                    REQUIRE(now.pool->retiring().drain());
                    CHECK(wrong_words(*source, 0, source_rows, 0) == 0);
                    CHECK(wrong_words(*other, 0, std::min(other->rows(), std::size_t{9}), 0) == 0);
                    CHECK((source->verify() && other->verify() && now.pool->verify()));
                };
                set();
                simulated::driver_faults faults{now.machine, simulated::code::unknown};
                const std::size_t calls = for_each_failing_call(
                    faults, [&] { return run().ok(); },
                    [&](std::size_t) {
                        CHECK(other->rows() == rows);
                        CHECK(now.pool->stats().in_use == in_use);
                        CHECK(source->shared_bytes() == shared);
                        check_done();
                        REQUIRE(run());
                        check_done();
                        set();
                    },
                    [&] { // what is given back at the end is tried more than once
                        check_done();
                        set();
                    },
                    errc::native_failure, length);
                CHECK(calls >= 10);
                check_done();
            }
            now.close();
        }
    }
}
