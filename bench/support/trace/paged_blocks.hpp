// SPDX-License-Identifier: Apache-2.0
//
// The second baseline: blocks of 16 tokens and a block table a sequence, with prefixes found again block by
// block, after the public description of vLLM (arXiv 2309.06180; its documentation of automatic prefix
// caching). All memory is taken from the system at the start. A prompt is never matched as a whole: its last
// token must be computed.
#pragma once

#include "block_key.hpp"
#include "block_pool.hpp"
#include "kv_arena.hpp"
#include "memory_manager.hpp"

#include <algorithm>
#include <vector>

namespace vtensor::bench {

class paged_blocks final : public memory_manager_under_test {
  public:
    static constexpr std::size_t block_tokens = 16;

    explicit paged_blocks(const manager_options& options)
        : shape_{options.shape},
          prefixes_{options.prefixes},
          max_tokens_{options.max_tokens},
          blocks_{options.limit / block_size()},
          headroom_{static_cast<std::size_t>(options.headroom * static_cast<double>(options.limit.count()))},
          sequences_(options.max_sequences),
          arena_{block_size() * std::max<std::size_t>(1, blocks_.size())} {
        for (std::size_t index = sequences_.size(); index-- > 0;)
            free_.push_back(static_cast<sequence_id>(index));
    }

    [[nodiscard]] std::string name() const override { return "blocks of 16"; }

    [[nodiscard]] std::optional<admission> begin(std::span<const token_id> prompt,
                                                 std::uint64_t salt) override {
        if (free_.empty() || prompt.size() > max_tokens_)
            return std::nullopt;
        block_key key = first_key(salt);
        find_prefix(prompt, key);
        std::size_t spare = blocks_.free();
        for (const block_id id : found_)
            spare -= std::size_t{blocks_.references(id) == 0};
        const std::size_t fresh = blocks_for(prompt.size()) - found_.size();
        const bool alone = free_.size() == sequences_.size();
        if (block_size() * fresh + (alone ? bytes{0} : headroom_) > block_size() * spare)
            return std::nullopt;

        const sequence_id id = free_.back();
        free_.pop_back();
        sequence& made = sequences_[id];
        made.table = found_;
        for (const block_id shared : found_)
            blocks_.retain(shared);
        made.tokens = found_.size() * block_tokens;
        made.last = key;
        append(made, prompt.subspan(made.tokens));
        return admission{id, found_.size() * block_tokens};
    }

    [[nodiscard]] bool extend(std::span<const extension> batch) override {
        std::size_t fresh = 0;
        for (const extension& one : batch) {
            const sequence& grown = sequences_[one.sequence];
            if (one.tokens.size() > max_tokens_ - grown.tokens)
                return false;
            fresh += blocks_for(grown.tokens + one.tokens.size()) - grown.table.size();
        }
        if (fresh > blocks_.free())
            return false;
        for (const extension& one : batch)
            append(sequences_[one.sequence], one.tokens);
        return true;
    }

    void preempt(sequence_id id, std::span<const token_id>) override { give_up(id); }
    void end(sequence_id id, std::span<const token_id>) override { give_up(id); }

    [[nodiscard]] memory_figures figures() const override {
        return {arena_.physical(), block_size() * (blocks_.size() - blocks_.free()),
                block_size() * blocks_.kept()};
    }
    [[nodiscard]] std::byte* key_row(sequence_id id, std::size_t token) override {
        const std::size_t slot =
            sequences_[id].table[token / block_tokens] * block_tokens + token % block_tokens;
        return arena_.at(shape_.row() * slot);
    }

    /// References are those of the tables, and no block is in a table twice.
    [[nodiscard]] bool verify() const override {
        std::vector<std::uint32_t> references(blocks_.size());
        for (const sequence& one : sequences_) {
            if (one.table.size() != blocks_for(one.tokens))
                return false;
            for (const block_id id : one.table)
                ++references[id];
        }
        for (block_id id = 0; id < references.size(); ++id)
            if (references[id] != blocks_.references(id))
                return false;
        return blocks_.verify();
    }

  private:
    struct sequence {
        std::vector<block_id> table;
        std::size_t tokens = 0;
        block_key last{};              ///< of the last full block
        std::vector<token_id> partial; ///< tokens behind it
    };

    [[nodiscard]] bytes block_size() const noexcept { return shape_.token() * block_tokens; }
    [[nodiscard]] static std::size_t blocks_for(std::size_t tokens) noexcept {
        return (tokens + block_tokens - 1) / block_tokens;
    }

    /// The blocks of the longest prefix that is there go to `found_`, the name of the last one to `key`.
    void find_prefix(std::span<const token_id> prompt, block_key& key) {
        found_.clear();
        if (!prefixes_)
            return;
        for (std::size_t first = 0; first + block_tokens < prompt.size(); first += block_tokens) {
            const block_key next = next_key(key, prompt.subspan(first, block_tokens));
            const auto found = blocks_.find(next);
            if (!found)
                return;
            found_.push_back(*found);
            key = next;
        }
    }

    /// The blocks that it takes are free.
    void append(sequence& grown, std::span<const token_id> tokens) {
        for (std::size_t blocks = blocks_for(grown.tokens + tokens.size()); grown.table.size() < blocks;)
            grown.table.push_back(blocks_.acquire());
        if (!prefixes_) {
            grown.tokens += tokens.size();
            return;
        }
        for (const token_id token : tokens) {
            grown.partial.push_back(token);
            if (++grown.tokens % block_tokens == 0) {
                grown.last = next_key(grown.last, grown.partial);
                grown.partial.clear();
                blocks_.name(grown.table[grown.tokens / block_tokens - 1], grown.last);
            }
        }
    }

    /// The last block first: what is behind is of less use to others than what is in front.
    void give_up(sequence_id id) {
        sequence& gone = sequences_[id];
        while (!gone.table.empty()) {
            blocks_.release(gone.table.back());
            gone.table.pop_back();
        }
        gone.tokens = 0;
        gone.partial.clear();
        free_.push_back(id);
    }

    kv_shape shape_;
    bool prefixes_;
    std::size_t max_tokens_;
    block_pool blocks_;
    bytes headroom_;
    std::vector<sequence> sequences_;
    std::vector<sequence_id> free_;
    std::vector<block_id> found_;
    kv_arena arena_;
};

} // namespace vtensor::bench
