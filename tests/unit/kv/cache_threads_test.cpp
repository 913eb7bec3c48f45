// SPDX-License-Identifier: Apache-2.0
//
// The mapper thread prepares memory while the owner appends, writes, reads, truncates and evicts. What this
// checks is worth most under the thread sanitizer.
#include "cache_scene.hpp"

#include "../threads/probe_backend.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/mapper.hpp>
#include <vtensor/policy/defrag.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class T, class Backend>
using shared_per_layer = kv::per_layer_cache<T, Backend, growth::exact, std::mutex>;
template <class T, class Backend>
using shared_per_head = kv::per_head_cache<T, Backend, growth::exact, std::mutex>;
template <class T, class Backend>
using shared_packed = kv::packed_cache<T, Backend, growth::exact, std::mutex>;

/// Asks the mapper thread to prepare a cache for so many tokens.
template <class Cache>
class ahead {
  public:
    ahead(mapper& thread, Cache& cache) : thread_{&thread}, cache_{&cache} {}
    ahead(const ahead&) = delete;
    ahead& operator=(const ahead&) = delete;
    ~ahead() { call_off(); }

    void ask(std::size_t tokens) {
        goal_ = tokens;
        REQUIRE(thread_->submit(request_));
    }
    void call_off() noexcept { thread_->cancel(request_); }
    [[nodiscard]] errc outcome() const noexcept { return outcome_; }

  private:
    mapper* thread_;
    Cache* cache_;
    std::atomic<std::size_t> goal_{0};
    std::atomic<errc> outcome_{errc::ok};
    mapper::request request_{[](void* self) noexcept {
                                 auto& me = *static_cast<ahead*>(self);
                                 me.outcome_ = me.cache_->try_prepare(me.goal_).code();
                             },
                             this};
};

template <class Layer>
void live_with_a_mapper() {
    host_backend memory;
    typename Layer::pool_type pool{memory, {.chunk_size = 4_KiB}};
    const kv::model_shape shape{
        .layers = 4, .layer = {.kv_heads = 2, .key_width = 32, .value_width = 32, .max_rows = 600}};
    sequence<Layer> one{pool, shape, {.tokens_a_growth = 16}};
    mapper thread;
    ahead prepare{thread, one.cache};
    for (int token = 0; token < 400; ++token) {
        prepare.ask(one.cache.tokens() + 40);
        one.append(1);
        if (token % 50 == 20)
            one.truncate(one.cache.tokens() - 5);
        if (token % 100 == 60) {
            one.evict(0.6);
            one.defragment(defrag::compact{});
        }
        if (token % 100 == 80)
            REQUIRE(one.cache.try_trim());
        if (token % 100 == 30) { // its whole pages are read-only from here on, until they are compacted
            sequence<Layer> fork{pool, shape};
            fork.cache = one.cache.try_fork().value();
            fork.truth = one.truth;
            fork.append(3);
            fork.require_same();
        }
        if (token % 40 == 0)
            one.require_same();
    }
    thread.drain();
    one.require_same();
    CHECK(prepare.outcome() == errc::ok);
    CHECK(pool.verify());
}

} // namespace

TEST_CASE("a sequence lives on one thread while another maps ahead for it") {
    SECTION("per layer") { live_with_a_mapper<shared_per_layer<float, host_backend>>(); }
    SECTION("per head") { live_with_a_mapper<shared_per_head<float, host_backend>>(); }
    SECTION("packed") { live_with_a_mapper<shared_packed<float, host_backend>>(); }
}

TEST_CASE("the owner appends and reads while the mapper thread is at other layers") {
    using layer_type = shared_per_layer<float, probe_backend>;
    probe_backend memory;
    layer_type::pool_type pool{memory, {.chunk_size = 4_KiB}};
    const kv::model_shape shape{
        .layers = 32, .layer = {.kv_heads = 1, .key_width = 64, .value_width = 64, .max_rows = 600}};
    sequence<layer_type> one{pool, shape, {.tokens_a_growth = 16}};
    one.append(16);
    REQUIRE(one.cache.try_prepare(64));
    const std::size_t by_owner = memory.maps_by_owner();
    memory.delay_us = 5000; // 64 tensors: at least 320 ms
    mapper thread;
    ahead prepare{thread, one.cache};
    prepare.ask(80);
    REQUIRE(eventually([&] { return memory.maps_by_others() > 6; })); // at the third layer or behind it
    one.append(1);
    CHECK(one.cache.layer(0).rows(0) == 17);
    CHECK(one.cache.ready() == 64); // all this while
    thread.drain();
    CHECK(one.cache.ready() == 80);
    CHECK(memory.maps_by_owner() == by_owner);
    one.require_same();
}

TEST_CASE("where the mapper thread finds no memory the owner maps by himself") {
    using failing_host = adaptors::failing<host_backend>;
    using layer_type = shared_packed<float, failing_host>;
    host_backend host;
    failing_host backend{host};
    layer_type::pool_type pool{backend, {.chunk_size = 4_KiB}};
    const kv::model_shape shape{
        .layers = 4, .layer = {.kv_heads = 2, .key_width = 64, .value_width = 64, .max_rows = 600}};
    sequence<layer_type> one{pool, shape};
    const auto owner = std::this_thread::get_id();
    backend.fail_if(
        [owner](const adaptors::call& seen) {
            return seen.what == verb::map && std::this_thread::get_id() != owner;
        },
        errc::out_of_memory);
    mapper thread;
    ahead prepare{thread, one.cache};
    for (int token = 0; token < 200; ++token) {
        prepare.ask(one.cache.tokens() + 100);
        one.append(1);
    }
    thread.drain();
    CHECK(prepare.outcome() == errc::out_of_memory);
    one.require_same();
    CHECK(pool.verify());
}
