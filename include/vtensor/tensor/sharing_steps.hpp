// SPDX-License-Identifier: Apache-2.0
//
// Sharing rows, merging equal ones and making them writable, each as a step that can be taken back: for a
// tensor alone, and for many that do it together or not at all.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/memory/merged_pages.hpp>
#include <vtensor/memory/shared_prefix.hpp>
#include <vtensor/memory/writable_pages.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

namespace vtensor::detail {

/// The first rows of one tensor become those of another, which has none. `stream` may be null.
template <class Tensor>
class sharing_step {
    using stream_type = typename Tensor::stream_type;

  public:
    /// As `page_sharing::try_share_prefix_of`. The tensors stay where they are until it is over.
    template <class Rule>
    [[nodiscard]] status run(Tensor& own, Tensor& other, std::size_t rows, const Rule& rule,
                             const stream_type* stream) noexcept {
        if (own.range_ == nullptr || other.range_ == nullptr || &own == &other || own.rows_ != 0 ||
            rows > other.rows_ || &own.range_->pool() != &other.range_->pool() || own.shape_ != other.shape_)
            return error{errc::invalid_argument, verb::share, 0, bytes{0}};
        if (const status outcome = own.check(rows); !outcome)
            return outcome;
        typename Tensor::slots_type slots;
        if (const status outcome = other.copy_slots(rows, slots); !outcome)
            return outcome;
        const bytes size = own.row_bytes_ * rows;
        if (rows > 0) {
            prefix_.emplace(*own.range_, *other.range_, stream);
            const page_count whole = pages_to_map(own, other, size, rule, stream);
            if (const status outcome = prefix_->run(whole, size); !outcome) {
                prefix_.reset();
                return outcome;
            }
        }
        own_ = &own;
        own.rows_ = rows;
        own.take_slots(std::move(slots));
        return {};
    }
    /// Both tensors are as before, but for surplus pages that the receiver gave up. Directly after `run`, of
    /// several steps the last first.
    void undo() noexcept {
        if (own_ == nullptr)
            return;
        own_->rows_ = 0;
        own_->take_slots({});
        if (prefix_)
            prefix_->undo();
        own_ = nullptr;
    }

  private:
    template <class Rule>
    [[nodiscard]] static page_count pages_to_map(const Tensor& own, const Tensor& other, bytes size,
                                                 const Rule& rule, const stream_type* stream) noexcept {
        const auto& pool = other.range_->pool();
        if (!can_alias(pool.backend()))
            return page_count{};
        sharing_state state{};
        state.page = other.range_->page_size();
        state.whole = page_count{size / state.page};
        state.mapped = own.range_->mapped();
        state.writable = other.range_->with_pages([&](const auto& pages) {
            const auto flags = pages.read_only().first(state.whole.count());
            return page_count{static_cast<std::size_t>(std::count(flags.begin(), flags.end(), 0))};
        });
        state.aliases = pool.stats().aliases;
        state.behind_work = stream != nullptr;
        return std::min(rule.pages(state), state.whole);
    }

    Tensor* own_ = nullptr;
    std::optional<shared_prefix<typename Tensor::range_type>> prefix_{};
};

/// What a step that exchanges pages of a tensor ends with.
template <class Tensor, template <class> class Pages>
class exchanging_step {
  public:
    void finish() noexcept {
        if (pages_)
            pages_->finish();
        pages_.reset();
    }
    /// All tensors are as before. Directly after `run`, of several steps the last first.
    void undo() noexcept {
        if (!pages_)
            return;
        pages_->undo();
        pages_.reset();
        tensor_->forget_lost_rows();
    }

  protected:
    Tensor* tensor_ = nullptr; ///< whose pages are exchanged
    std::optional<Pages<typename Tensor::range_type>> pages_{};
};

/// The first rows of one tensor, which are equal to those of another, lie on the pages of the other.
template <class Tensor>
class merging_step : public exchanging_step<Tensor, merged_pages> {
    using base = exchanging_step<Tensor, merged_pages>;
    using base::pages_;
    using base::tensor_;
    using stream_type = typename Tensor::stream_type;

  public:
    /// As `page_sharing::try_merge_prefix_of`. The tensors stay where they are until it is over.
    [[nodiscard]] status run(Tensor& own, Tensor& other, std::size_t rows,
                             const stream_type* stream) noexcept {
        if (own.range_ == nullptr || other.range_ == nullptr || &own == &other || rows > own.rows_ ||
            rows > other.rows_ || &own.range_->pool() != &other.range_->pool() || own.shape_ != other.shape_)
            return error{errc::invalid_argument, verb::share, 0, bytes{0}};
        const page_count whole{own.row_bytes_ * rows / own.range_->page_size()};
        if (whole == page_count{} || !can_alias(own.range_->pool().backend()))
            return {};
        tensor_ = &own;
        pages_.emplace(*own.range_, *other.range_);
        const status outcome = pages_->run(whole, stream);
        if (!outcome)
            base::undo();
        return outcome;
    }
};

/// Pages of a tensor may be written afterwards.
template <class Tensor>
class writing_step : public exchanging_step<Tensor, writable_pages> {
    using base = exchanging_step<Tensor, writable_pages>;
    using base::pages_;
    using base::tensor_;
    using stream_type = typename Tensor::stream_type;

  public:
    /// Those on which the rows [first, last) lie, also where there are no such rows yet; or nothing changes.
    [[nodiscard]] status run(Tensor& tensor, std::size_t first, std::size_t last,
                             const stream_type* stream) noexcept {
        tensor_ = &tensor;
        pages_.emplace(*tensor.range_);
        status outcome = pages_->want(page_count{tensor.row_bytes_ * first / tensor.range_->page_size()},
                                      tensor.pages_of(last));
        if (outcome)
            outcome = pages_->run(stream);
        if (!outcome)
            base::undo();
        return outcome;
    }
};

} // namespace vtensor::detail
