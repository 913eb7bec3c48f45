// SPDX-License-Identifier: Apache-2.0
//
// A file's prompt: its parameters, the truth of every layer, the evidence made of it, and what a policy
// decides from that.
#pragma once

#include "oracle_file.hpp"
#include "truth.hpp"

#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/eviction/workspace.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace oracle {

/// Which rows of a head are kept: a 1 a row.
using kept_mask = std::vector<std::uint8_t>;

struct prefill_case {
    explicit prefill_case(const oracle_file& file)
        : layers{file.count("L", 256)},
          size{.query_heads = file.count("Hq", 1024),
               .kv_heads = file.count("Hkv", 1024),
               .tokens = file.count("T", 16384),
               .width = file.count("d", 4096),
               .hidden = file.count("hidden", 65536)},
          window{file.count("W", 4096)},
          kernel{file.count("kernel", 255)},
          removed{file.number("removed")} {
        if (layers == 0 || size.kv_heads == 0 || size.query_heads == 0 || size.tokens == 0 ||
            size.width == 0 || size.query_heads % size.kv_heads != 0)
            throw bad_file{"has sizes that do not fit together"};
        if (window == 0 || window >= size.tokens || kernel % 2 == 0 || !(removed >= 0 && removed < 1))
            throw bad_file{"has a window, a kernel or a ratio outside their domains"};
        q = file.floats("q", {layers, size.query_heads, size.tokens, size.width});
        k = file.floats("k", {layers, size.kv_heads, size.tokens, size.width});
        v = file.floats("v", {layers, size.kv_heads, size.tokens, size.width});
        wo = file.floats("wo", {layers, size.query_heads, size.width, size.hidden});
        const std::size_t shown =
            std::min(size.tokens, std::max({window, file.count("windowkv.average.suffix", size.tokens),
                                            file.count("windowkv.max.suffix", size.tokens)}));
        heads.assign(size.kv_heads, {.rows = size.tokens});
        for (std::size_t layer = 0; layer < layers; ++layer)
            truths.push_back(observe_layer(inputs(layer), size, shown));
        for (const layer_truth& truth : truths)
            evidence.push_back(evidence_of(truth, shown));
    }
    prefill_case(const prefill_case&) = delete;
    prefill_case& operator=(const prefill_case&) = delete;

    [[nodiscard]] layer_inputs inputs(std::size_t layer) const {
        const auto part = [&](const std::vector<float>& all) {
            const std::size_t length = all.size() / layers;
            return std::span{all}.subspan(layer * length, length);
        };
        return {.q = part(q), .k = part(k), .v = part(v), .wo = part(wo)};
    }

    /// int(T(1 − r)).
    [[nodiscard]] std::size_t even_budget() const {
        return static_cast<std::size_t>(static_cast<double>(size.tokens) * (1 - removed));
    }

    std::size_t layers;
    sizes size;
    std::size_t window, kernel;
    double removed;
    std::vector<float> q, k, v, wo;
    std::vector<vtensor::eviction::head_rows> heads;
    std::vector<layer_truth> truths;
    std::vector<vtensor::eviction::layer_evidence> evidence;

  private:
    [[nodiscard]] vtensor::eviction::layer_evidence evidence_of(const layer_truth& truth,
                                                                std::size_t shown) const {
        using vtensor::make_view;
        const std::size_t rows = size.tokens;
        return {.heads = heads,
                .probabilities = make_view(truth.probabilities.data(), size.query_heads, shown, rows),
                .accumulated = make_view(truth.accumulated.data(), size.query_heads, rows),
                .key_norms = make_view(truth.key_norms.data(), size.kv_heads, rows),
                .key_similarity = make_view(truth.similarity.data(), size.kv_heads, rows),
                .output_norms = make_view(truth.output_norms.data(), size.kv_heads, rows)};
    }
};

/// What a policy decides: masks and scores by layer and head.
class decision {
  public:
    template <class Policy>
    decision(const Policy& policy, std::span<const vtensor::eviction::layer_evidence> shown)
        : outcome_{policy.choose(shown, memory_, kept_)} {}

    [[nodiscard]] const vtensor::status& outcome() const { return outcome_; }
    [[nodiscard]] std::span<const float> scores(std::size_t layer, std::size_t head) const {
        return memory_.columns(layer, head).scores;
    }
    [[nodiscard]] kept_mask mask(std::size_t layer, std::size_t head, std::size_t tokens) const {
        kept_mask all(tokens, 0);
        for (const vtensor::slot_type slot : kept_.of(layer, head))
            all[slot] = 1;
        return all;
    }
    [[nodiscard]] std::size_t count(std::size_t layer, std::size_t head) const {
        return kept_.of(layer, head).size();
    }
    /// The highest score of a head that did not suffice.
    [[nodiscard]] double bar(std::size_t layer, std::size_t head) const {
        double highest = -1e300;
        const auto all = scores(layer, head);
        const kept_mask kept = mask(layer, head, memory_.columns(layer, head).count);
        for (std::size_t row = 0; row < all.size(); ++row)
            if (kept[row] == 0)
                highest = std::max(highest, static_cast<double>(all[row]));
        return highest;
    }

  private:
    vtensor::eviction::workspace memory_;
    vtensor::eviction::kept_rows kept_;
    vtensor::status outcome_;
};

} // namespace oracle
