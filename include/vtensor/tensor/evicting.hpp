// SPDX-License-Identifier: Apache-2.0
//
// The part of a tensor that evicts: which rows live, and the verbs that let rows die and bring the others
// together. How that is done is in together.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/slot_map.hpp>
#include <vtensor/tensor/defragmenting.hpp>
#include <vtensor/tensor/together.hpp>

#include <cstddef>
#include <limits>
#include <span>
#include <utility>

namespace vtensor::detail {

/// Base of tensors with an eviction policy. A row that is evicted is dead: it keeps its slot, no query sees
/// it, and its memory stays until the rows are brought together; see docs/defragmentation.md. `Stream` is
/// `no_stream` where the backend has none.
template <class Tensor, class Stream>
class evicting : public defragmenting<evicting<Tensor, Stream>, Stream> {
    friend class defragmenting<evicting, Stream>;

  public:
    /// All rows die but those in `kept`: slots of live rows, sorted, none twice; otherwise
    /// `invalid_argument`. Moves nothing and calls no backend. O(rows).
    [[nodiscard]] status try_evict(std::span<const slot_type> kept) noexcept {
        return evict_together(kept, self().part());
    }
    void evict(std::span<const slot_type> kept) { throw_if_failed(try_evict(kept)); }

    /// All rows die but those that a policy of scope `tensor` keeps: it chooses from one layer with one head,
    /// into `kept`. What the policy refuses is refused, and nothing has changed.
    template <class Policy, class Evidence, class Workspace, class Kept>
    [[nodiscard]] status
    try_evict(const Policy& policy, std::span<const Evidence> layer, Workspace& workspace,
              Kept& kept) noexcept requires choosing_eviction_policy<Policy, Evidence, Workspace, Kept> {
        static_assert(
            Policy::scope == eviction_scope::tensor,
            "this policy looks at several tensors: let it choose for all of them, then evict from each");
        const status outcome = policy.choose(layer, workspace, kept);
        return outcome ? try_evict(kept.of(0, 0)) : outcome;
    }

    /// The position of each row, by slot, `no_position` where it is dead. Empty until the first eviction:
    /// then the position of a row is its slot.
    [[nodiscard]] std::span<const position_type> positions() const noexcept { return slots_.positions(); }
    [[nodiscard]] std::size_t live_rows() const noexcept { return slots_.live(); }
    /// Of the row that is appended next. Shrinking takes it back to that of the first row that goes, where no
    /// later one stays.
    [[nodiscard]] position_type next_position() const noexcept { return slots_.next(); }

    /// Book-keeping for `rows` rows, without their memory. `positions()` stays valid.
    [[nodiscard]] status try_prepare_slots(std::size_t rows) noexcept { return prepare_slots(rows); }

    /// Forgets the rows at position `first` and later, and dead rows behind the last one that stays. The next
    /// row has position `first`. All memory stays mapped for rows to come. O(rows) after an eviction.
    void take_back(position_type first) noexcept {
        const auto here = self().part();
        here.slots->take_back(first);
        *here.rows = here.slots->rows();
    }

  protected:
    evicting() = default;
    evicting(evicting&& other) noexcept : slots_{std::exchange(other.slots_, {})} {}
    evicting& operator=(evicting&& other) noexcept {
        slots_ = std::exchange(other.slots_, {});
        return *this;
    }
    ~evicting() = default;

    /// Room for the slots of `rows` rows, so that `resize_slots` cannot fail.
    [[nodiscard]] status prepare_slots(std::size_t rows) noexcept { return slots_.prepare(rows); }
    [[nodiscard]] std::size_t prepared_slots() const noexcept { return slots_.prepared(); }
    void resize_slots(std::size_t rows) noexcept { slots_.resize(rows); }
    [[nodiscard]] slot_map& slots() noexcept { return slots_; }
    using slots_type = slot_map;
    /// Those of the first rows, for another tensor to take.
    [[nodiscard]] status copy_slots(std::size_t rows, slot_map& into) const noexcept {
        return into.copy_prefix(slots_, rows);
    }
    void take_slots(slot_map&& slots) noexcept { slots_ = std::move(slots); }
    [[nodiscard]] bool verify_slots(std::size_t rows) const noexcept {
        return slots_.verify() && slots_.rows() == rows;
    }

  private:
    template <class Policy>
    status run(const Policy& policy, defrag::plan& moves, const Stream* stream) noexcept {
        return defragment_together(policy, moves, stream, self().part());
    }

    [[nodiscard]] Tensor& self() noexcept { return static_cast<Tensor&>(*this); }

    slot_map slots_;
};

/// In its place where no row is ever evicted.
class not_evicting {
  protected:
    [[nodiscard]] static constexpr status prepare_slots(std::size_t) noexcept { return {}; }
    [[nodiscard]] static constexpr std::size_t prepared_slots() noexcept {
        return std::numeric_limits<std::size_t>::max();
    }
    static constexpr void resize_slots(std::size_t) noexcept {}
    struct slots_type {};
    [[nodiscard]] static constexpr status copy_slots(std::size_t, slots_type&) noexcept { return {}; }
    static constexpr void take_slots(slots_type&&) noexcept {}
    [[nodiscard]] static constexpr bool verify_slots(std::size_t) noexcept { return true; }
};

} // namespace vtensor::detail
