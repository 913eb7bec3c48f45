// SPDX-License-Identifier: Apache-2.0
//
// The mappings of one reservation, by address. They lie in blocks of a few neighbours, and only the blocks
// are nodes of a search tree: what grows and shrinks at its end, as tensors do, rarely touches the tree. It
// knows nothing of reservations and makes no system call; not locked.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <boost/intrusive/set.hpp>
#include <boost/intrusive/slist.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>

namespace vtensor::host {

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
      boost::intrusive::slist_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    static constexpr std::size_t capacity = 16;

    std::size_t count = 0;
    mapping entries[capacity]; ///< beyond `count` they mean nothing
};

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
    boost::intrusive::slist<mapping_block, boost::intrusive::constant_time_size<false>> blocks_;
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
        blocks_.clear_and_dispose([](mapping_block* block) { delete block; });
    }

    [[nodiscard]] bool empty() const noexcept { return last_ == nullptr; }

    [[nodiscard]] place first() noexcept { return empty() ? place{} : place{&*blocks_.begin(), 0}; }

    /// The next mapping, or nowhere.
    [[nodiscard]] place after(place at) noexcept {
        if (at.index_ + 1 < at.block_->count)
            return {at.block_, at.index_ + 1};
        return at.block_ == last_ ? place{} : place{next(*at.block_), 0};
    }

    /// The last mapping that starts at or before an address, or nowhere.
    [[nodiscard]] place at_or_before(address where) noexcept {
        if (empty())
            return {};
        mapping_block* found = last_;
        if (where < found->entries[0].start) {
            const auto above = blocks_.upper_bound(where);
            if (above == blocks_.begin())
                return {};
            found = &*std::prev(above);
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
            block = empty() ? nullptr : &*blocks_.begin();
            index = 0;
        }
        if (block == nullptr || block->count == mapping_block::capacity) {
            mapping_block* const fresh = spares.take();
            if (fresh == nullptr)
                return false;
            link(*fresh, block);
            if (block != nullptr) {
                // What is entered behind a full block moves nothing: a range that grows at its end has full
                // blocks.
                const std::size_t kept =
                    index == mapping_block::capacity ? index : mapping_block::capacity / 2;
                std::copy(block->entries + kept, block->entries + block->count, fresh->entries);
                fresh->count = block->count - kept;
                block->count = kept;
                if (index >= kept) {
                    index -= kept;
                    block = fresh;
                }
            } else {
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
        mapping_block* block = first.block_;
        std::size_t begin = first.index_;
        for (bool done = false; !done; begin = 0) {
            done = block == last.block_;
            const std::size_t end = done ? last.index_ + 1 : block->count;
            mapping_block* const following = done ? nullptr : next(*block);
            std::copy(block->entries + end, block->entries + block->count, block->entries + begin);
            block->count -= end - begin;
            if (block->count == 0) {
                unlink(*block);
                spares.give(*block);
            }
            block = following;
        }
    }

  private:
    struct first_start {
        using type = address;
        [[nodiscard]] address operator()(const mapping_block& block) const noexcept {
            return block.entries[0].start;
        }
    };

    [[nodiscard]] mapping_block* next(mapping_block& block) noexcept {
        return &*std::next(blocks_.iterator_to(block));
    }

    /// Puts a block behind another; as the only one where that is null.
    void link(mapping_block& fresh, mapping_block* before) noexcept {
        if (before == last_) {
            blocks_.push_back(fresh);
            last_ = &fresh;
        } else {
            blocks_.insert_before(std::next(blocks_.iterator_to(*before)), fresh);
        }
    }
    void unlink(mapping_block& block) noexcept {
        const auto where = blocks_.iterator_to(block);
        if (&block == last_)
            last_ = where == blocks_.begin() ? nullptr : &*std::prev(where);
        blocks_.erase(where);
    }

    boost::intrusive::set<mapping_block, boost::intrusive::key_of_value<first_start>,
                          boost::intrusive::constant_time_size<false>>
        blocks_;
    mapping_block* last_ = nullptr;
};

} // namespace vtensor::host
