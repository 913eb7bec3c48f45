// SPDX-License-Identifier: Apache-2.0
//
// What an eviction policy answers: for every layer and KV head the slots of the rows that stay.
#pragma once

#include <vtensor/core/config.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/rows.hpp>

#include <cstddef>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::eviction {

/// For layers × KV heads a list of slots, ascending and without repetition. Reused from call to call it stops
/// allocating once it has seen its largest answer. Used like a standard container.
class kept_rows {
  public:
    /// Forgets all lists and takes `layers` × `heads` new ones, to be given by `add` in order.
    /// Error: `out_of_memory`, nothing changed.
    status reset(std::size_t layers, std::size_t heads) noexcept {
        try {
            ends_.reserve(layers * heads);
        } catch (const std::bad_alloc&) {
            return error{.code = errc::out_of_memory, .where = verb::choose};
        }
        ends_.clear();
        slots_.clear();
        layers_ = layers;
        heads_ = heads;
        return {};
    }

    /// The list of the next head: the heads of layer 0, then those of layer 1, … `slots` must be ascending.
    /// Errors: `out_of_memory`; `invalid_argument` where all heads have one or the list does not ascend.
    status add(std::span<const slot_type> slots) noexcept {
        if (ends_.size() == layers_ * heads_)
            return error{.code = errc::invalid_argument, .where = verb::choose};
        for (std::size_t index = 1; index < slots.size(); ++index)
            if (slots[index - 1] >= slots[index])
                return error{.code = errc::invalid_argument, .where = verb::choose};
        try {
            slots_.insert(slots_.end(), slots.begin(), slots.end());
        } catch (const std::bad_alloc&) {
            return error{.code = errc::out_of_memory, .where = verb::choose};
        }
        ends_.push_back(slots_.size()); // reserved by reset()
        return {};
    }

    [[nodiscard]] std::size_t layers() const noexcept { return layers_; }
    /// KV heads of a layer.
    [[nodiscard]] std::size_t heads() const noexcept { return heads_; }
    /// Rows that stay, over all layers and heads.
    [[nodiscard]] std::size_t total() const noexcept { return slots_.size(); }

    /// The slots that stay in one head; empty where `add` has not been called for it.
    [[nodiscard]] std::span<const slot_type> of(std::size_t layer, std::size_t head) const noexcept {
        VTENSOR_ASSERT(layer < layers_ && head < heads_);
        const std::size_t list = layer * heads_ + head;
        if (list >= ends_.size())
            return {};
        const std::size_t first = list == 0 ? 0 : ends_[list - 1];
        return {slots_.data() + first, ends_[list] - first};
    }

    friend void swap(kept_rows& a, kept_rows& b) noexcept {
        std::swap(a.layers_, b.layers_);
        std::swap(a.heads_, b.heads_);
        a.ends_.swap(b.ends_);
        a.slots_.swap(b.slots_);
    }

  private:
    std::size_t layers_ = 0;
    std::size_t heads_ = 0;
    std::vector<std::size_t> ends_; ///< where each list ends in `slots_`
    std::vector<slot_type> slots_;
};

} // namespace vtensor::eviction
