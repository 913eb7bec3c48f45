// SPDX-License-Identifier: Apache-2.0
//
// What many tensors do together or not at all with shared pages: each step is kept until all are done, and
// taken back where one fails.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/tensor/sharing_steps.hpp>

#include <cstddef>
#include <list>
#include <new>

namespace vtensor::kv::detail {

/// Used once, by one thread: steps, then `finish` or `undo`; neither can fail. The tensors stay where they
/// are meanwhile.
template <class Tensor>
class tensor_steps {
    using stream_type = typename Tensor::stream_type;

  public:
    /// `stream`, which outlives the steps, is where all work on the tensors is queued; null: nothing is.
    explicit tensor_steps(const stream_type* stream = nullptr) noexcept : stream_{stream} {}
    tensor_steps(const tensor_steps&) = delete;
    tensor_steps& operator=(const tensor_steps&) = delete;
    ~tensor_steps() { undo(); }

    /// As `virtual_tensor::try_share_prefix_of`.
    template <class Rule>
    [[nodiscard]] status share(Tensor& own, Tensor& from, std::size_t rows, const Rule& rule) noexcept {
        return run(sharings_, verb::share,
                   [&](auto& step) { return step.run(own, from, rows, rule, stream_); });
    }
    /// As `virtual_tensor::try_merge_prefix_of`.
    [[nodiscard]] status merge(Tensor& own, Tensor& other, std::size_t rows) noexcept {
        return run(mergings_, verb::share, [&](auto& step) { return step.run(own, other, rows, stream_); });
    }
    /// The pages of the rows [first, last) may be written, also those of rows that are still to come.
    [[nodiscard]] status make_writable(Tensor& tensor, std::size_t first, std::size_t last) noexcept {
        return run(writings_, verb::make_writable,
                   [&](auto& step) { return step.run(tensor, first, last, stream_); });
    }

    void finish() noexcept {
        for (auto& step : writings_)
            step.finish();
        writings_.clear();
        for (auto& step : mergings_)
            step.finish();
        mergings_.clear();
        sharings_.clear();
    }
    void undo() noexcept {
        for (; !writings_.empty(); writings_.pop_back())
            writings_.back().undo();
        for (; !mergings_.empty(); mergings_.pop_back())
            mergings_.back().undo();
        for (; !sharings_.empty(); sharings_.pop_back())
            sharings_.back().undo();
    }

  private:
    template <class Steps, class Run>
    static status run(Steps& steps, verb what, Run run) noexcept {
        try {
            steps.emplace_back();
        } catch (const std::bad_alloc&) {
            return error{errc::out_of_memory, what, 0, bytes{sizeof(typename Steps::value_type)}};
        }
        const status outcome = run(steps.back());
        if (!outcome)
            steps.pop_back();
        return outcome;
    }

    const stream_type* stream_;
    // Lists: a deque allocates as soon as it is made, which a verb that needs no step could not survive.
    std::list<vtensor::detail::sharing_step<Tensor>> sharings_;
    std::list<vtensor::detail::merging_step<Tensor>> mergings_;
    std::list<vtensor::detail::writing_step<Tensor>> writings_;
};

} // namespace vtensor::kv::detail
