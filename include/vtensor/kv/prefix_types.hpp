// SPDX-License-Identifier: Apache-2.0
//
// What a prefix tree takes and answers. Plain values.
#pragma once

#include <vtensor/kv/detail/holder_record.hpp>
#include <vtensor/kv/detail/prefix_paths.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

namespace vtensor::kv {

/// Stands for a cache: a pointer, an index, a handle. The default value is no cache.
template <class H>
concept cache_holder = std::regular<H> && std::is_trivially_copyable_v<H> && requires(const H& one) {
    { std::less<H>{}(one, one) } -> std::convertible_to<bool>;
};

template <cache_holder Holder>
class prefix_tree;

/// The longest beginning of a string that a tree knew when it was asked.
template <cache_holder Holder>
class prefix_match {
  public:
    std::size_t tokens = 0; ///< may be lowered before `lock`
    Holder holder{};        ///< has rows of at least so many; none where `tokens` is 0

  private:
    friend class prefix_tree<Holder>;

    typename detail::prefix_paths<detail::holder_ref<Holder>>::node* at_ = nullptr;
    std::uint64_t removals_ = 0;
};

/// What an insertion did.
template <cache_holder Holder>
struct prefix_insertion {
    std::size_t new_tokens = 0; ///< at the end of the string; the others were there
    bool taken = false;  ///< the tree refers to the holder. False where others cover the whole string already
    Holder superseded{}; ///< had a beginning of the string and nothing else; the tree refers to it no more
};

/// What an eviction takes from a holder.
template <cache_holder Holder>
struct prefix_eviction {
    Holder holder{};
    std::size_t tokens_left =
        0; ///< that the tree still needs of it, from its first; 0: it refers to it no more
    std::size_t tokens_gone = 0; ///< that the tree knows no more
};

/// Of a holder's tokens, those that are locked.
template <cache_holder Holder>
struct locked_beginning {
    std::size_t tokens = 0;
    Holder holder{}; ///< stands for them now; none where `tokens` is 0
};

/// All counts are of now.
struct prefix_figures {
    std::size_t tokens = 0;
    std::size_t locked_tokens = 0; ///< on paths to a lock: they stay
    std::size_t nodes = 0;         ///< without the root
    std::size_t holders = 0;
    std::size_t locks = 0;
};

} // namespace vtensor::kv
