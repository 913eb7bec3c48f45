// SPDX-License-Identifier: Apache-2.0
//
// A sequence's cache as a manager keeps it: in use, holding a recorded prefix, or blank. Who moves it from
// one to the other is manager.hpp.
#pragma once

#include <vtensor/core/units.hpp>
#include <vtensor/kv/token.hpp>

#include <boost/intrusive/list.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vtensor::kv::detail {

enum class cache_use : std::uint8_t {
    running, ///< by a sequence; its first tokens may be recorded all the same
    held,    ///< by the prefix tree alone
    blank,   ///< no rows; pages may still be mapped, of the entry's salt
};

struct by_use;
struct by_turn;
/// Of `mapped_ahead`, in one of whose lists an entry is.
using cache_entry_ahead_hook =
    boost::intrusive::list_base_hook<boost::intrusive::tag<by_turn>,
                                     boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

template <class Cache>
struct cache_entry : boost::intrusive::list_base_hook<boost::intrusive::tag<by_use>>, cache_entry_ahead_hook {
    explicit cache_entry(Cache&& made) noexcept : cache{std::move(made)} {}

    std::size_t goal = 0;    ///< tokens whose pages it is to keep; guarded by who maps ahead
    std::uint64_t round = 0; ///< in which it had its turn last; guarded by who maps ahead
    Cache cache;
    cache_use use = cache_use::blank;
    bool is_broken = false; ///< rows were lost: it goes when no sequence runs on it any more
    salt_id salt{};
    std::size_t recorded = 0; ///< tokens, from the first, that the prefix tree has of it
    std::size_t needed = 0;   ///< tokens that a step under way needs mapped
    bytes mapped{};           ///< while no sequence runs on it
    bytes empty{};            ///< of that, pages without rows, be they shared
    bool is_foretold = false; ///< the two are what they will be when the mapper has given pages back
    bytes locked{};           ///< while pages that can be given back are counted
};

} // namespace vtensor::kv::detail
