// SPDX-License-Identifier: Apache-2.0
//
// The locks of a prefix tree by their numbers, so that a number that is no lock (any more) is refused instead
// of taken for somebody else's.
#pragma once

#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace vtensor::kv {

/// A lock on a path of a prefix tree. The default value is no lock; a number is never used twice.
enum class lock_id : std::uint64_t {};

namespace detail {

template <class Node>
struct prefix_lock : boost::intrusive::set_base_hook<> {
    lock_id id{};
    Node* node = nullptr; ///< pinned
};

struct key_of_lock {
    using type = lock_id;

    template <class Lock>
    [[nodiscard]] const lock_id& operator()(const Lock& one) const noexcept {
        return one.id;
    }
};

/// Owned by their number.
template <class Node>
class prefix_locks {
  public:
    using lock = prefix_lock<Node>;

    prefix_locks() noexcept = default;
    prefix_locks(const prefix_locks&) = delete;
    prefix_locks& operator=(const prefix_locks&) = delete;
    ~prefix_locks() {
        locks_.clear_and_dispose([](lock* gone) { delete gone; });
    }

    lock_id add(std::unique_ptr<lock> fresh, Node& pinned) noexcept {
        lock& added = *fresh.release();
        added.id = lock_id{++last_};
        added.node = &pinned;
        locks_.insert(locks_.end(), added);
        return added.id;
    }
    /// Null where there is none of that number. O(log locks).
    [[nodiscard]] lock* find(lock_id id) noexcept {
        const auto found = locks_.find(id);
        return found == locks_.end() ? nullptr : &*found;
    }
    void erase(lock& gone) noexcept {
        locks_.erase_and_dispose(locks_.iterator_to(gone), [](lock* one) { delete one; });
    }
    [[nodiscard]] std::size_t size() const noexcept { return locks_.size(); }
    [[nodiscard]] auto begin() const noexcept { return locks_.begin(); }
    [[nodiscard]] auto end() const noexcept { return locks_.end(); }

  private:
    boost::intrusive::set<lock, boost::intrusive::key_of_value<key_of_lock>> locks_;
    std::uint64_t last_ = 0;
};

} // namespace detail
} // namespace vtensor::kv
