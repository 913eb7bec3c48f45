// SPDX-License-Identifier: Apache-2.0
//
// The first baseline: every sequence gets a contiguous range of the longest length that there may be, mapped
// in full. Nothing is shared and nothing is kept.
#pragma once

#include "kv_arena.hpp"
#include "memory_manager.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

namespace vtensor::bench {

class static_ranges final : public memory_manager_under_test {
  public:
    explicit static_ranges(const manager_options& options)
        : shape_{options.shape},
          range_{round_up(options.shape.row() * options.max_tokens, options.page)},
          max_tokens_{options.max_tokens},
          tokens_(std::min(options.limit / slot(), options.max_sequences)),
          arena_{slot() * std::max<std::size_t>(1, tokens_.size())} {
        if (tokens_.empty())
            throw std::runtime_error{"the limit holds no sequence of the longest length"};
        for (std::size_t index = tokens_.size(); index-- > 0;)
            free_.push_back(static_cast<sequence_id>(index));
    }

    [[nodiscard]] std::string name() const override { return "static ranges"; }

    [[nodiscard]] std::optional<admission> begin(std::span<const token_id> prompt, std::uint64_t) override {
        if (free_.empty() || prompt.size() > max_tokens_)
            return std::nullopt;
        const sequence_id taken = free_.back();
        free_.pop_back();
        tokens_[taken] = prompt.size();
        return admission{taken, 0};
    }
    [[nodiscard]] bool extend(std::span<const extension> batch) override {
        const bool fits = std::ranges::all_of(batch, [&](const extension& one) {
            return one.tokens.size() <= max_tokens_ - tokens_[one.sequence];
        });
        for (const extension& one : batch)
            tokens_[one.sequence] += fits ? one.tokens.size() : 0;
        return fits;
    }
    void preempt(sequence_id sequence, std::span<const token_id>) override { free_.push_back(sequence); }
    void end(sequence_id sequence, std::span<const token_id>) override { free_.push_back(sequence); }

    [[nodiscard]] memory_figures figures() const override {
        return {arena_.physical(), slot() * (tokens_.size() - free_.size()), bytes{}};
    }
    [[nodiscard]] std::byte* key_row(sequence_id sequence, std::size_t token) override {
        return arena_.at(slot() * sequence + shape_.row() * token);
    }

  private:
    /// Of all tensors of a sequence.
    [[nodiscard]] bytes slot() const noexcept { return range_ * shape_.tensors(); }

    kv_shape shape_;
    bytes range_; ///< of one tensor
    std::size_t max_tokens_;
    std::vector<std::size_t> tokens_; ///< by sequence
    std::vector<sequence_id> free_;
    kv_arena arena_;
};

} // namespace vtensor::bench
