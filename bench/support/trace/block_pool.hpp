// SPDX-License-Identifier: Apache-2.0
//
// Blocks by number, counted by reference, with the names of those whose contents can be found again. A block
// that nobody refers to keeps its name until it is needed, and the one given back longest ago is taken first
// (as vLLM's documentation describes its free queue). It knows neither tokens nor memory.
#pragma once

#include "block_key.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace vtensor::bench {

using block_id = std::uint32_t;

class block_pool {
  public:
    explicit block_pool(std::size_t count) : blocks_(count + 1), free_{count} {
        for (block_id id = 0; id <= count; ++id) { // the last one is the list's head
            blocks_[id].next = id == count ? 0 : id + 1;
            blocks_[id].previous = id == 0 ? static_cast<block_id>(count) : id - 1;
        }
    }

    [[nodiscard]] std::size_t size() const noexcept { return blocks_.size() - 1; }
    /// Blocks that nobody refers to, with and without a name.
    [[nodiscard]] std::size_t free() const noexcept { return free_; }
    /// Those of them with a name.
    [[nodiscard]] std::size_t kept() const noexcept { return kept_; }
    [[nodiscard]] std::uint32_t references(block_id id) const noexcept { return blocks_[id].references; }

    [[nodiscard]] std::optional<block_id> find(const block_key& key) const {
        const auto found = named_.find(key);
        return found == named_.end() ? std::nullopt : std::optional{found->second};
    }

    /// The free block given back longest ago, with one reference and without a name. There must be one.
    [[nodiscard]] block_id acquire() {
        const block_id id = blocks_[head()].next;
        block& taken = blocks_[id];
        retain(id);
        if (taken.named) {
            named_.erase(taken.key);
            taken.named = false;
        }
        return id;
    }
    void retain(block_id id) {
        block& one = blocks_[id];
        if (one.references++ == 0) {
            blocks_[one.previous].next = one.next;
            blocks_[one.next].previous = one.previous;
            --free_;
            kept_ -= std::size_t{one.named};
        }
    }
    void release(block_id id) {
        block& one = blocks_[id];
        if (--one.references == 0) {
            const block_id last = blocks_[head()].previous;
            one.previous = last;
            one.next = head();
            blocks_[last].next = id;
            blocks_[head()].previous = id;
            ++free_;
            kept_ += std::size_t{one.named};
        }
    }
    /// Names a block that is referred to and has no name. A name that is taken stays with its block.
    void name(block_id id, const block_key& key) {
        if (named_.try_emplace(key, id).second) {
            blocks_[id].named = true;
            blocks_[id].key = key;
        }
    }

    /// O(blocks): the free list and the names agree with the blocks.
    [[nodiscard]] bool verify() const {
        std::size_t free = 0;
        std::size_t kept = 0;
        std::size_t named = 0;
        for (block_id id = blocks_[head()].next; id != head() && free <= size(); id = blocks_[id].next) {
            if (blocks_[id].references != 0 || blocks_[blocks_[id].next].previous != id)
                return false;
            ++free;
            kept += std::size_t{blocks_[id].named};
        }
        for (block_id id = 0; id < size(); ++id) {
            if (blocks_[id].named && find(blocks_[id].key) != id)
                return false;
            named += std::size_t{blocks_[id].named};
        }
        return free == free_ && kept == kept_ && named == named_.size();
    }

  private:
    struct block {
        std::uint32_t references = 0;
        block_id next = 0; ///< in the free list, from the one given back longest ago
        block_id previous = 0;
        bool named = false;
        block_key key{};
    };

    [[nodiscard]] block_id head() const noexcept { return static_cast<block_id>(blocks_.size() - 1); }

    std::vector<block> blocks_;
    std::size_t free_;
    std::size_t kept_ = 0;
    std::unordered_map<block_key, block_id, block_key_hash> named_;
};

} // namespace vtensor::bench
