// SPDX-License-Identifier: Apache-2.0
//
// Which holder stands for a node of a prefix tree. A holder belongs to one leaf and stands for some of the
// nodes above it as well, possibly for very many. When it goes, another holder becomes its heir for all of
// them at once: nodes find the heir by following the records, and shorten the way for the next time (the
// disjoint sets of Tarjan, with path compression: O(log n) amortised).
#pragma once

#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <functional>
#include <utility>

namespace vtensor::kv::detail {

template <class Mark>
struct prefix_node;
template <class Holder>
struct holder_record;

/// Refers to a record and keeps it alive.
template <class Holder>
class holder_ref {
  public:
    using record = holder_record<Holder>;

    /// To none.
    holder_ref() noexcept = default;
    explicit holder_ref(record& to) noexcept : record_{&to} { ++to.references; }
    holder_ref(const holder_ref& other) noexcept : record_{other.record_} {
        if (record_ != nullptr)
            ++record_->references;
    }
    holder_ref(holder_ref&& other) noexcept : record_{std::exchange(other.record_, nullptr)} {}
    holder_ref& operator=(holder_ref other) noexcept {
        std::swap(record_, other.record_);
        return *this;
    }
    ~holder_ref() {
        while (record_ != nullptr && --record_->references == 0) {
            record* const heir = std::exchange(record_->heir.record_, nullptr);
            delete std::exchange(record_, heir);
        }
    }

    /// The record of the holder that stands for the place now. The reference must be to one.
    [[nodiscard]] record& live() noexcept {
        const holder_ref last{find()};
        for (holder_ref at = std::exchange(*this, last); at.record_ != last.record_;)
            at = std::exchange(at.record_->heir, last);
        return *last.record_;
    }
    /// The same without shortening the way.
    [[nodiscard]] const record& live() const noexcept { return find(); }

    explicit operator bool() const noexcept { return record_ != nullptr; }

  private:
    [[nodiscard]] record& find() const noexcept {
        record* at = record_;
        while (at->heir)
            at = at->heir.record_;
        return *at;
    }

    record* record_ = nullptr;
};

/// One holder. Live, and in the tree's set of holders, while it has no heir and its leaf is in the tree.
template <class Holder>
struct holder_record : boost::intrusive::set_base_hook<> {
    Holder holder{};
    prefix_node<holder_ref<Holder>>* leaf = nullptr;
    holder_ref<Holder> heir;
    std::size_t references = 0; ///< of nodes, and of records whose heir this is
};

struct holder_of {
    template <class Holder>
    [[nodiscard]] const Holder& operator()(const holder_record<Holder>& record) const noexcept {
        return record.holder;
    }
};
template <class Holder>
struct holder_key : holder_of {
    using type = Holder;
};

/// The live records, by holder.
template <class Holder>
using holder_set =
    boost::intrusive::set<holder_record<Holder>, boost::intrusive::key_of_value<holder_key<Holder>>,
                          boost::intrusive::compare<std::less<Holder>>>;

} // namespace vtensor::kv::detail
