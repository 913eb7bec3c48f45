// SPDX-License-Identifier: Apache-2.0
//
// Carries a plan out on one tensor, in steps that can be taken back, so that several tensors can be moved by
// one plan or not at all. It decides nothing: which rows move is said by the plan.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/memory/row_moves.hpp>
#include <vtensor/memory/slot_map.hpp>
#include <vtensor/memory/writable_pages.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace vtensor {

/// One tensor's share of a defragmentation: `prepare`, `move_pages`, `make_writable`, `move_rows`, and then
/// `finish`, which cannot fail; or after any of them `undo`. Without a stream the rows are moved by the CPU,
/// and nothing queued may read them. With one, copies are queued on it; before pages change places, or are
/// replaced by copies, the call waits on the host for what is queued on it.
template <class Range>
class defragmentation {
  public:
    using pool_type = typename Range::pool_type;
    using backend_type = typename pool_type::backend_type;
    using stream_type = detail::stream_of<pool_type>;

    defragmentation(Range& range, slot_map& slots, bytes row) noexcept
        : range_{&range}, slots_{&slots}, row_{row}, writable_{range} {}

    /// Refuses a plan that would lose rows, or that nobody here can carry out; takes the memory for
    /// book-keeping.
    [[nodiscard]] status prepare(const defrag::plan& moves,
                                 [[maybe_unused]] const stream_type* stream) noexcept {
        moves_ = &moves;
        if (!moves.rows.empty() && stream == nullptr && !detail::reaches_memory(backend()))
            return error{errc::unsupported, verb::defragment, 0, bytes{0}};
        if (const status outcome = slots_->rearrange(moves); !outcome || moves.blocks.empty())
            return outcome;
        if ((row_ * moves.block_rows) % range_->page_size() != bytes{0})
            return error{errc::misaligned, verb::defragment, 0, row_ * moves.block_rows};
        std::size_t sources = 0;
        for (const defrag::row_move& move : moves.rows)
            sources = std::max(sources, std::size_t{move.from} + move.count);
        return range_->prepare_exchange(pages_, moves.blocks, row_ * moves.block_rows / range_->page_size(),
                                        pages_of(moves.rows_after), pages_of(sources));
    }

    [[nodiscard]] status move_pages(const stream_type* stream) noexcept {
        if (moves_->blocks.empty() || pages_.none_changes())
            return {};
        const status outcome = range_->exchange(pages_, stream);
        pages_moved_ = outcome.ok();
        return outcome;
    }

    /// Shared pages that rows move to are replaced by copies of themselves. Those that rows only leave stay.
    [[nodiscard]] status make_writable(const stream_type* stream) noexcept {
        if (moves_->rows.empty() || range_->read_only_end() == page_count{})
            return {};
        status outcome;
        for (const defrag::row_move& move : moves_->rows) {
            outcome = writable_.want(page_count{row_ * move.to / range_->page_size()},
                                     pages_of(std::size_t{move.to} + move.count));
            if (!outcome)
                return outcome;
        }
        outcome = writable_.run(stream);
        return outcome ? remember_read_only() : outcome;
    }

    [[nodiscard]] status move_rows([[maybe_unused]] const stream_type* stream) noexcept {
        if constexpr (detail::has_streams<pool_type>) {
            if (stream != nullptr) {
                const status outcome = copies(*stream).queue(moves_->rows);
                copies_queued_ = true; // also where it failed: some, and those that undo them
                rows_moved_ = outcome.ok();
                return outcome;
            }
        }
        detail::move_rows(range_->start().template to_pointer<std::byte>(), row_, moves_->rows);
        rows_moved_ = true;
        return {};
    }

    /// The rows are where the plan wants them; gives up what they do not need any more. Pages whose
    /// unmapping is refused twice stay mapped, counted, and go with the next that leave.
    void finish([[maybe_unused]] const stream_type* stream) noexcept {
        if (pages_moved_)
            range_->finish_exchange(pages_);
        writable_.finish();
        slots_->commit(moves_->rows_after);
        const page_count needed = pages_of(moves_->rows_after);
        const auto settle = [&]() noexcept {
            if constexpr (detail::has_streams<pool_type>) {
                if (stream != nullptr)
                    return range_->settle(needed, *stream);
            }
            return range_->settle(needed);
        };
        if (!settle())
            static_cast<void>(settle());
    }

    /// Everything is as before; unless the backend refused to put a page back twice, which is then the first
    /// that is not accessible any more.
    void undo([[maybe_unused]] const stream_type* stream) noexcept {
        if (rows_moved_)
            undo_rows(stream);
        const stream_type* const used = copies_queued_ ? stream : nullptr;
        writable_.undo(used);
        if (pages_moved_)
            range_->undo_exchange(pages_, used);
        rows_moved_ = pages_moved_ = false;
    }

  private:
    [[nodiscard]] page_count pages_of(std::size_t rows) const noexcept {
        return pages_for(row_ * rows, range_->page_size());
    }
    [[nodiscard]] backend_type& backend() const noexcept { return range_->pool().backend(); }
    [[nodiscard]] auto copies(const stream_type& stream) const noexcept {
        return detail::row_copies<backend_type>{backend(), range_->start(), row_,
                                                stream,    read_only_,      range_->page_size()};
    }
    /// For copies that have to be taken back.
    status remember_read_only() noexcept {
        return range_->with_pages([this](const auto& pages) -> status {
            try {
                const auto flags = pages.read_only();
                read_only_.assign(flags.begin(), flags.end());
            } catch (const std::bad_alloc&) {
                return error{errc::out_of_memory, verb::defragment, 0, bytes{pages.mapped().count()}};
            }
            return {};
        });
    }
    void undo_rows([[maybe_unused]] const stream_type* stream) noexcept {
        if constexpr (detail::has_streams<pool_type>) {
            if (stream != nullptr)
                return copies(*stream).queue_back(moves_->rows);
        }
        detail::move_rows_back(range_->start().template to_pointer<std::byte>(), row_, moves_->rows);
    }

    Range* range_;
    slot_map* slots_;
    bytes row_;
    const defrag::plan* moves_ = nullptr;
    page_exchange<backend_type> pages_;
    writable_pages<Range> writable_;
    std::vector<std::uint8_t> read_only_; ///< by page, where any is
    bool pages_moved_ = false;
    bool rows_moved_ = false;
    bool copies_queued_ = false;
};

} // namespace vtensor
