// SPDX-License-Identifier: Apache-2.0
#include "layouts.hpp"

#include <vtensor/backends/host.hpp>

#include <limits>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Moves pages that hold other rows too.
struct exchange_of_rows {
    [[nodiscard]] status plan(const defrag::state& from, defrag::plan& into) const noexcept {
        into.reset(from);
        into.block_rows = 1;
        into.blocks.push_back({5, 0, 1});
        return {};
    }
};

template <class Cache>
void refuse_what_is_wrong() {
    host_backend memory;
    layer_pool<host_backend> pool{memory};
    const kv::layer_shape shape{.kv_heads = 2, .key_width = 4, .value_width = 4, .max_rows = 64};
    for (kv::layer_shape empty : {kv::layer_shape{0, 4, 4, 64}, kv::layer_shape{2, 0, 4, 64},
                                  kv::layer_shape{2, 4, 0, 64}, kv::layer_shape{2, 4, 4, 0}})
        CHECK(Cache::try_create(pool, empty).code() == errc::invalid_argument);
    constexpr std::size_t far_too_many = std::numeric_limits<std::size_t>::max() / 4;
    CHECK(Cache::try_create(pool, {2, 4, 4, far_too_many}).code() == errc::out_of_addresses);

    auto cache = Cache::try_create(pool, shape).value();
    plain_layer truth{shape};
    CHECK(cache.try_append(65).code() == errc::limit_exceeded);
    REQUIRE(cache.try_append(64));
    truth.append(cache, 64);
    CHECK(cache.try_append(1).code() == errc::limit_exceeded);

    std::vector<attention::kv_head<typename Cache::value_type>> heads(3);
    CHECK(cache.describe(heads).code() == errc::invalid_argument);
    std::vector<defrag::plan> plans(1);
    CHECK(cache.try_defragment(defrag::compact{}, plans).code() == errc::invalid_argument);

    eviction::kept_rows kept;
    const auto choose = [&](std::vector<slot_type> first, std::vector<slot_type> second) {
        REQUIRE(kept.reset(1, 2));
        REQUIRE(kept.add(first));
        REQUIRE(kept.add(second));
    };
    choose({1, 2}, {3, 64}); // the second head has no such slot: the first must not be touched either
    CHECK(cache.try_evict(kept, 0).code() == errc::invalid_argument);
    truth.require_same(cache);
    CHECK(cache.try_evict(kept, 1).code() == errc::invalid_argument);
    REQUIRE(kept.reset(1, 3));
    CHECK(cache.try_evict(kept, 0).code() == errc::invalid_argument);
    choose({5, 7}, {9});
    REQUIRE(cache.try_evict(kept, 0));
    choose({5, 6}, {9}); // slot 6 is dead
    CHECK(cache.try_evict(kept, 0).code() == errc::invalid_argument);
    plans.resize(2);
    CHECK_FALSE(cache.try_defragment(exchange_of_rows{}, plans));
    CHECK((plans[0].blocks.empty() && plans[0].rows_after == 64));
    CHECK(cache.live_rows(0) == 2);
    CHECK(cache.live_rows(1) == 1);
    CHECK(cache.verify());
}

} // namespace

TEST_CASE("what is wrong is refused with a code, and nothing changes") {
    refuse_what_is_wrong<per_layer<float, host_backend>>();
    refuse_what_is_wrong<per_head<float, host_backend>>();
    refuse_what_is_wrong<packed<float, host_backend>>();
}
