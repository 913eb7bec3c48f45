// SPDX-License-Identifier: Apache-2.0
//
// What ranges tell a retire queue, and what it says of itself.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor {

/// A retire queue in figures. Pages are of the pool's chunk size.
/// `retired` = `revived` + `reclaimed` + `retiring`, except while a growth is under way.
struct retire_stats {
    std::size_t retiring = 0;  ///< pages given up and still mapped
    std::size_t due = 0;       ///< of them, those that wait for nothing but to be unmapped
    std::size_t retired = 0;   ///< pages given up since the queue was made
    std::size_t revived = 0;   ///< of them, taken back by their range before they were unmapped
    std::size_t reclaimed = 0; ///< of them, unmapped, their chunk given back to the pool
    std::size_t pending = 0;   ///< events not seen to have happened
    std::size_t events = 0;    ///< created since the queue was made: as many as were ever pending at once
};

namespace detail {

/// The last mapped pages of a range.
template <stream_ordered_backend Backend>
struct page_run {
    page_index first;
    /// One a page, each with the reference that the range holds.
    std::span<const pooled_chunk<Backend>> chunks;
    page_count accessible;                   ///< of them, the first ones, which may be touched
    std::span<const std::uint8_t> read_only; ///< for each page: 1 where it may only be read
};

/// The upper end of a range's mapped pages that queued work may read, or that none reads.
struct page_tail {
    page_index first;
    bool retiring = false;
};

} // namespace detail

} // namespace vtensor
