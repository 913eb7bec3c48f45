// SPDX-License-Identifier: Apache-2.0
//
// One layer of a batch of sequences as arrays that a kernel indexes: where keys and values begin, how many
// rows there are, how far they lie apart. The arrays are the caller's, on the host, pinned if he likes;
// nothing is allocated and nothing is copied to a device.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/kv/kv_cache.hpp>
#include <vtensor/kv/layer_cache.hpp>

#include <cstddef>
#include <span>
#include <type_traits>

namespace vtensor::kv {

/// What a kernel receives: plain pointers and numbers. Entry e is a sequence with all its heads, or one head:
/// head e % kv_heads of sequence e / kv_heads. Valid until a cache of the batch gets tokens or its rows move.
template <attention::attention_element T>
struct batch_view {
    T* const* keys = nullptr;   ///< by entry: row 0
    T* const* values = nullptr; ///< by entry: row 0
    const std::size_t* rows = nullptr;
    /// By entry: the position of every row, null where it is the row's number. Null: no entry has any.
    const position_type* const* positions = nullptr;
    std::size_t entries = 0;
    std::size_t heads = 0;           ///< of one entry: 1, or all, each right behind the one before
    std::ptrdiff_t key_stride = 0;   ///< elements from one row of keys to the next
    std::ptrdiff_t value_stride = 0; ///< elements from one row of values to the next
};
static_assert(std::is_trivially_copyable_v<batch_view<float>>);

/// The caller's arrays, at least one element an entry each.
template <attention::attention_element T>
struct batch_arrays {
    std::span<T*> keys;
    std::span<T*> values;
    std::span<std::size_t> rows;
    std::span<const position_type*> positions{}; ///< not used by `describe_sequences`

    [[nodiscard]] constexpr bool have(std::size_t entries) const noexcept {
        return keys.size() >= entries && values.size() >= entries && rows.size() >= entries;
    }
};

namespace detail {

/// Whether a kernel can take the caches in one launch: there is a layer `layer` in each, of the same shape.
template <layer_cache Layer>
[[nodiscard]] bool are_of_one_shape(std::span<kv_cache<Layer>* const> caches, std::size_t layer) noexcept {
    for (const kv_cache<Layer>* cache : caches) {
        const layer_shape& one = cache->shape().layer;
        const layer_shape& first = caches[0]->shape().layer;
        if (layer >= cache->shape().layers || one.kv_heads != first.kv_heads ||
            one.key_width != first.key_width || one.value_width != first.value_width)
            return false;
    }
    return true;
}

} // namespace detail

/// One entry a head: any layout, heads of any lengths. `invalid_argument` where an array is too short, or the
/// caches differ in shape. O(sequences · heads).
template <layer_cache Layer>
[[nodiscard]] result<batch_view<typename Layer::value_type>>
describe_heads(std::span<kv_cache<Layer>* const> caches, std::size_t layer,
               const batch_arrays<typename Layer::value_type>& arrays) noexcept {
    const std::size_t heads = caches.empty() ? 0 : caches[0]->shape().layer.kv_heads;
    batch_view<typename Layer::value_type> view{.keys = arrays.keys.data(),
                                                .values = arrays.values.data(),
                                                .rows = arrays.rows.data(),
                                                .positions = arrays.positions.data(),
                                                .entries = caches.size() * heads,
                                                .heads = 1};
    if (!arrays.have(view.entries) || arrays.positions.size() < view.entries ||
        !detail::are_of_one_shape(caches, layer))
        return error{errc::invalid_argument, verb::view, 0, bytes{0}};
    std::size_t entry = 0;
    for (kv_cache<Layer>* cache : caches) {
        for (std::size_t head = 0; head < heads; ++head, ++entry) {
            const auto keys = cache->keys(layer, head);
            const auto values = cache->values(layer, head);
            const auto positions = cache->layer(layer).positions(head);
            arrays.keys[entry] = keys.data;
            arrays.values[entry] = values.data;
            arrays.rows[entry] = keys.extents[0];
            arrays.positions[entry] = positions.empty() ? nullptr : positions.data();
            view.key_stride = keys.strides[0];
            view.value_stride = values.strides[0];
        }
    }
    return view;
}

/// One entry a sequence, for layouts where the heads of a row lie side by side, and as long as nothing is
/// evicted: otherwise `unsupported`. `invalid_argument` as above. O(sequences · heads).
template <layer_cache Layer>
requires(Layer::heads_share_rows)
    [[nodiscard]] result<batch_view<typename Layer::value_type>> describe_sequences(
        std::span<kv_cache<Layer>* const> caches, std::size_t layer,
        const batch_arrays<typename Layer::value_type>& arrays) noexcept {
    const std::size_t heads = caches.empty() ? 0 : caches[0]->shape().layer.kv_heads;
    batch_view<typename Layer::value_type> view{.keys = arrays.keys.data(),
                                                .values = arrays.values.data(),
                                                .rows = arrays.rows.data(),
                                                .entries = caches.size(),
                                                .heads = heads};
    if (!arrays.have(view.entries) || !detail::are_of_one_shape(caches, layer))
        return error{errc::invalid_argument, verb::view, 0, bytes{0}};
    for (std::size_t entry = 0; entry < caches.size(); ++entry) {
        const Layer& rows = caches[entry]->layer(layer);
        for (std::size_t head = 0; head < heads; ++head)
            if (rows.rows(head) != rows.rows(0) || !rows.positions(head).empty())
                return error{errc::unsupported, verb::view, 0, bytes{0}};
        const auto keys = caches[entry]->keys(layer, 0);
        const auto values = caches[entry]->values(layer, 0);
        arrays.keys[entry] = keys.data;
        arrays.values[entry] = values.data;
        arrays.rows[entry] = keys.extents[0];
        view.key_stride = keys.strides[0];
        view.value_stride = values.strides[0];
    }
    return view;
}

} // namespace vtensor::kv
