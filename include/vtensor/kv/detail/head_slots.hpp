// SPDX-License-Identifier: Apache-2.0
//
// The slot maps of the heads of one layer, for layouts that keep several heads in one tensor. It moves
// nothing.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/memory/slot_map.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>

#include <algorithm>
#include <cstddef>
#include <new>
#include <numeric>
#include <vector>

namespace vtensor::kv::detail {

/// One slot map a head. Used by one thread at a time.
class head_slots {
  public:
    /// No heads; to be replaced.
    head_slots() noexcept = default;

    [[nodiscard]] static result<head_slots> create(std::size_t heads) noexcept {
        head_slots made;
        try {
            made.maps_.resize(heads);
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::construct, 0, bytes{heads * sizeof(slot_map)}};
        }
        return made;
    }

    [[nodiscard]] std::size_t count() const noexcept { return maps_.size(); }
    [[nodiscard]] slot_map& operator[](std::size_t head) noexcept { return maps_[head]; }
    [[nodiscard]] const slot_map& operator[](std::size_t head) const noexcept { return maps_[head]; }

    [[nodiscard]] std::size_t longest() const noexcept {
        std::size_t most = 0;
        for (const slot_map& one : maps_)
            most = std::max(most, one.rows());
        return most;
    }
    [[nodiscard]] std::size_t shortest() const noexcept {
        std::size_t least = slot_map::most;
        for (const slot_map& one : maps_)
            least = std::min(least, one.rows());
        return least;
    }
    [[nodiscard]] std::size_t rows() const noexcept { return sum(&slot_map::rows); }
    [[nodiscard]] std::size_t live() const noexcept { return sum(&slot_map::live); }

    /// Room for `count` more rows in every head, so that `add` cannot fail.
    [[nodiscard]] status prepare(std::size_t count) noexcept {
        for (slot_map& one : maps_)
            if (const status outcome = one.prepare(one.rows() + count); !outcome)
                return outcome;
        return {};
    }
    /// How many rows `add` cannot fail with.
    [[nodiscard]] std::size_t prepared() const noexcept {
        std::size_t least = slot_map::most;
        for (const slot_map& one : maps_)
            least = std::min(least, one.prepared() - one.rows());
        return least;
    }
    void add(std::size_t count) noexcept {
        for (slot_map& one : maps_)
            one.resize(one.rows() + count);
    }

    void remove_last(std::size_t count) noexcept {
        for (slot_map& one : maps_)
            one.resize(one.rows() - std::min(count, one.rows()));
    }

    /// See `slot_map::take_back`.
    void take_back(position_type first) noexcept {
        for (slot_map& one : maps_)
            one.take_back(first);
    }

    /// The first `rows` rows of every head of `other`, or as many as it has. `out_of_memory`: these heads are
    /// to be dropped.
    [[nodiscard]] status copy_prefix(const head_slots& other, std::size_t rows) noexcept {
        for (std::size_t head = 0; head < count(); ++head)
            if (const status outcome =
                    maps_[head].copy_prefix(other.maps_[head], std::min(rows, other.maps_[head].rows()));
                !outcome)
                return outcome;
        return {};
    }
    void clear() noexcept {
        for (slot_map& one : maps_)
            one.clear();
    }

    /// Whether `evict` may be called with the same rows, and the memory for it.
    [[nodiscard]] status try_prepare_eviction(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        if (layer >= kept.layers() || kept.heads() != count())
            return error{errc::invalid_argument, verb::evict, 0, bytes{0}};
        for (std::size_t head = 0; head < count(); ++head)
            if (const status outcome = maps_[head].prepare_eviction(kept.of(layer, head)); !outcome)
                return outcome;
        return {};
    }
    void evict(const eviction::kept_rows& kept, std::size_t layer) noexcept {
        for (std::size_t head = 0; head < count(); ++head)
            maps_[head].evict(kept.of(layer, head));
    }

    [[nodiscard]] bool verify() const noexcept {
        return std::all_of(maps_.begin(), maps_.end(), [](const slot_map& one) { return one.verify(); });
    }

  private:
    template <class Figure>
    [[nodiscard]] std::size_t sum(Figure figure) const noexcept {
        return std::accumulate(
            maps_.begin(), maps_.end(), std::size_t{0},
            [&](std::size_t total, const slot_map& one) { return total + (one.*figure)(); });
    }

    std::vector<slot_map> maps_;
};

/// What a policy plans from for one head whose pages it shares with others: they cannot be moved.
[[nodiscard]] inline defrag::state state_of(const slot_map& slots, bytes row) noexcept {
    return {.positions = slots.positions(), .rows = slots.rows(), .row = row};
}

} // namespace vtensor::kv::detail
