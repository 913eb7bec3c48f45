// SPDX-License-Identifier: Apache-2.0
//
// How a manager of sequences is made.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/kv/cache_options.hpp>
#include <vtensor/memory/mapper.hpp>

#include <cstddef>
#include <memory_resource>

namespace vtensor::kv {

template <growth_policy Growth>
struct manager_options {
    cache_options<Growth> cache{}; ///< of every sequence; the owner is its salt
    /// Maps the pages of the next steps while a step runs. None: the calling thread maps what it needs. With
    /// one, the pool's mutex must be a mutex. It must outlive the manager.
    mapper* thread = nullptr;
    /// Tokens that every running sequence is to have mapped ahead; asked for when half of them are used up.
    std::size_t tokens_ahead = 64;
    bool shares_prefixes = true;
    /// Recording a sequence exchanges its pages for those of the cache that has recorded the same beginning
    /// before. Only where prefixes are shared.
    bool merges_prefixes = true;
    bool releases_lazily = true; ///< pages of released sequences stay mapped until somebody needs them
    /// Caches without a page that are kept, with their addresses, for sequences to come.
    std::size_t spare_caches = 8;
    /// Of the records and tokens of sequences, in blocks for 32 of them. None: operator new. On huge pages
    /// (backends/host/huge_memory.hpp) a step after a pause is quicker. It must outlive the manager.
    std::pmr::memory_resource* records = nullptr;
};

} // namespace vtensor::kv
