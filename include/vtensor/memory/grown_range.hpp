// SPDX-License-Identifier: Apache-2.0
//
// A mapped range under a growth policy, on the caller's thread. It asks the policy how many pages to have,
// clamps the answer, and gives up what is a wish when memory is short. The look-ahead kind is in
// look_ahead_range.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace vtensor {

namespace detail {

/// The policy's target for `needed` pages, within [needed, limit].
template <class Range, growth_policy Growth>
[[nodiscard]] page_count target_of(const Range& range, const Growth& growth, page_count needed) noexcept {
    const page_count target = growth.target(growth_state{range.accessible(), needed, range.limit()});
    return std::max(needed, std::min(target, range.limit()));
}

/// What stays mapped where only `needed` pages are in use: the policy's target, without shared pages, which
/// would serve no growth.
template <class Range, growth_policy Growth>
[[nodiscard]] page_count kept_of(const Range& range, const Growth& growth, page_count needed) noexcept {
    const page_count target = target_of(range, growth, needed);
    if (range.pages().read_only_end() <= needed)
        return target;
    return std::min(target, range.pages().first_read_only(needed));
}

/// Makes the policy's target accessible, or at least what is needed, or changes nothing. Short of what is
/// needed, not of a wish, it waits for retiring pages where the pool says so.
template <class Range, growth_policy Growth>
[[nodiscard]] status grow_by_policy(Range& range, const Growth& growth, page_count needed) noexcept {
    if (needed <= range.accessible())
        return {};
    page_count target = needed <= range.limit() ? target_of(range, growth, needed) : needed;
    if constexpr (requires { range.grows_without_waiting(); })
        target = std::max(needed, std::min(target, range.grows_without_waiting())); // not for a wish
    status outcome = range.grow_to(target);
    if (!outcome && target > needed && is_shortage(outcome.code()))
        outcome = range.grow_to(needed);
    if constexpr (requires { range.wait_for_retiring(); }) {
        bool waited = range.pool().waits_for_retiring() && needed <= range.limit();
        while (waited && is_shortage(outcome.code())) {
            waited = range.wait_for_retiring();
            outcome = range.grow_to(needed); // also where another thread was the one that waited
        }
    }
    return outcome;
}

} // namespace detail

/// Grows and shrinks when asked to, on the thread that asks. Used by one thread at a time.
template <class Pool, growth_policy Growth>
class grown_range {
  public:
    using pool_type = Pool;

    [[nodiscard]] static result<std::unique_ptr<grown_range>>
    create(Pool& pool, page_count limit, owner_id owner, const Growth& growth) noexcept {
        auto range = page_range<Pool>::create(pool, limit, owner);
        if (!range)
            return range.error();
        std::unique_ptr<grown_range> made{new (std::nothrow) grown_range{*std::move(range), growth}};
        if (made == nullptr)
            return error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(grown_range)}};
        return made;
    }

    /// At least `needed` pages are accessible afterwards, or nothing changed.
    [[nodiscard]] status require(page_count needed) noexcept {
        return detail::grow_by_policy(range_, growth_, needed);
    }
    /// Only `needed` pages are in use: unmaps what the policy does not keep, or changes nothing.
    [[nodiscard]] status settle(page_count needed) noexcept {
        return range_.shrink_to(detail::kept_of(range_, growth_, needed));
    }
    /// Unmaps everything beyond `needed` pages, or changes nothing.
    [[nodiscard]] status trim(page_count needed) noexcept { return range_.shrink_to(needed); }
    /// The same two, but what is given up retires behind the work queued on the stream.
    [[nodiscard]] status
    settle(page_count needed,
           const detail::stream_of<Pool>& stream) noexcept requires detail::has_streams<Pool> {
        return range_.retire_to(detail::kept_of(range_, growth_, needed), stream);
    }
    [[nodiscard]] status
    trim(page_count needed,
         const detail::stream_of<Pool>& stream) noexcept requires detail::has_streams<Pool> {
        return range_.retire_to(needed, stream);
    }

    // ---- pages that are shared: see shared_prefix.hpp and writable_pages.hpp ----

    /// An empty range of the same pool, policy and owner.
    [[nodiscard]] result<std::unique_ptr<grown_range>> create_alike() const noexcept {
        return create(range_.pool(), range_.limit(), range_.owner(), growth_);
    }
    /// As `mapped_range::map_shared`.
    [[nodiscard]] status map_shared(std::span<const typename Pool::chunk> shared) noexcept {
        return range_.map_shared(shared);
    }
    /// What `visit` returns for the page map; `plan` for one that stays as it is until `exchange`.
    template <class Visit>
    [[nodiscard]] auto with_pages(Visit visit) const noexcept {
        return visit(range_.pages());
    }
    template <class Visit>
    [[nodiscard]] auto plan(Visit visit) noexcept {
        return visit(range_.pages());
    }
    /// Behind the last page that is read-only.
    [[nodiscard]] page_count read_only_end() const noexcept { return range_.pages().read_only_end(); }

    // ---- pages that change: see page_exchange.hpp ----

    /// Afterwards `needed` pages are in use, and until then those below `sources` are read: what the policy
    /// keeps besides them stays mapped.
    [[nodiscard]] status prepare_exchange(page_exchange<typename Pool::backend_type>& moved,
                                          std::span<const defrag::block_move> moves, std::size_t block_pages,
                                          page_count needed, page_count sources) noexcept {
        return moved.prepare(range_.pages(), moves, block_pages,
                             std::max(detail::target_of(range_, growth_, needed), sources));
    }
    [[nodiscard]] status exchange(page_exchange<typename Pool::backend_type>& moved,
                                  [[maybe_unused]] const detail::stream_of<Pool>* stream) noexcept {
        if constexpr (detail::has_streams<Pool>)
            return range_.exchange(moved, stream);
        else
            return range_.exchange(moved);
    }
    void undo_exchange(page_exchange<typename Pool::backend_type>& moved,
                       [[maybe_unused]] const detail::stream_of<Pool>* stream) noexcept {
        if constexpr (detail::has_streams<Pool>)
            range_.undo_exchange(moved, stream);
        else
            range_.undo_exchange(moved);
    }
    void finish_exchange(const page_exchange<typename Pool::backend_type>& moved) noexcept {
        range_.finish_exchange(moved);
    }

    [[nodiscard]] Pool& pool() const noexcept { return range_.pool(); }
    [[nodiscard]] owner_id owner() const noexcept { return range_.owner(); }
    [[nodiscard]] address start() const noexcept { return range_.start(); }
    [[nodiscard]] bytes page_size() const noexcept { return range_.page_size(); }
    [[nodiscard]] bytes reserved_bytes() const noexcept { return range_.reserved_bytes(); }
    [[nodiscard]] page_count accessible() const noexcept { return range_.accessible(); }
    [[nodiscard]] page_count mapped() const noexcept { return range_.mapped(); }
    [[nodiscard]] page_count retiring() const noexcept requires detail::has_streams<Pool> {
        return range_.retiring();
    }
    [[nodiscard]] bool verify() const noexcept { return range_.verify(); }

  private:
    grown_range(page_range<Pool>&& range, const Growth& growth) noexcept
        : range_{std::move(range)}, growth_{growth} {}

    page_range<Pool> range_;
    Growth growth_;
};

} // namespace vtensor
