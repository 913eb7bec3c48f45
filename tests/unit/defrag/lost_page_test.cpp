// SPDX-License-Identifier: Apache-2.0
//
// An exchange of pages that fails, and whose undo the backend refuses as often as it likes: the rows from the
// first page on that could not be put back are lost, in all tensors that move together, and nothing else is.
#include "support/fault_loop.hpp"
#include "support/proc_maps.hpp"
#include "world.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/tensor_group.hpp>

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;
using vtensor::adaptors::failing;

namespace {

using backend_type = failing<host_backend>;
using tensor_type = evicting_tensor<backend_type>;

/// 64 rows of keys, 4 a page, and of values, 2 a page; blocks 1 and 3 of them are dead, and all from row 40
/// on.
struct scene {
    host_backend host;
    backend_type backend{host};
    chunk_pool<backend_type> pool{backend};
    std::optional<tensor_type> keys;
    std::optional<tensor_type> values;
    std::vector<position_type> before;
    bytes kept_for_ever{}; ///< chunks of tensors that lost pages and are gone

    void set() {
        keys.reset();
        values.reset();
        REQUIRE(pool.trim());
        keys.emplace(pool, row_shape{1024}, 100);
        values.emplace(pool, row_shape{2048}, 100);
        REQUIRE(append_filled(*keys, 64));
        REQUIRE(append_filled(*values, 64, 5));
        std::vector<slot_type> kept;
        for (slot_type slot = 0; slot < 40; ++slot) {
            if (slot / 4 != 1 && slot / 4 != 3)
                kept.push_back(slot);
        }
        REQUIRE(tensor_group{*keys, *values}.try_evict(kept));
        before.assign(keys->positions().begin(), keys->positions().end());
        kept_for_ever = pool.stats().in_use - keys->mapped_bytes() - values->mapped_bytes();
    }
    /// What is left is a beginning of what there was, of both tensors the same, with its content.
    void check_beginning() {
        const auto positions = keys->positions();
        REQUIRE(positions.size() <= before.size());
        CHECK(std::equal(positions.begin(), positions.end(), before.begin()));
        CHECK(std::ranges::equal(positions, values->positions()));
        CHECK(keys->rows() == values->rows());
        CHECK(wrong_bytes(*keys) == 0);
        CHECK(wrong_bytes(*values, 5) == 0);
        for (const tensor_type* const one : {&*keys, &*values}) {
            const auto kernel = kernel_range(address{one->data()}, one->reserved_bytes());
            CHECK(kernel.accessible >= round_up(one->row_bytes() * one->rows(), 4_KiB));
            CHECK(kernel.memory_file <= one->mapped_bytes()); // pages that are not put back are counted too
            CHECK(one->verify());
        }
        CHECK(pool.verify());
        CHECK(pool.stats().in_use == kept_for_ever + keys->mapped_bytes() + values->mapped_bytes());
    }
};

} // namespace

TEST_CASE("pages that the backend does not put back cost the rows from them on, and nothing else") {
    std::size_t losses = 0;
    std::size_t partly = 0; // not all rows were lost
    for (std::size_t length = 3; length <= 6; ++length) {
        scene now;
        now.set();
        status last;
        for_each_failing_call(
            now.backend,
            [&] {
                tensor_group both{*now.keys, *now.values};
                return (last = both.try_defragment(defrag::remap{})).ok();
            },
            [&](std::size_t) {
                CHECK(last.code() == errc::native_failure);
                now.check_beginning();
                losses += now.keys->rows() < now.before.size() ? 1u : 0u;
                partly += now.keys->rows() < now.before.size() && now.keys->rows() > 0 ? 1u : 0u;
                const std::size_t rows = now.keys->rows();
                if (now.keys->try_append(1))
                    CHECK(now.keys->rows() == rows + 1);
                else
                    CHECK(now.keys->rows() == rows);
                CHECK(now.keys->verify());
                now.set();
            },
            [&] { now.set(); }, errc::native_failure, static_cast<fault_length>(length));
        now.keys.reset();
        now.values.reset();
        // The chunks and the addresses of what could not be put back stay out of everybody's reach.
        CHECK(now.pool.verify());
        CHECK(now.pool.stats().in_use >= now.host.mapped_bytes());
        CHECK((now.host.reserved_bytes() == 0_B) == (now.pool.stats().in_use == 0_B));
    }
    CHECK(losses > 0);
    CHECK(partly > 0);
}
