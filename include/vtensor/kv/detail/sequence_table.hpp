// SPDX-License-Identifier: Apache-2.0
//
// The sequences of a manager by their numbers, so that a number of one that was released is refused instead
// of taken for somebody else's.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/kv/detail/prefix_locks.hpp>
#include <vtensor/kv/sequence.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::kv::detail {

template <class Cache>
struct sequence {
    sequence_id id{};
    sequence_options options{};
    std::uint64_t order = 0; ///< of creation
    sequence_state state = sequence_state::preempted;
    cache_entry<Cache>* entry = nullptr; ///< while it runs
    lock_id lock{};                      ///< on the prefix that it shares or has recorded
    std::size_t matched = 0;
    bool is_whole = true;         ///< no row of it was evicted
    std::uint64_t step = 0;       ///< the last one that it was part of
    std::vector<token_id> tokens; ///< with room for all that there may ever be
    std::vector<std::byte> rows;  ///< of a preempted one, where they were kept
};

/// Used by one thread. Finding is O(1).
template <class Cache>
class sequence_table {
  public:
    using value_type = sequence<Cache>;

    /// A new sequence with these tokens and room for `most`. `out_of_memory`.
    [[nodiscard]] result<value_type*> add(std::span<const token_id> tokens, std::size_t most) noexcept {
        try {
            auto made = std::make_unique<value_type>();
            made->tokens.reserve(most);
            made->tokens.assign(tokens.begin(), tokens.end());
            if (free_.empty()) {
                free_.reserve(slots_.size() + 1);
                slots_.emplace_back();
                free_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
            }
            const std::uint32_t index = free_.back();
            free_.pop_back();
            slot& place = slots_[index];
            made->id = sequence_id{(std::uint64_t{++place.generation} << 32) | index};
            made->order = ++last_order_;
            place.is = std::move(made);
            return place.is.get();
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::create, 0, bytes{most * sizeof(token_id)}};
        }
    }
    void remove(sequence_id id) noexcept {
        const auto index = static_cast<std::uint32_t>(id);
        slots_[index].is.reset();
        free_.push_back(index); // there is room: it was taken from there
    }
    /// Null where there is none of that number.
    [[nodiscard]] value_type* find(sequence_id id) const noexcept {
        const auto index = static_cast<std::uint32_t>(id);
        if (index >= slots_.size() || slots_[index].is == nullptr || slots_[index].is->id != id)
            return nullptr;
        return slots_[index].is.get();
    }

    [[nodiscard]] std::size_t size() const noexcept { return slots_.size() - free_.size(); }

    template <class Visit>
    void for_each(Visit visit) const {
        for (const slot& one : slots_) {
            if (one.is != nullptr)
                visit(*one.is);
        }
    }

  private:
    struct slot {
        std::unique_ptr<value_type> is;
        std::uint32_t generation = 0;
    };

    std::vector<slot> slots_;
    std::vector<std::uint32_t> free_; ///< capacity for every slot
    std::uint64_t last_order_ = 0;
};

} // namespace vtensor::kv::detail
