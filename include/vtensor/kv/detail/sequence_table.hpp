// SPDX-License-Identifier: Apache-2.0
//
// The sequences of a manager by their numbers, so that a number of one that was released is refused instead
// of taken for somebody else's.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/kv/detail/prefix_locks.hpp>
#include <vtensor/kv/detail/reserve_more.hpp>
#include <vtensor/kv/detail/token_log.hpp>
#include <vtensor/kv/sequence.hpp>
#include <vtensor/kv/token_counts.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

/// What a step touches comes first: one line of a processor's caches, and one that the newest token is in.
template <class Cache>
struct alignas(64) sequence {
    sequence_id id{};       ///< none: the record is free
    token_counts counts;    ///< its cache's, while it runs
    std::uint64_t step = 0; ///< the last one that it was part of
    sequence_state state = sequence_state::preempted;
    bool is_whole = true;                ///< no row of it was evicted
    cache_entry<Cache>* entry = nullptr; ///< while it runs
    token_log tokens;                    ///< with room for all that there may ever be
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

    /// Sequences may have `most` tokens. `memory` may be null: operator new.
    sequence_table(std::size_t most, std::pmr::memory_resource* memory) noexcept
        : memory_{memory != nullptr ? memory : std::pmr::new_delete_resource()},
          room_{token_log::room_for(most)} {}
    sequence_table(const sequence_table&) = delete;
    sequence_table& operator=(const sequence_table&) = delete;
    ~sequence_table() {
        for (std::uint32_t index = 0; index < generations_.size(); ++index)
            std::destroy_at(&at(index));
        for (std::byte* const block : blocks_)
            memory_->deallocate(block, block_size(), alignof(value_type));
    }

    /// A new sequence with these tokens. `out_of_memory`.
    [[nodiscard]] result<value_type*> add(std::span<const token_id> tokens) noexcept {
        try {
            if (free_.empty())
                add_record(tokens.size());
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::create, 0, bytes{block_size()}};
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
        std::destroy_at(&gone);
        prepare(index);
        free_.push_back(index); // there is room: it was taken from there
    }
    /// Null where there is none of that number.
    [[nodiscard]] value_type* find(sequence_id id) const noexcept {
        const auto index = static_cast<std::uint32_t>(id);
        if (index >= generations_.size() || at(index).id != id || id == sequence_id{})
            return nullptr;
        return &at(index);
    }

    /// One that is there.
    [[nodiscard]] value_type& operator[](sequence_id id) const noexcept {
        return at(static_cast<std::uint32_t>(id));
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
    static constexpr std::size_t together = 32; ///< records in a block, their tokens' rooms behind them
    /// Of a room, beside that of its first prompt: else the step that comes there first would pay for a page
    /// fault.
    static constexpr std::size_t touched = std::size_t{64} << 10;

    [[nodiscard]] std::size_t block_size() const noexcept { return together * (sizeof(value_type) + room_); }
    [[nodiscard]] std::byte* record(std::uint32_t index) const noexcept {
        return blocks_[index / together] + index % together * sizeof(value_type);
    }
    [[nodiscard]] value_type& at(std::uint32_t index) const noexcept {
        return *std::launder(reinterpret_cast<value_type*>(record(index)));
    }
    [[nodiscard]] std::byte* room(std::uint32_t index) const noexcept {
        return blocks_[index / together] + together * sizeof(value_type) + index % together * room_;
    }
    /// A record of no sequence.
    void prepare(std::uint32_t index) noexcept {
        value_type* const made = std::construct_at(reinterpret_cast<value_type*>(record(index)));
        made->tokens.use(reinterpret_cast<token_id*>(room(index)), index);
    }
    void add_record(std::size_t prompt) {
        const auto index = static_cast<std::uint32_t>(generations_.size());
        reserve_more(free_, index + 1);
        reserve_more(generations_, index + 1);
        if (index == blocks_.size() * together) {
            reserve_more(blocks_, blocks_.size() + 1);
            blocks_.push_back(static_cast<std::byte*>(memory_->allocate(block_size(), alignof(value_type))));
        }
        std::fill_n(room(index), std::min(room_, prompt * sizeof(token_id) + touched), std::byte{0});
        prepare(index);
        generations_.push_back(0);
        free_.push_back(index);
    }

    std::pmr::memory_resource* memory_;
    std::size_t room_;                       ///< bytes of one sequence's tokens
    std::vector<std::byte*> blocks_;         ///< the records stay where they are
    std::vector<std::uint32_t> generations_; ///< by record, how often it was used
    std::vector<std::uint32_t> free_;        ///< capacity for every record
    std::uint64_t last_order_ = 0;
};

} // namespace vtensor::kv::detail
