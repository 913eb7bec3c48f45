// SPDX-License-Identifier: Apache-2.0
//
// A budget on physical memory: chunks beyond it are not created. Memory counts until it is really gone: a
// chunk that is destroyed while it is mapped counts until its last mapping goes. It limits neither addresses
// nor what was imported, which is memory of another.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/adaptors/detail/chunk_table.hpp>
#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <new>

namespace vtensor::adaptors {

/// A backend that creates at most `budget()` bytes at once. `upstream` must outlive it, and what is created
/// or mapped through it is to be destroyed and unmapped through it. Thread-safe: create, destroy, map and
/// unmap are one at a time. O(log mappings) a call.
template <backend Upstream>
class limiting : public detail::forwarding<Upstream, limiting<Upstream>> {
    using base = detail::forwarding<Upstream, limiting>;

  public:
    using chunk_type = typename Upstream::chunk_type;

    limiting(Upstream& upstream, bytes budget) noexcept : base{upstream}, budget_{budget} {}

    /// Bytes that may exist at once.
    [[nodiscard]] bytes budget() const noexcept {
        const std::lock_guard lock{mutex_};
        return budget_;
    }
    /// Changes the budget while running. Below what is used nothing is taken away: nothing more is created
    /// until enough is gone.
    void set_budget(bytes budget) noexcept {
        const std::lock_guard lock{mutex_};
        budget_ = budget;
    }
    /// Bytes created through this adaptor that still exist, mapped or not.
    [[nodiscard]] bytes used() const noexcept {
        const std::lock_guard lock{mutex_};
        return used_;
    }
    /// The most that `used()` ever was.
    [[nodiscard]] bytes high_watermark() const noexcept {
        const std::lock_guard lock{mutex_};
        return high_watermark_;
    }

    /// `errc::limit_exceeded` where the chunk does not fit into the budget; otherwise as the upstream.
    [[nodiscard]] result<chunk_type> create(bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        if (is_valid(size) && (used_ > budget_ || size > budget_ - used_))
            return error{errc::limit_exceeded, verb::create, 0, size};
        auto made = base::create(size);
        if (made && !enter(*made, size)) {
            static_cast<void>(base::destroy(*made));
            return error{errc::out_of_memory, verb::create, 0, size};
        }
        high_watermark_ = std::max(high_watermark_, used_);
        return made;
    }
    [[nodiscard]] status destroy(chunk_type chunk) noexcept {
        const std::lock_guard lock{mutex_};
        const status outcome = base::destroy(chunk);
        if (outcome)
            created_.remove(chunk);
        return outcome;
    }
    [[nodiscard]] status map(address where, chunk_type chunk) noexcept {
        const std::lock_guard lock{mutex_};
        const std::shared_ptr<account>* const known = created_.find(chunk);
        if (known == nullptr) // imported, or refused by the upstream
            return base::map(where, chunk);
        bool entered = false;
        try {
            entered = mapped_.emplace(where, *known).second;
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, verb::map, 0, (*known)->size};
        }
        const status outcome = base::map(where, chunk);
        if (!outcome && entered)
            mapped_.erase(where);
        return outcome;
    }
    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        const status outcome = base::unmap(where, size);
        if (outcome)
            mapped_.erase(mapped_.lower_bound(where), mapped_.lower_bound(where + size));
        return outcome;
    }

  private:
    friend class detail::around_access;

    /// The memory of one chunk. Held by its handle and by each of its mappings; the last to go gives the
    /// bytes back to the budget.
    struct account {
        account(bytes& used_bytes, bytes chunk_size) noexcept : used{used_bytes}, size{chunk_size} {
            used += size;
        }
        account(const account&) = delete;
        account& operator=(const account&) = delete;
        ~account() { used -= size; }

        bytes& used;
        const bytes size;
    };

    template <class Next>
    auto around(const call&, Next& next) noexcept {
        return next();
    }

    /// A size that the contract refuses is left to the upstream, so that the refusal is the same everywhere.
    [[nodiscard]] bool is_valid(bytes size) const noexcept {
        return size != bytes{0} && size % this->granularity() == bytes{0};
    }

    [[nodiscard]] bool enter(const chunk_type& chunk, bytes size) noexcept {
        try {
            return created_.add(chunk, std::make_shared<account>(used_, size));
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    mutable std::mutex mutex_;
    bytes budget_;
    bytes used_{};
    bytes high_watermark_{};
    detail::chunk_table<chunk_type, std::shared_ptr<account>> created_;
    std::map<address, std::shared_ptr<account>> mapped_;
};

} // namespace vtensor::adaptors
