// SPDX-License-Identifier: Apache-2.0
//
// Tensors that hold the same tokens, the keys and the values of a layer for example, evicted and defragmented
// by one decision: all of them, or none.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/tensor/defragmenting.hpp>
#include <vtensor/tensor/together.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <span>
#include <tuple>
#include <type_traits>

namespace vtensor {

/// Refers to tensors of one backend, with equal rows and positions but any rows' and pages' sizes; it owns
/// nothing and costs nothing to make. `invalid_argument` where the tensors are not alike. A policy that
/// counts bytes counts those of all tensors together.
template <class... Tensor>
class tensor_group
    : public detail::defragmenting<tensor_group<Tensor...>,
                                   typename std::tuple_element_t<0, std::tuple<Tensor...>>::stream_type> {
    static_assert(sizeof...(Tensor) > 0, "a group has at least one tensor");
    using first_type = std::tuple_element_t<0, std::tuple<Tensor...>>;
    static_assert((std::is_same_v<typename Tensor::backend_type, typename first_type::backend_type> && ...),
                  "the tensors of a group are on one backend");

  public:
    using backend_type = typename first_type::backend_type;
    using stream_type = typename first_type::stream_type;

    explicit tensor_group(Tensor&... tensors) noexcept : tensors_{&tensors...} {}

    /// Whether `try_evict` may be called with the same rows; takes the memory for it, so that it cannot fail
    /// afterwards. For several groups that evict together.
    [[nodiscard]] status try_prepare_eviction(std::span<const slot_type> kept) noexcept {
        return std::apply(
            [&](Tensor*... one) { return detail::prepare_eviction_together(kept, one->part()...); },
            tensors_);
    }
    /// As `virtual_tensor::try_evict`, on each.
    [[nodiscard]] status try_evict(std::span<const slot_type> kept) noexcept {
        return std::apply([&](Tensor*... one) { return detail::evict_together(kept, one->part()...); },
                          tensors_);
    }
    void evict(std::span<const slot_type> kept) { throw_if_failed(try_evict(kept)); }

  private:
    friend class detail::defragmenting<tensor_group, stream_type>;

    /// As of one tensor, all by one plan.
    template <class Policy>
    status run(const Policy& policy, defrag::plan& moves, const stream_type* stream) noexcept {
        return std::apply(
            [&](Tensor*... one) {
                return detail::defragment_together(policy, moves, stream, one->part()...);
            },
            tensors_);
    }

    std::tuple<Tensor*...> tensors_;
};

} // namespace vtensor
