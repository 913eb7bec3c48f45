// SPDX-License-Identifier: Apache-2.0
//
// What attention is asked to compute, as plain data: a batch of sequences, each with its queries, its outputs
// and one descriptor a KV head. A descriptor is a pointer, a stride and a number of rows, so that one kernel
// reads every layout of the cache. Nothing here owns memory, allocates or computes.
#pragma once

#include <vtensor/core/element.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/rows.hpp>
#include <vtensor/view.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace vtensor::attention {

/// What queries, keys and values may be stored as. Sums are float32 or better whatever the storage.
template <class T>
concept attention_element = std::same_as<T, float> || std::same_as<T, float16> || std::same_as<T, bfloat16>;

using vtensor::no_position;
using vtensor::position_type;

/// The keys and values of one KV head of one sequence, as rows of `T`. Elements of a row are contiguous; rows
/// may lie any number of elements apart and need no alignment beyond that of `T`.
template <attention_element T>
struct kv_head {
    const T* keys = nullptr;         ///< row 0 of the keys; may be null where there are no rows
    const T* values = nullptr;       ///< row 0 of the values; may be null where there are no rows
    std::ptrdiff_t key_stride = 0;   ///< elements from one row of keys to the next
    std::ptrdiff_t value_stride = 0; ///< elements from one row of values to the next
    std::size_t rows = 0;            ///< heads of one layer may differ
    /// The position of every row, in any order; null: row r has position r. Rows at `no_position` are evicted
    /// ones: no query sees them, whatever the options say.
    const position_type* positions = nullptr;
};

/// One sequence: its queries attend to its own keys and values. Query head h reads KV head h / G, where G is
/// the number of query heads divided by the number of KV heads (grouped-query attention).
template <attention_element T, attention_element Query = float>
struct sequence {
    tensor_view<const Query, 3> queries; ///< [query, query head, key width]
    std::span<const kv_head<T>> heads;   ///< one a KV head
    tensor_view<float, 3> output;        ///< [query, query head, value width], overwritten
    /// The position of the first query; the others follow it one by one. Where it is absent the queries are
    /// the last tokens: the last one has the position of the last row of the longest head. It must be given
    /// where a head has `positions`.
    std::optional<position_type> first_position{};
    /// Where `data` is not null: [query head, W, row], W ≤ queries. Receives the softmax probabilities of the
    /// last W queries; rows that a query does not see, and those beyond the rows of its head, become 0.
    tensor_view<float, 3> scores{};
};

/// `options::window` where there is no window.
inline constexpr std::size_t no_window = std::numeric_limits<std::size_t>::max();

/// How every sequence of a problem is attended to.
struct options {
    /// What the products of query and key are multiplied by; absent: 1/√(key width).
    std::optional<float> scale{};
    /// A query sees no key of a later position.
    bool causal = true;
    /// A query at position p sees the positions above p − window, and the sinks. At least 1.
    std::size_t window = no_window;
    /// Positions below `sinks` stay visible behind the window (attention sinks, arXiv 2309.17453).
    std::size_t sinks = 0;
};

/// A ragged batch: any number of sequences, each of its own length, 0 and 1 included. A query that sees no
/// row gets an output of zeros.
template <attention_element T, attention_element Query = float>
struct problem {
    std::span<const sequence<T, Query>> sequences;
    vtensor::attention::options options{};
};

/// Describes the heads of keys and values held as [row, KV head, width] views, one descriptor a head, into
/// `heads`. `positions`, where not null, belongs to all heads.
/// Errors: `invalid_argument` where the views disagree, where `heads` has not exactly one entry a KV head, or
/// where a width is not contiguous; `heads` is unchanged then.
template <attention_element T>
[[nodiscard]] constexpr status describe_heads(std::span<kv_head<T>> heads,
                                              tensor_view<const std::type_identity_t<T>, 3> keys,
                                              tensor_view<const std::type_identity_t<T>, 3> values,
                                              const position_type* positions = nullptr) noexcept {
    const auto contiguous = [](const auto& view) { return view.strides[2] == 1 || view.extents[2] <= 1; };
    if (keys.extents[0] != values.extents[0] || keys.extents[1] != values.extents[1] ||
        heads.size() != keys.extents[1] || !contiguous(keys) || !contiguous(values))
        return error{.code = errc::invalid_argument, .where = verb::attend};
    const auto first_row = [](const auto& view, std::size_t head) { // null where there are no rows
        return view.data == nullptr ? view.data
                                    : view.data + static_cast<std::ptrdiff_t>(head) * view.strides[1];
    };
    for (std::size_t head = 0; head < heads.size(); ++head) {
        heads[head] = {.keys = first_row(keys, head),
                       .values = first_row(values, head),
                       .key_stride = keys.strides[0],
                       .value_stride = values.strides[0],
                       .rows = keys.extents[0],
                       .positions = positions};
    }
    return {};
}

} // namespace vtensor::attention
