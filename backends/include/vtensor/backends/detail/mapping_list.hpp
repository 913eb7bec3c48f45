// SPDX-License-Identifier: Apache-2.0
//
// The mappings of one reservation, by address. They lie in blocks of a few neighbours, and only the blocks
// are nodes of a search tree: what grows and shrinks at its end, as tensors do, rarely touches the tree. It
// knows nothing of reservations and makes no system call; not locked.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>

namespace vtensor::detail {

/// One chunk at one range.
struct mapping {
    address start{};
    bytes size{};
    std::uint32_t chunk = 0; ///< which, in the numbering of the owner of the table
    access_mode allowed = access_mode::none;
    bool installed = false; ///< the kernel knows of it; until access is first granted only the table does

    [[nodiscard]] address end() const noexcept { return start + size; }
};

/// Up to `capacity` mappings in ascending order, with none of another block between them.
struct mapping_block
    : boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>,
      boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    static constexpr std::size_t capacity = 16;

    std::size_t count = 0;
    mapping entries[capacity]; ///< beyond `count` they mean nothing
};
using mapping_block_list = boost::intrusive::list<mapping_block, boost::intrusive::constant_time_size<false>>;

/// Blocks that no list uses. They are kept until the store goes.
class spare_blocks {
  public:
    spare_blocks() = default;
    spare_blocks(const spare_blocks&) = delete;
    spare_blocks& operator=(const spare_blocks&) = delete;
    ~spare_blocks() {
        blocks_.clear_and_dispose([](mapping_block* block) { delete block; });
    }

    /// An empty block; null where there is no memory.
    [[nodiscard]] mapping_block* take() noexcept {
        if (blocks_.empty())
            return new (std::nothrow) mapping_block;
        mapping_block& block = blocks_.front();
        blocks_.pop_front();
        return &block;
    }
    void give(mapping_block& block) noexcept {
        block.count = 0;
        blocks_.push_front(block);
    }

  private:
    mapping_block_list blocks_;
};

/// Disjoint mappings in ascending order. Finding one is O(log n), O(1) near the end; entering or removing one
/// is O(1) beside that. A block is given up when its last mapping goes, so n mappings hold at most n blocks.
class mapping_list {
  public:
    /// Where a mapping lies, until a mapping is entered or removed. The default value is nowhere.
    class place {
      public:
        place() noexcept = default;
        explicit operator bool() const noexcept { return block_ != nullptr; }
        [[nodiscard]] mapping& operator*() const noexcept { return block_->entries[index_]; }
        [[nodiscard]] mapping* operator->() const noexcept { return &block_->entries[index_]; }
        friend bool operator==(place, place) noexcept = default;

      private:
        friend class mapping_list;
        place(mapping_block* block, std::size_t index) noexcept : block_{block}, index_{index} {}

        mapping_block* block_ = nullptr;
        std::size_t index_ = 0;
    };

    mapping_list() = default;
    mapping_list(const mapping_list&) = delete;
    mapping_list& operator=(const mapping_list&) = delete;
    ~mapping_list() {
        by_start_.clear();
        blocks_.clear_and_dispose([](mapping_block* block) { delete block; });
    }

    [[nodiscard]] bool empty() const noexcept { return blocks_.empty(); }

    [[nodiscard]] place first() noexcept { return empty() ? place{} : place{&blocks_.front(), 0}; }

    /// The next mapping, or nowhere.
    [[nodiscard]] place after(place at) noexcept {
        if (at.index_ + 1 < at.block_->count)
            return {at.block_, at.index_ + 1};
        const auto next = std::next(blocks_.iterator_to(*at.block_));
        return next == blocks_.end() ? place{} : place{&*next, 0};
    }

    /// The last mapping that starts at or before an address, or nowhere.
    [[nodiscard]] place at_or_before(address where) noexcept {
        if (empty())
            return {};
        mapping_block* found = &blocks_.back();
        if (where < found->entries[0].start) {
            const auto above = by_start_.upper_bound(where);
            if (&*above == &blocks_.front())
                return {};
            found = &*std::prev(blocks_.iterator_to(*above));
        }
        std::size_t index = found->count - 1;
        while (found->entries[index].start > where)
            --index;
        return {found, index};
    }

    /// Enters a mapping after `before`, or as the first where that is nowhere. False, and nothing changed,
    /// where there is no memory.
    [[nodiscard]] bool insert(place before, const mapping& entry, spare_blocks& spares) noexcept {
        mapping_block* block = before.block_;
        std::size_t index = before.index_ + 1;
        if (!before) {
            block = empty() ? nullptr : &blocks_.front();
            index = 0;
        }
        if (block == nullptr || block->count == mapping_block::capacity) {
            mapping_block* const fresh = spares.take();
            if (fresh == nullptr)
                return false;
            link(*fresh, block);
            // Behind a full block nothing moves: a range that grows at its end has full blocks.
            constexpr std::size_t half = mapping_block::capacity / 2;
            const bool splits = index < mapping_block::capacity && block != nullptr;
            if (splits) {
                std::copy(block->entries + half, block->entries + block->count, fresh->entries);
                fresh->count = block->count - half;
                block->count = half;
            }
            if (!splits || index > half) {
                index -= splits ? half : index;
                block = fresh;
            }
        }
        std::copy_backward(block->entries + index, block->entries + block->count,
                           block->entries + block->count + 1);
        block->entries[index] = entry;
        ++block->count;
        return true;
    }

    /// Removes the mappings from `first` to `last`, both among them.
    void erase(place first, place last, spare_blocks& spares) noexcept {
        auto block = blocks_.iterator_to(*first.block_);
        std::size_t begin = first.index_;
        for (bool done = false; !done; begin = 0) {
            mapping_block& cut = *block++;
            done = &cut == last.block_;
            const std::size_t end = done ? last.index_ + 1 : cut.count;
            std::copy(cut.entries + end, cut.entries + cut.count, cut.entries + begin);
            cut.count -= end - begin;
            if (cut.count == 0) {
                unlink(cut);
                spares.give(cut);
            }
        }
    }

  private:
    struct first_start {
        using type = address;
        [[nodiscard]] address operator()(const mapping_block& block) const noexcept {
            return block.entries[0].start;
        }
    };

    /// Puts a block behind another; as the only one where that is null.
    void link(mapping_block& fresh, mapping_block* before) noexcept {
        const auto next = before == nullptr ? blocks_.end() : std::next(blocks_.iterator_to(*before));
        by_start_.insert_before(next == blocks_.end() ? by_start_.end() : by_start_.iterator_to(*next),
                                fresh);
        blocks_.insert(next, fresh);
    }
    void unlink(mapping_block& block) noexcept {
        by_start_.erase(by_start_.iterator_to(block));
        blocks_.erase(blocks_.iterator_to(block));
    }

    mapping_block_list blocks_; ///< in ascending order
    boost::intrusive::set<mapping_block, boost::intrusive::key_of_value<first_start>,
                          boost::intrusive::constant_time_size<false>>
        by_start_; ///< the same
};

} // namespace vtensor::detail
