// SPDX-License-Identifier: Apache-2.0
//
// Which ranges of a linear resource are free: the offsets of the memory file of the host backend. First fit
// by size and then by offset, neighbours coalesced, O(log n) a call. It knows nothing of what the offsets
// mean.
#pragma once

#include <vtensor/core/units.hpp>

#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <iterator>
#include <new>

namespace vtensor::host {

/// A set of disjoint, never adjacent ranges [offset, offset + size). Used by one thread at a time.
class free_ranges {
    struct by_offset_tag;
    struct by_size_tag;

    struct range : boost::intrusive::set_base_hook<boost::intrusive::tag<by_offset_tag>>,
                   boost::intrusive::set_base_hook<boost::intrusive::tag<by_size_tag>> {
        std::size_t offset = 0;
        std::size_t size = 0;

        [[nodiscard]] std::size_t end() const noexcept { return offset + size; }
    };
    struct offset_less {
        bool operator()(const range& left, const range& right) const noexcept {
            return left.offset < right.offset;
        }
        bool operator()(std::size_t left, const range& right) const noexcept { return left < right.offset; }
        bool operator()(const range& left, std::size_t right) const noexcept { return left.offset < right; }
    };
    struct size_less {
        bool operator()(const range& left, const range& right) const noexcept {
            return left.size != right.size ? left.size < right.size : left.offset < right.offset;
        }
        bool operator()(const range& left, std::size_t right) const noexcept { return left.size < right; }
    };

  public:
    /// One node, allocated ahead so that giving a range back cannot fail.
    class spare_node {
      public:
        [[nodiscard]] static spare_node allocate() noexcept { return spare_node{new (std::nothrow) range}; }
        spare_node(spare_node&& other) noexcept : node_{other.node_} { other.node_ = nullptr; }
        spare_node& operator=(spare_node&&) = delete;
        ~spare_node() { delete node_; }
        explicit operator bool() const noexcept { return node_ != nullptr; }

      private:
        friend class free_ranges;
        explicit spare_node(range* node) noexcept : node_{node} {}
        range* node_;
    };

    free_ranges() = default;
    free_ranges(const free_ranges&) = delete;
    free_ranges& operator=(const free_ranges&) = delete;
    ~free_ranges() {
        by_size_.clear();
        by_offset_.clear_and_dispose([](range* node) { delete node; });
    }

    /// Takes `size` bytes from the smallest range that has them; false where none has.
    [[nodiscard]] bool take(bytes size, std::size_t& offset) noexcept {
        const auto found = by_size_.lower_bound(size.count(), size_less{});
        if (found == by_size_.end())
            return false;
        range& node = *found;
        by_size_.erase(found);
        offset = node.offset;
        if (node.size == size.count()) {
            by_offset_.erase(by_offset_.iterator_to(node));
            delete &node;
            return true;
        }
        node.offset +=
            size.count(); // still before its right neighbour: its place among the offsets is the same
        node.size -= size.count();
        by_size_.insert(node);
        return true;
    }

    /// Gives a range back that overlaps no free one.
    void give(std::size_t offset, bytes size, spare_node spare) noexcept {
        VTENSOR_ASSERT(spare);
        range* merged = spare.node_;
        spare.node_ = nullptr;
        merged->offset = offset;
        merged->size = size.count();
        const auto right = by_offset_.lower_bound(offset, offset_less{});
        if (right != by_offset_.begin()) {
            range& left = *std::prev(right);
            VTENSOR_ASSERT(left.end() <= offset);
            if (left.end() == offset) {
                merged->offset = left.offset;
                merged->size += left.size;
                drop(left);
            }
        }
        if (right != by_offset_.end()) {
            VTENSOR_ASSERT(offset + size.count() <= right->offset);
            if (right->offset == merged->end()) {
                merged->size += right->size;
                drop(*right);
            }
        }
        by_offset_.insert(*merged);
        by_size_.insert(*merged);
    }

    /// The number of ranges, for tests of coalescing.
    [[nodiscard]] std::size_t count() const noexcept { return by_offset_.size(); }

  private:
    void drop(range& node) noexcept {
        by_offset_.erase(by_offset_.iterator_to(node));
        by_size_.erase(by_size_.iterator_to(node));
        delete &node;
    }

    using offset_hook =
        boost::intrusive::base_hook<boost::intrusive::set_base_hook<boost::intrusive::tag<by_offset_tag>>>;
    using size_hook =
        boost::intrusive::base_hook<boost::intrusive::set_base_hook<boost::intrusive::tag<by_size_tag>>>;

    boost::intrusive::set<range, offset_hook, boost::intrusive::compare<offset_less>> by_offset_;
    boost::intrusive::set<range, size_hook, boost::intrusive::compare<size_less>> by_size_;
};

} // namespace vtensor::host
