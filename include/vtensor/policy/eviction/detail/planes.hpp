// SPDX-License-Identifier: Apache-2.0
//
// The planes of an indicator for one head: a row of columns for every query head of the group and every
// query. An indicator that gives scores has one plane.
#pragma once

#include <vtensor/policy/eviction/part.hpp>

#include <cstddef>
#include <span>

namespace vtensor::eviction::detail {

template <class Indicator>
class planes {
  public:
    planes(const Indicator& indicator, const head_columns& head, float* scratch) noexcept
        : indicator_{&indicator}, head_{&head}, scratch_{scratch} {}

    /// Query heads of the group.
    [[nodiscard]] std::size_t group() const noexcept {
        if constexpr (gives_scores)
            return 1;
        else
            return indicator_->group(*head_);
    }
    /// Planes of a query head.
    [[nodiscard]] std::size_t queries() const noexcept {
        if constexpr (gives_scores)
            return 1;
        else
            return indicator_->shown_queries(*head_);
    }
    /// One plane, `scored` columns of it; valid until the next is asked for.
    [[nodiscard]] const float* operator()(std::size_t member, std::size_t query) const {
        if constexpr (gives_scores) {
            indicator_->score(*head_, std::span{scratch_, head_->scored});
            return scratch_;
        } else {
            return indicator_->plane(*head_, member, query, scratch_);
        }
    }
    /// Whether planes lie in the evidence itself, so that several are valid at once.
    [[nodiscard]] bool in_place() const { return queries() > 1 && operator()(0, 0) != scratch_; }

  private:
    static constexpr bool gives_scores =
        requires(const Indicator& indicator, const head_columns& head, std::span<float> scores) {
        indicator.score(head, scores);
    };

    const Indicator* indicator_;
    const head_columns* head_;
    float* scratch_;
};

} // namespace vtensor::eviction::detail
