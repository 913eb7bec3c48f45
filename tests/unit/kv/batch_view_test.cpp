// SPDX-License-Identifier: Apache-2.0
//
// A batch's arrays against the layers' own descriptions, and what is refused.
#include "cache_scene.hpp"

#include <vtensor/attention/problem.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/kv/batch_view.hpp>

#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr kv::model_shape model{
    .layers = 3, .layer = {.kv_heads = 4, .key_width = 16, .value_width = 24, .max_rows = 300}};

template <class T>
struct arrays {
    explicit arrays(std::size_t entries)
        : keys(entries), values(entries), rows(entries), positions(entries) {}
    [[nodiscard]] kv::batch_arrays<T> spans() { return {keys, values, rows, positions}; }

    std::vector<T*> keys;
    std::vector<T*> values;
    std::vector<std::size_t> rows;
    std::vector<const position_type*> positions;
};

/// Sequences of 0, 1, 70 and 150 tokens; of the last one rows were evicted, head by head.
template <class Layer>
struct batch {
    host_backend memory{};
    layer_pool<host_backend> pool{memory};
    std::vector<sequence<Layer>> sequences{};
    std::vector<kv::kv_cache<Layer>*> caches{};

    batch() {
        for (const std::size_t tokens : {0u, 1u, 70u, 150u}) {
            sequences.emplace_back(pool, model);
            sequences.back().append(tokens);
        }
        for (auto& one : sequences)
            caches.push_back(&one.cache);
    }
};

template <class Layer>
void is_what_the_layers_say() {
    using value_type = typename Layer::value_type;
    batch<Layer> here;
    here.sequences[3].evict(0.5);
    arrays<value_type> mine{16};
    std::vector<attention::kv_head<value_type>> heads(4);
    for (std::size_t layer = 0; layer < model.layers; ++layer) {
        REQUIRE(here.caches[2]->try_append(1)); // not in the layers yet when they are described
        const auto view = kv::describe_heads<Layer>(here.caches, layer, mine.spans());
        REQUIRE(view);
        CHECK(view->entries == 16);
        CHECK(view->heads == 1);
        for (std::size_t entry = 0; entry < 16; ++entry) {
            auto& cache = *here.caches[entry / 4];
            REQUIRE(cache.layer(layer).describe(heads));
            const auto& expected = heads[entry % 4];
            CHECK(view->keys[entry] == expected.keys);
            CHECK(view->values[entry] == expected.values);
            CHECK(view->rows[entry] == expected.rows);
            CHECK(view->positions[entry] == expected.positions);
            CHECK(view->key_stride == expected.key_stride);
            CHECK(view->value_stride == expected.value_stride);
        }
        CHECK(view->rows[8] == 70 + layer + 1);
        CHECK(view->rows[0] == 0);
    }
}

} // namespace

TEST_CASE("the heads of a batch are described as the layers describe them") {
    SECTION("per layer") { is_what_the_layers_say<per_layer<float, host_backend>>(); }
    SECTION("per head") { is_what_the_layers_say<per_head<float16, host_backend>>(); }
    SECTION("packed") { is_what_the_layers_say<packed<float, host_backend>>(); }
}

TEST_CASE("where heads share rows one entry a sequence is enough, until rows are evicted") {
    using layer_type = per_layer<float, host_backend>;
    batch<layer_type> here;
    arrays<float> mine{4};
    std::vector<attention::kv_head<float>> heads(4);
    const auto view = kv::describe_sequences<layer_type>(here.caches, 1, mine.spans());
    REQUIRE(view);
    CHECK(view->entries == 4);
    CHECK(view->heads == 4);
    CHECK(view->positions == nullptr);
    for (std::size_t entry = 0; entry < 4; ++entry) {
        REQUIRE(here.caches[entry]->layer(1).describe(heads));
        for (std::size_t head = 0; head < 4; ++head) {
            CHECK(view->keys[entry] + head * model.layer.key_width == heads[head].keys);
            CHECK(view->values[entry] + head * model.layer.value_width == heads[head].values);
            CHECK(view->rows[entry] == heads[head].rows);
        }
        CHECK(view->key_stride == heads[0].key_stride);
        CHECK(view->value_stride == heads[0].value_stride);
    }
    here.sequences[2].evict(0.5);
    CHECK(kv::describe_sequences<layer_type>(here.caches, 1, mine.spans()).code() == errc::unsupported);
}

TEST_CASE("a batch that does not fit is refused") {
    using layer_type = per_layer<float, host_backend>;
    batch<layer_type> here;
    const std::span<kv::kv_cache<layer_type>* const> caches{here.caches};
    const auto refusal = [&](std::size_t entries, std::size_t layer, auto of) {
        arrays<float> mine{entries};
        return kv::describe_heads<layer_type>(of, layer, mine.spans()).code();
    };
    CHECK(refusal(15, 0, caches) == errc::invalid_argument);
    CHECK(refusal(16, 3, caches) == errc::invalid_argument);
    CHECK(refusal(16, 0, caches) == errc::ok);
    CHECK(refusal(0, 0, caches.first(0)) == errc::ok); // an empty batch has nothing to describe
    auto other_shape = model;
    other_shape.layer.value_width = 16;
    sequence<layer_type> other{here.pool, other_shape};
    here.caches.push_back(&other.cache);
    CHECK(refusal(20, 0, std::span<kv::kv_cache<layer_type>* const>{here.caches}) == errc::invalid_argument);
    arrays<float> mine{4};
    CHECK(kv::describe_sequences<layer_type>(here.caches, 0, mine.spans()).code() == errc::invalid_argument);
}
