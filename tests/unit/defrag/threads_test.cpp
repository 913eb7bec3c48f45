// SPDX-License-Identifier: Apache-2.0
//
// Defragmentation of a tensor for which a thread maps ahead: pages change places and leave while that thread
// may be at work on the same range.
#include "world.hpp"

#include <vtensor/backends/host.hpp>

#include <mutex>

using namespace vtensor;
using namespace vtensor::testing;

TEST_CASE("rows keep their bytes while a thread maps ahead") {
    host_backend host;
    chunk_pool<host_backend, std::mutex> pool{host};
    mapper thread;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        INFO("seed " << seed);
        dice random{seed};
        evicting_tensor<host_backend, growth::look_ahead<3>, std::mutex> tensor{pool, thread, {1000}, 300};
        for (int step = 0; step < 40; ++step) {
            const std::size_t added = std::min<std::size_t>(300 - tensor.rows(), 1 + random.below(40));
            REQUIRE(append_filled(tensor, added)); // the thread maps on meanwhile
            std::vector<position_type> expected = live_positions(tensor);
            if (random.one_in(2))
                expected = evict_some(tensor, random);
            REQUIRE(tensor.try_defragment(numbered_policy{random.below(policies)}));
            CHECK(wrong_bytes(tensor) == 0);
            CHECK(live_positions(tensor) == expected);
            CHECK(tensor.verify());
        }
        CHECK(tensor.look_ahead_status().ok());
    }
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(pool.stats().in_use == 0_B);
}
