// SPDX-License-Identifier: Apache-2.0
//
// The keys and values of one layer of one sequence, whatever their layout. Three layouts satisfy it:
// per_layer_cache.hpp, per_head_cache.hpp and packed_cache.hpp; docs/layouts.md says what each wastes.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/kv/layer_shape.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/sharing.hpp>

#include <concepts>
#include <cstddef>
#include <span>

namespace vtensor::kv {

/// Every KV head has rows of its own number, a key and a value each, and positions. All verbs change nothing
/// when they fail, except that `try_defragment` moves head by head: of each head everything or nothing; and
/// `try_trim`, which keeps what it unmapped before.
///
/// - `keys(h)`, `values(h)`: the rows of a head, [slot, width]; valid until rows are added or moved.
/// - `positions(h)`: by slot, `no_position` where dead; empty: the position of a row is its slot.
/// - `describe(heads)`: what attention reads, one entry a head.
/// - `try_append(n)`: n more rows at the end of every head, at the next positions; their content is
///   unspecified.
/// - `remove_last(n)`: takes the n rows that were appended last back from every head; cannot fail.
/// - `take_back(p)`: forgets the rows at position p and later; cannot fail, and unmaps nothing. Rows that
///   were moved behind others leave a dead slot.
/// - `try_prepare(n)`: memory and book-keeping for n more rows, without adding them; and its steps, for
///   several layers together. `try_plan(n)`: book-keeping, and how much memory it takes. `try_map()`: maps
///   that; meanwhile another thread may read rows and positions, and add rows that were prepared before.
///   Where it fails, and where another layer failed, `undo_map()` takes back what it mapped; where memory is
///   short, `drop_surplus()` what the growth policy merely wished for. Not while a page is shared on which
///   the rows will lie: `try_own(n, steps)` makes those writable first; `must_own(n)` says whether there are
///   any.
/// - `add_prepared(n)`: adds as many of the `prepared()` rows. Touches no memory but that of rows that move.
/// - `prepared()`: how many rows `try_append` cannot fail with, one by one or together. O(heads).
/// - `try_trim(n)`: unmaps what n more rows would not need. Rows may move.
/// - `pages_of(shape, page, n)`: what a layer has mapped for n rows a head, appended at once and not evicted.
/// - `try_share_prefix_of(other, rows, rule, steps)`: the first rows of every head of another layer, or as
///   many as it has, become this layer's, which has none. Where another layer fails, `undo_share()`, then
///   `steps.undo()`; else `steps.finish()`.
/// - `rows_of_pages(shape, page)`: the smallest number of rows that fill whole pages, which sharing need not
///   copy; 0 where no page is ever shared.
/// - `try_merge_prefix_of(other, rows, steps)`: the first rows of every head, which are equal to those of
///   another layer, slot by slot, lie on the other's pages as far as they fill pages that can be shared. Else
///   as above, but that there is nothing to undo beside the steps.
/// - `try_make_writable(first, count, steps)`: the pages of these slots, of every head that has them, may be
///   written.
/// - `try_evict(kept, layer)`: in every head all rows die but those that `kept` has for that layer.
///   `try_prepare_eviction`, directly before it, says whether it may, so that it cannot fail.
/// - `try_defragment(policy, plans)`: brings the live rows of every head together; `plans`, one a head,
///   receives the moves; where it fails, those of the heads that were not moved are empty.
template <class C>
concept layer_cache = attention::attention_element<typename C::value_type> && std::movable<C> &&
    requires(C& cache, const C& constant, std::size_t number, position_type position,
             const eviction::kept_rows& kept, std::span<attention::kv_head<typename C::value_type>> heads,
             std::span<defrag::plan> plans, typename C::steps_type& steps) {
    { constant.shape() }
    noexcept->std::same_as<const layer_shape&>;
    { constant.rows(number) }
    noexcept->std::same_as<std::size_t>;
    { constant.live_rows(number) }
    noexcept->std::same_as<std::size_t>;
    { constant.positions(number) }
    noexcept->std::same_as<std::span<const position_type>>;
    { constant.next_position() }
    noexcept->std::same_as<position_type>;
    { cache.keys(number) }
    noexcept->std::same_as<tensor_view<typename C::value_type, 2>>;
    { cache.values(number) }
    noexcept->std::same_as<tensor_view<typename C::value_type, 2>>;
    { cache.try_append(number) }
    noexcept->std::same_as<status>;
    { cache.remove_last(number) }
    noexcept->std::same_as<void>;
    { cache.take_back(position) }
    noexcept->std::same_as<void>;
    { cache.try_prepare(number) }
    noexcept->std::same_as<status>;
    { cache.try_plan(number) }
    noexcept->std::same_as<status>;
    { cache.try_map() }
    noexcept->std::same_as<status>;
    { cache.undo_map() }
    noexcept->std::same_as<void>;
    { cache.drop_surplus() }
    noexcept->std::same_as<void>;
    { constant.must_own(number) }
    noexcept->std::same_as<bool>;
    { cache.try_own(number, steps) }
    noexcept->std::same_as<status>;
    { cache.try_make_writable(number, number, steps) }
    noexcept->std::same_as<status>;
    { cache.try_share_prefix_of(cache, number, sharing::map_all{}, steps) }
    noexcept->std::same_as<status>;
    { C::pages_of(constant.shape(), bytes{}, number) }
    noexcept->std::same_as<bytes>;
    { C::rows_of_pages(constant.shape(), bytes{}) }
    noexcept->std::same_as<std::size_t>;
    { cache.try_merge_prefix_of(cache, number, steps) }
    noexcept->std::same_as<status>;
    { cache.undo_share() }
    noexcept->std::same_as<void>;
    { cache.add_prepared(number) }
    noexcept->std::same_as<void>;
    { constant.prepared() }
    noexcept->std::same_as<std::size_t>;
    { cache.try_trim(number) }
    noexcept->std::same_as<status>;
    { constant.describe(heads) }
    noexcept->std::same_as<status>;
    { cache.try_prepare_eviction(kept, number) }
    noexcept->std::same_as<status>;
    { cache.try_evict(kept, number) }
    noexcept->std::same_as<status>;
    { cache.try_defragment(defrag::compact{}, plans) }
    noexcept->std::same_as<status>;
    { constant.shared_bytes(number) }
    noexcept->std::same_as<bytes>;
    { constant.figures() }
    noexcept->std::same_as<layer_figures>;
    { constant.verify() }
    noexcept->std::same_as<bool>;
};

} // namespace vtensor::kv
