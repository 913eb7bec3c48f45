// SPDX-License-Identifier: Apache-2.0
//
// Between the model and the library's attention: attends over the rows of a cache in the type they are stored
// as. Knows nothing of weights.
#pragma once

#include "model/kv_cache.hpp"
#include "model/thread_pool.hpp"

#include <vtensor/attention/problem.hpp>

#include <cstddef>
#include <span>
#include <tuple>
#include <vector>

namespace decoder {

/// Attention of one layer. Every query goes to the library as a sequence of its own: so it is computed by the
/// same operations in a decode step and in a chunk of any length, and the length never changes a result.
class attention {
  public:
    explicit attention(std::size_t kv_heads);

    /// Takes what `count` queries need, so that attending allocates nothing.
    void make_room(std::size_t count);

    /// Causal attention of `count` queries, the last of which is at the last row of the cache: query i sees
    /// rows 0 … rows − count + i. `queries` and `out` are [count, heads, head dimension]; the heads share the
    /// key-value heads evenly. `count` is at most what there is room for. Refused with `invalid_argument`
    /// where the sizes disagree.
    [[nodiscard]] vtensor::status operator()(const kv_view& keys, const kv_view& values,
                                             std::span<const float> queries, std::size_t count,
                                             std::size_t heads, std::span<float> out,
                                             thread_pool& threads) noexcept;

  private:
    template <class T>
    struct descriptors {
        std::vector<vtensor::attention::kv_head<T>> heads;
        std::vector<vtensor::attention::sequence<T>> queries;
    };

    std::tuple<descriptors<float>, descriptors<vtensor::float16>, descriptors<vtensor::bfloat16>>
        descriptors_;
};

} // namespace decoder
