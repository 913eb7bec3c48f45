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
    /// Takes what `count` queries need, so that attending allocates nothing.
    void make_room(std::size_t count);

    /// Causal attention of `count` queries, the first of which is at position `first`. `queries` and `out`
    /// are [count, heads, head dimension]; the heads share the key-value heads evenly. `scores`, where it has
    /// data, receives the probabilities of its last queries. `count` is at most what there is room for.
    /// Refused with `invalid_argument` where the sizes disagree.
    [[nodiscard]] vtensor::status operator()(const kv_heads& rows, std::span<const float> queries,
                                             std::size_t first, std::size_t count, std::size_t heads,
                                             std::span<float> out,
                                             const vtensor::tensor_view<float, 3>& scores,
                                             thread_pool& threads) noexcept;

  private:
    template <class T>
    using described = std::vector<vtensor::attention::sequence<T>>; // one a query

    std::tuple<described<float>, described<vtensor::float16>, described<vtensor::bfloat16>> queries_;
};

} // namespace decoder
