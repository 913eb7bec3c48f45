// SPDX-License-Identifier: Apache-2.0
//
// All caches of a manager, by their use. It owns them and keeps the sums; it calls no backend but through a
// cache's destructor.
#pragma once

#include <vtensor/core/units.hpp>
#include <vtensor/kv/detail/cache_entry.hpp>
#include <vtensor/kv/model_shape.hpp>

#include <boost/intrusive/list.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace vtensor::kv::detail {

/// Used by one thread; the sums may be read from anywhere.
template <class Cache>
class cache_shelf {
  public:
    using entry = cache_entry<Cache>;
    using list = boost::intrusive::list<
        entry, boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<by_use>>>>;

    cache_shelf() noexcept = default;
    cache_shelf(const cache_shelf&) = delete;
    cache_shelf& operator=(const cache_shelf&) = delete;
    ~cache_shelf() {
        for (list& one : lists_)
            one.clear_and_dispose(std::default_delete<entry>{});
    }

    /// A new entry, blank. Null where there is no memory for it.
    [[nodiscard]] entry* add(Cache&& made, salt_id salt) noexcept {
        entry* const fresh = new (std::nothrow) entry{std::move(made)};
        if (fresh == nullptr)
            return nullptr;
        fresh->salt = salt;
        of(cache_use::blank).push_back(*fresh);
        recount(*fresh);
        return fresh;
    }
    /// The entry goes, with what it has mapped.
    void destroy(entry& gone) noexcept {
        account(gone, bytes{0}, bytes{0});
        list& from = of(gone.use);
        from.erase_and_dispose(from.iterator_to(gone), std::default_delete<entry>{});
    }
    /// Behind those that came to this use before.
    void move(entry& one, cache_use use) noexcept {
        account(one, bytes{0}, bytes{0});
        list& from = of(one.use);
        from.erase(from.iterator_to(one));
        one.use = use;
        of(use).push_back(one);
        recount(one);
    }
    /// After what it has mapped may have changed.
    void recount(entry& one) noexcept {
        if (one.use == cache_use::running)
            return account(one, bytes{0}, bytes{0});
        const cache_figures now = one.cache.figures(); // no row is dead
        account(one, now.mapped, now.mapped - std::min(now.mapped, now.used + now.part_pages));
    }

    /// So many of its empty pages will be gone soon, says an estimate.
    void expect_without(entry& one, bytes gone) noexcept {
        account(one, one.mapped - gone, one.empty - gone);
        one.is_foretold = true;
    }
    /// Whatever became of what was expected. O(caches).
    void recount_expected() noexcept {
        for (const cache_use use : {cache_use::held, cache_use::blank}) {
            for (entry& one : of(use)) {
                if (one.is_foretold)
                    recount(one);
            }
        }
    }

    [[nodiscard]] list& of(cache_use use) noexcept { return lists_[static_cast<std::size_t>(use)]; }
    [[nodiscard]] const list& of(cache_use use) const noexcept {
        return lists_[static_cast<std::size_t>(use)];
    }
    [[nodiscard]] bytes held() const noexcept { return bytes{held_.load(std::memory_order_relaxed)}; }
    [[nodiscard]] bytes blank() const noexcept { return bytes{blank_.load(std::memory_order_relaxed)}; }

    /// The blank cache that suits `wanted` bytes best: the smallest that has as much mapped, otherwise the
    /// largest. Pages of another salt do not suit. Null where there is none. O(blank caches).
    [[nodiscard]] entry* best_blank(salt_id salt, bytes wanted) noexcept {
        entry* best = nullptr;
        for (entry& one : of(cache_use::blank)) {
            if (one.mapped != bytes{0} && one.salt != salt)
                continue;
            if (best == nullptr || suits_better(one.mapped, best->mapped, wanted))
                best = &one;
        }
        return best;
    }

  private:
    [[nodiscard]] static bool suits_better(bytes one, bytes other, bytes wanted) noexcept {
        if ((one >= wanted) != (other >= wanted))
            return one >= wanted;
        return one >= wanted ? one < other : one > other;
    }
    void account(entry& one, bytes mapped, bytes empty) noexcept {
        std::atomic<std::size_t>& sum = one.use == cache_use::blank ? blank_ : held_;
        if (one.use != cache_use::running)
            sum.store(sum.load(std::memory_order_relaxed) - one.mapped.count() + mapped.count(),
                      std::memory_order_relaxed);
        one.mapped = mapped;
        one.empty = empty;
        one.is_foretold = false;
    }

    std::array<list, 3> lists_;
    std::atomic<std::size_t> held_{0};
    std::atomic<std::size_t> blank_{0};
};

} // namespace vtensor::kv::detail
