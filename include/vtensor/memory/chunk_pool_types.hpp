// SPDX-License-Identifier: Apache-2.0
//
// How a chunk pool is made, and what it says of itself.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstddef>
#include <cstdint>

namespace vtensor {

/// When a chunk is zeroed before a tensor sees it.
enum class scrub_policy : std::uint8_t {
    never,          ///< a chunk may show what its last owner wrote
    between_owners, ///< zeroed when it passes from one owner to another
};

/// How to make a `chunk_pool`.
struct chunk_pool_options {
    bytes chunk_size{}; ///< a multiple of the backend's granularity; 0 takes the granularity itself
    bytes limit{};      ///< the most that may be created, free chunks included; 0 sets none
    scrub_policy scrub = scrub_policy::never;
    /// A growth that finds memory short waits for retiring pages before it says so. Without streams there are
    /// none.
    bool wait_for_retiring = false;
};

/// What a pool holds. `created` = `in_use` + `free`.
struct chunk_pool_stats {
    bytes chunk_size{};
    bytes limit{};          ///< 0: none
    bytes created{};        ///< physical memory taken from the backend
    bytes in_use{};         ///< of it, held by at least one reference
    bytes free{};           ///< of it, waiting for reuse
    bytes high_watermark{}; ///< the most that was ever in use at once
    bytes created_high_watermark{};
    std::size_t acquired = 0; ///< chunks handed out since the pool was made
    std::size_t reused = 0;   ///< of them, without asking the backend
    std::size_t scrubbed = 0; ///< of them, zeroed for a new owner
    std::size_t aliases = 0;  ///< references to chunks in use, beyond the first to each
};

} // namespace vtensor
