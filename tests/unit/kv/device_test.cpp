// SPDX-License-Identifier: Apache-2.0
//
// Layouts on simulated devices with streams: rows move behind the work that reads them, pages leave behind
// both, and each driver call fails in turn. The machine's memory is this process's, so that a plain copy can
// be compared.
#include "layouts.hpp"

#include "support/fault_loop.hpp"
#include "support/simulated_streams.hpp"

#include <optional>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Device>
struct per_layer_on {
    using device = Device;
    using cache_type = per_layer<float, typename Device::backend_type>;
};
template <class Device>
struct per_head_on {
    using device = Device;
    using cache_type = per_head<float, typename Device::backend_type>;
};
/// With small pages, so that all of a page can be compared again and again.
struct small_cuda_device : cuda_device {
    static simulated::machine_options machine() {
        return {.minimum_granularity = 16384, .recommended_granularity = 16384};
    }
};
using layouts_on_devices = std::tuple<per_layer_on<small_cuda_device>, per_head_on<small_cuda_device>,
                                      per_layer_on<hip_device_in_pieces>, per_head_on<hip_device_in_pieces>>;

/// 3 heads; the keys of 16 rows of all heads are a page, the values of 24 on 2 pages are not.
template <class Layout>
struct scene : device_world<typename Layout::device> {
    using base = device_world<typename Layout::device>;
    using cache_type = typename Layout::cache_type;
    using base::page;
    using base::pool;

    scene() { set(); }
    ~scene() {
        base::machine.resume_all();
        cache.reset();
        base::close();
    }

    /// 60 rows, of which some heads keep few, and one most.
    void set() {
        cache.reset();
        REQUIRE(pool->retiring().drain());
        REQUIRE(pool->trim());
        cache.emplace(cache_type::try_create(*pool, shape).value());
        truth.emplace(shape);
        REQUIRE(cache->try_append(60));
        truth->append(*cache, 60);
        REQUIRE(kept.reset(1, 3));
        for (const slot_type share : {5u, 3u, 9u}) {
            std::vector<slot_type> slots;
            for (slot_type slot = 0; slot < 60; ++slot) {
                if ((slot / 2) % share == 1)
                    slots.push_back(slot);
            }
            REQUIRE(kept.add(slots));
        }
        truth->keep_only(*cache, kept);
        REQUIRE(cache->try_evict(kept, 0));
    }
    /// A kernel that reads all rows holds the stream up.
    void read(typename base::stream_type stream) {
        for (std::size_t head = 0; head < 3; ++head) {
            const auto keys = cache->keys(head);
            const std::size_t last = keys.extents[0] - 1;
            const address start{keys.data};
            base::read(stream, start, address{&keys(last, keys.extents[1] - 1)} - start);
        }
    }

    std::size_t key_width = page.count() / sizeof(float) / 48;
    kv::layer_shape shape{
        .kv_heads = 3, .key_width = key_width, .value_width = key_width / 2, .max_rows = 100};
    std::optional<cache_type> cache;
    std::optional<plain_layer> truth;
    eviction::kept_rows kept;
    std::vector<defrag::plan> plans = std::vector<defrag::plan>(3);
};

} // namespace

TEMPLATE_LIST_TEST_CASE("a layer on a device moves its rows behind the work that reads them", "[device]",
                        layouts_on_devices) {
    scene<TestType> now;
    const bytes before = now.cache->figures().mapped;
    CHECK(now.cache->try_defragment(defrag::compact{}, now.plans).code() == errc::unsupported);
    for (const defrag::plan& each : now.plans)
        CHECK((each.rows.empty() && each.blocks.empty() && each.rows_after == 60));
    now.truth->require_same(*now.cache);
    now.read(now.first);
    const std::size_t waits = now.machine.calls(simulated::entry::event_synchronize);
    REQUIRE(now.cache->try_defragment(defrag::compact{}, now.plans, now.first));
    CHECK(now.machine.calls(simulated::entry::event_synchronize) == waits);
    CHECK(now.cache->figures().mapped < before);
    CHECK(bytes{now.machine.leaks().physical_bytes} == before); // nothing leaves under the readers
    now.machine.resume_all();
    REQUIRE(now.pool->retiring().drain());
    now.truth->require_same(*now.cache, true);
    for (std::size_t head = 0; head < 3; ++head)
        CHECK(now.cache->rows(head) == now.kept.of(0, head).size());
    REQUIRE(now.pool->trim());
    CHECK(bytes{now.machine.leaks().physical_bytes} == now.cache->figures().mapped);
    REQUIRE(now.cache->try_append(7));
    now.truth->append(*now.cache, 7);
    REQUIRE(now.cache->try_defragment(defrag::swap_with_last{}, now.plans, now.first)); // nothing to do
    now.truth->require_same(*now.cache, true);
}

TEMPLATE_LIST_TEST_CASE("a driver that fails leaves each head of a layer whole", "[device]",
                        layouts_on_devices) {
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        for (const bool swaps : {false, true}) {
            scene<TestType> now;
            simulated::driver_faults faults{now.machine, simulated::code::unknown};
            const auto defragment = [&] {
                return swaps ? now.cache->try_defragment(defrag::swap_with_last{}, now.plans, now.first)
                             : now.cache->try_defragment(defrag::compact{}, now.plans, now.first);
            };
            std::size_t some = 0; // heads that moved before another could not
            const std::size_t failures = for_each_failing_call(
                faults, [&] { return defragment().ok(); },
                [&](std::size_t) {
                    now.truth->require_same(*now.cache);
                    for (std::size_t head = 0; head < 3; ++head) {
                        const bool moved = !now.plans[head].rows.empty();
                        CHECK(now.cache->rows(head) == (moved ? now.kept.of(0, head).size() : 60));
                        some += moved ? 1u : 0u;
                    }
                    REQUIRE(defragment());
                    now.truth->require_same(*now.cache);
                    now.set();
                },
                [&] {
                    now.truth->require_same(*now.cache);
                    now.set();
                },
                errc::native_failure, length);
            CHECK(failures > 30);
            CHECK(some > 0);
            now.truth->require_same(*now.cache);
        }
    }
}
