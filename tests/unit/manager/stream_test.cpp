// SPDX-License-Identifier: Apache-2.0
//
// A manager that knows the stream on which the rows are used: every verb is called while kernels that read
// and write them are still queued, each finds what it must, and no page is taken from under one.
#include "engine.hpp"

#include <support/stream_model.hpp>

#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

using device_type = stream_model<host_backend>;
using layer_type = shared_layer<device_type>;
using cache_type = kv::kv_cache<layer_type>;
using manager_type = kv::manager<cache_type>;
using tokens_type = std::vector<kv::token_id>;

constexpr std::size_t layers = engine<layer_type>::layers;
constexpr kv::layer_shape layer{2, 16, 16, 512}; // 32 tokens are a page of keys, and one of values
constexpr std::size_t a_page = engine<layer_type>::tokens_a_page;
constexpr std::size_t tensors = 2 * layers;

struct scene {
    explicit scene(bytes limit = {})
        : pool{device, {.limit = limit}},
          manager{manager_type::try_create(pool, {layers, layer}, engine<layer_type>::plain()).value()} {
        manager->set_stream(stream);
    }
    ~scene() {
        manager.reset(); // under what is still queued
        device.run_all();
        CHECK(wrong == 0);
        for (const std::string& violation : device.violations())
            FAIL_CHECK(violation);
        CHECK(pool.stats().in_use == bytes{0});
        CHECK(pool.verify());
    }

    kv::sequence_id create(const tokens_type& prompt, std::size_t matched, kv::salt_id salt = {}) {
        const auto placed = manager->try_create(prompt, {.salt = salt}).value();
        CHECK(placed.matched == matched);
        write(placed.id, matched);
        return placed.id;
    }
    void extend(kv::sequence_id id, const tokens_type& more) {
        const std::size_t before = manager->tokens(id).size();
        const kv::extension one{id, more};
        REQUIRE(manager->try_extend(std::span{&one, 1}));
        write(id, before);
    }

    /// Kernels that write the rows from `first` on.
    void write(kv::sequence_id id, std::size_t first) { write(id, first, manager->tokens(id).size()); }
    void write(kv::sequence_id id, std::size_t first, std::size_t last) {
        const auto tokens = manager->tokens(id);
        each(id, first, last,
             [all = tokens_type(tokens.begin(), tokens.end())](auto rows, std::size_t token, int tensor) {
                 for (std::size_t at = 0; at < rows.extents[1]; ++at)
                     rows(token, at) = value(all, token, tensor);
             });
    }
    /// Kernels that expect what those write, in every row.
    void read(kv::sequence_id id) {
        const auto tokens = manager->tokens(id);
        each(id, 0, tokens.size(),
             [this, all = tokens_type(tokens.begin(), tokens.end())](auto rows, std::size_t token,
                                                                     int tensor) {
                 for (std::size_t at = 0; at < rows.extents[1]; ++at)
                     wrong += rows(token, at) != value(all, token, tensor) ? 1u : 0u;
             });
    }
    void done() { device.run_all(); }

    host_backend host;
    device_type device{host};
    layer_type::pool_type pool;
    model_stream stream = device.make_stream();
    std::unique_ptr<manager_type> manager;
    std::size_t wrong = 0; ///< values that a reader found

  private:
    /// A row follows from its token and its place.
    static float value(const tokens_type& all, std::size_t token, int tensor) {
        return static_cast<float>(all[token] * 16 + tensor);
    }
    template <class Work>
    void each(kv::sequence_id id, std::size_t first, std::size_t last, const Work& work) {
        if (first == last)
            return;
        cache_type& cache = *manager->cache(id);
        int tensor = 0;
        for (std::size_t index = 0; index < layers; ++index) {
            for (std::size_t head = 0; head < layer.kv_heads; ++head) {
                for (const auto rows : {cache.keys(index, head), cache.values(index, head)}) {
                    const address start{&rows(first, 0)};
                    device.launch(stream, start, address{&rows(last - 1, layer.key_width - 1) + 1} - start,
                                  [=] {
                                      for (std::size_t token = first; token < last; ++token)
                                          work(rows, token, tensor);
                                  });
                    ++tensor;
                }
            }
        }
    }
};

} // namespace

TEST_CASE("a fork, and the end of a prefix inside a page, are copied behind the kernels that write them") {
    scene now;
    const auto parent = now.create(text(a_page + 8), 0);
    const auto child = now.manager->try_fork(parent).value();
    now.extend(parent, text(3, 2));
    now.extend(child, text(3, 3));
    now.read(parent);
    now.read(child);

    REQUIRE(now.manager->try_record(child)); // its rows are not written yet
    const auto like = now.create(joined(joined(text(a_page + 8), text(3, 3)), text(5, 4)), a_page + 11);
    const auto shorter = now.create(joined(text(a_page + 4), text(9, 5)), a_page + 4);
    now.read(like);
    now.read(shorter);
    CHECK(now.device.queued() > 0);
    now.done();
    CHECK(now.manager->verify());
}

TEST_CASE("pages of equal beginnings are exchanged after the kernels that use them") {
    scene now;
    const auto one = now.create(joined(text(2 * a_page), text(4, 2)), 0);
    const auto other = now.create(joined(text(2 * a_page), text(4, 3)), 0);
    REQUIRE(now.manager->try_record(one));
    now.read(other);
    const bytes before = now.pool.stats().in_use;
    REQUIRE(now.manager->try_record(other));
    CHECK(before - now.pool.stats().in_use == now.pool.chunk_size() * (2 * tensors));
    now.read(one);
    now.read(other);

    CHECK(now.manager->try_make_writable(one, 2 * a_page, 1).code() == errc::busy); // recorded
    now.extend(other, text(40, 4));
    now.read(other);
    now.done();
}

TEST_CASE("a shared page that is written is replaced after the kernels that use it") {
    scene now;
    const auto parent = now.create(text(2 * a_page), 0);
    const auto child = now.manager->try_fork(parent).value();
    now.read(parent);
    now.read(child);
    REQUIRE(now.manager->try_make_writable(child, 3, 2));
    now.write(child, 3, 5);
    now.read(child);
    now.read(parent);
    now.done();
}

TEST_CASE(
    "pages that kernels still read are given back after them, and nobody waits for a step or a release") {
    constexpr std::size_t pages = 6;
    scene now{bytes{4096} * (pages * tensors)};
    const auto first = now.create(text(4 * a_page), 0, kv::salt_id{1});
    now.done();
    const std::size_t waits = now.device.host_waits();
    for (int token = 0; token < 40; ++token) {
        now.extend(first, text(1, static_cast<std::uint64_t>(100 + token)));
        now.read(first);
    }
    REQUIRE(now.manager->try_release(first));
    CHECK(now.device.host_waits() == waits);
    CHECK(now.device.queued() > 0);

    // Another salt: its pages go through the pool.
    const auto second = now.create(text(5 * a_page, 7), 0, kv::salt_id{2});
    CHECK(now.device.host_waits() > waits);
    now.read(second);
    REQUIRE(now.manager->try_preempt(second));
    const auto third = now.create(text(5 * a_page, 8), 0, kv::salt_id{3});
    now.read(third);
    REQUIRE(now.manager->try_release(third));
    CHECK(now.manager->try_resume(second).value().matched == 0);
    now.write(second, 0);
    now.read(second);
    REQUIRE(now.manager->resize_limit(now.pool.stats().in_use));
}

TEST_CASE("caches of a longer life take the stream, too") {
    scene now;
    const auto early = now.create(text(a_page + 3), 0);
    now.done();
    const model_stream later = now.device.make_stream();
    now.stream = later;
    now.manager->set_stream(later);
    now.read(early);
    const auto copy = now.manager->try_fork(early).value();
    now.read(copy);
    REQUIRE(now.manager->try_release(early));
    CHECK(now.manager->verify());
}

TEST_CASE("rows that the CPU moves stay where they are until the kernels that read them are done") {
    scene now;
    const auto one = now.create(text(2 * a_page), 0);
    now.read(one);
    eviction::kept_rows kept;
    REQUIRE(kept.reset(layers, layer.kv_heads));
    for (std::size_t head = 0; head < layers * layer.kv_heads; ++head)
        REQUIRE(kept.add(std::vector<slot_type>{1, 5, 40, 63}));
    REQUIRE(now.manager->try_evict(one, kept));
    CHECK(now.device.queued() > 0);
    std::vector<defrag::plan> plans(layer.kv_heads);
    for (std::size_t index = 0; index < layers; ++index)
        REQUIRE(now.manager->cache(one)->try_defragment(index, defrag::compact{}, plans));
    CHECK(plans.front().rows_copied() > 0);
}
