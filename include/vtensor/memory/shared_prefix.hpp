// SPDX-License-Identifier: Apache-2.0
//
// The first bytes of one range become those of another too: whole pages are mapped a second time, the rest is
// copied. It decides nothing: how many pages are mapped is said by the caller.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/copied_bytes.hpp>
#include <vtensor/memory/page_exchange.hpp>

#include <cstddef>
#include <new>
#include <vector>

namespace vtensor::detail {

template <class Range>
class shared_prefix {
  public:
    using pool_type = typename Range::pool_type;
    using stream_type = stream_of<pool_type>;

    /// Nothing of `to` is in use; both are on one pool.
    shared_prefix(Range& to, Range& from, const stream_type* stream) noexcept
        : to_{&to}, from_{&from}, stream_{stream} {}

    /// The first `size` bytes of the one are in the other afterwards, their first `whole` pages shared and
    /// read-only in both; or nothing changed, but that surplus pages of the receiver are given up where pages
    /// are to be shared, or were. O(pages).
    [[nodiscard]] status run(page_count whole, bytes size) noexcept {
        const bytes copied = size - whole * from_->page_size();
        if (copied > bytes{0} && stream_ == nullptr && !reaches_memory(pool().backend()))
            return error{errc::unsupported, verb::share, 0, copied};
        // Surplus pages that were shared once cannot be written.
        const bool gives_up = whole > page_count{} || to_->read_only_end() > page_count{};
        created_ = pool().stats().created;
        status outcome = gives_up ? give_up_surplus() : status{};
        if (!outcome)
            return outcome;
        before_ = gives_up ? page_count{} : to_->mapped();
        if (whole > page_count{})
            outcome = share(whole);
        if (outcome)
            outcome = to_->require(pages_for(size, from_->page_size()));
        if (outcome && copied > bytes{0}) {
            const bytes offset = whole * from_->page_size();
            outcome = copy_bytes(pool(), to_->start() + offset, from_->start() + offset, copied, stream_);
            queued_ = outcome.ok() && stream_ != nullptr;
        }
        if (!outcome)
            undo();
        return outcome;
    }
    /// Both ranges are as before; nothing has been grown or made writable since. Waits for a copy that was
    /// queued.
    void undo() noexcept {
        if (!give_back())
            static_cast<void>(give_back());
        const bytes now = pool().stats().created;
        if (now > created_)
            pool().discard((now - created_) / pool().chunk_size());
        if (protected_)
            from_->undo_exchange(protection_, nullptr);
        protected_ = false;
    }

  private:
    [[nodiscard]] pool_type& pool() const noexcept { return from_->pool(); }

    status share(page_count whole) noexcept {
        std::vector<typename pool_type::chunk> chunks;
        const status prepared = from_->plan([&](const auto& pages) -> status {
            try {
                const auto all = pages.tail(page_count{}).first(whole.count());
                chunks.assign(all.begin(), all.end());
            } catch (const std::bad_alloc&) {
                return error{errc::out_of_memory, verb::share, 0, bytes{whole.count() * sizeof(chunks[0])}};
            }
            if (const status outcome = protection_.start(pages, verb::share); !outcome)
                return outcome;
            for (std::size_t page = 0; page < chunks.size(); ++page)
                protection_.set(page, chunks[page], true);
            return {};
        });
        if (!prepared)
            return prepared;
        const status outcome = from_->exchange(protection_, stream_);
        protected_ = outcome.ok();
        return outcome ? to_->map_shared(chunks) : outcome;
    }
    status give_up_surplus() noexcept {
        if constexpr (has_streams<pool_type>) {
            if (stream_ != nullptr)
                return to_->trim(page_count{}, *stream_);
        }
        return to_->trim(page_count{});
    }
    status give_back() noexcept {
        if constexpr (has_streams<pool_type>) {
            if (queued_) {
                if (const status outcome = pool().retiring().wait_for(*stream_); !outcome)
                    return outcome;
                queued_ = false;
            }
        }
        return to_->trim(before_);
    }

    Range* to_;
    Range* from_;
    const stream_type* stream_;
    page_exchange<typename pool_type::backend_type> protection_;
    page_count before_{}; ///< mapped in `to_`
    bytes created_{};     ///< in the pool
    bool protected_ = false;
    bool queued_ = false; ///< a copy, on the stream
};

} // namespace vtensor::detail
