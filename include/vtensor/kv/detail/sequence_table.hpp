// SPDX-License-Identifier: Apache-2.0
//
// The sequences of a manager by their numbers, so that a number of one that was released is refused instead
// of taken for somebody else's.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/kv/detail/prefix_locks.hpp>
#include <vtensor/kv/detail/token_log.hpp>
#include <vtensor/kv/sequence.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// What a step touches comes first: one line of a processor's caches.
template <class Cache>
struct alignas(64) sequence {
    sequence_id id{};                    ///< none: the record is free
    cache_entry<Cache>* entry = nullptr; ///< while it runs
    std::uint64_t step = 0;              ///< the last one that it was part of
    sequence_state state = sequence_state::preempted;
    bool is_whole = true; ///< no row of it was evicted
    token_log tokens;     ///< with room for all that there may ever be
    sequence_options options{};
    std::uint64_t order = 0; ///< of creation
    lock_id lock{};          ///< on the prefix that it shares or has recorded
    std::size_t matched = 0;
    std::vector<std::byte> rows; ///< of a preempted one, where they were kept
};

/// Used by one thread. Finding is O(1). Records lie side by side; that of a sequence that is gone serves a
/// later one, room for its tokens included: once there were as many sequences at a time, adding one allocates
/// nothing.
template <class Cache>
class sequence_table {
  public:
    using value_type = sequence<Cache>;

    /// A new sequence with these tokens and room for `most`, which is always the same. `out_of_memory`.
    [[nodiscard]] result<value_type*> add(std::span<const token_id> tokens, std::size_t most) noexcept {
        try {
            if (free_.empty())
                add_slot(most, tokens.size());
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::create, 0, bytes{most * sizeof(token_id)}};
        }
        const std::uint32_t index = free_.back();
        free_.pop_back();
        value_type& made = at(index);
        made.tokens.add(tokens);
        made.id = sequence_id{(std::uint64_t{++generations_[index]} << 32) | index};
        made.order = ++last_order_;
        return &made;
    }
    void remove(sequence_id id) noexcept {
        const auto index = static_cast<std::uint32_t>(id);
        value_type& gone = at(index);
        gone.tokens.clear();
        token_log room = std::move(gone.tokens);
        gone = {};
        gone.tokens = std::move(room);
        free_.push_back(index); // there is room: it was taken from there
    }
    /// Null where there is none of that number.
    [[nodiscard]] value_type* find(sequence_id id) const noexcept {
        const auto index = static_cast<std::uint32_t>(id);
        if (index >= generations_.size() || at(index).id != id || id == sequence_id{})
            return nullptr;
        return &at(index);
    }

    [[nodiscard]] std::size_t size() const noexcept { return generations_.size() - free_.size(); }

    template <class Visit>
    void for_each(Visit visit) const {
        for (std::uint32_t index = 0; index < generations_.size(); ++index) {
            if (at(index).id != sequence_id{})
                visit(at(index));
        }
    }

  private:
    static constexpr std::size_t together = 32; ///< records that are allocated at a time
    /// Of a record's room for tokens, beside that of its first prompt.
    static constexpr std::size_t touched = (std::size_t{64} << 10) / sizeof(token_id);

    [[nodiscard]] value_type& at(std::uint32_t index) const noexcept {
        return blocks_[index / together][index % together];
    }
    void add_slot(std::size_t most, std::size_t prompt) {
        const auto index = static_cast<std::uint32_t>(generations_.size());
        free_.reserve(index + 1);
        generations_.reserve(index + 1);
        if (index == blocks_.size() * together)
            blocks_.push_back(std::make_unique<value_type[]>(together));
        at(index).tokens.reserve(most, prompt + touched, index);
        generations_.push_back(0);
        free_.push_back(index);
    }

    std::vector<std::unique_ptr<value_type[]>> blocks_; ///< stay where they are
    std::vector<std::uint32_t> generations_;            ///< by record, how often it was used
    std::vector<std::uint32_t> free_;                   ///< capacity for every record
    std::uint64_t last_order_ = 0;
};

} // namespace vtensor::kv::detail
