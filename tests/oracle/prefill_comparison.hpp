// SPDX-License-Identifier: Apache-2.0
//
// What was decided from a prompt against what a file says of it: scores, and kept rows as masks.
#pragma once

#include "prefill_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace oracle {

class prefill_comparison {
  public:
    prefill_comparison(const oracle_file& file, findings& found) : file_{file}, found_{found}, given_{file} {}

  protected:
    using mask_list = std::vector<kept_mask>;

    [[nodiscard]] std::string name(const char* tensor, std::size_t layer) const {
        return tensor + ("." + std::to_string(layer));
    }

    /// Scores as the file has them: those beyond the scored rows are the layer's maximum, or it plus 1.
    void compare_all_scores(const char* method, const char* tensor, const decision& made, float beyond) {
        for (std::size_t layer = 0; layer < given_.layers; ++layer) {
            const auto expected =
                file_.floats(name(tensor, layer), {given_.size.kv_heads, given_.size.tokens});
            if (!made.outcome())
                continue;
            float highest = made.scores(layer, 0)[0];
            double magnitude = 0;
            for (std::size_t head = 0; head < given_.size.kv_heads; ++head)
                for (const float score : made.scores(layer, head)) {
                    highest = std::max(highest, score);
                    magnitude = std::max(magnitude, std::abs(static_cast<double>(score)));
                }
            for (std::size_t head = 0; head < given_.size.kv_heads; ++head) {
                std::vector<float> all{made.scores(layer, head).begin(), made.scores(layer, head).end()};
                all.resize(given_.size.tokens, highest + beyond);
                compare_scores(found_.of(method), layer, head, all,
                               std::span{expected}.subspan(head * all.size(), all.size()), 1e-5,
                               std::string_view{method} == "keydiff" ? magnitude : 0);
            }
        }
    }

    /// The masks of a layer from lists of kept rows [head, count].
    [[nodiscard]] mask_list masks_of_lists(const std::string& tensor, std::size_t heads) const {
        const extents shape = file_.shape(tensor, 2);
        const auto rows = file_.integers(tensor, {heads, shape[1]});
        mask_list masks(heads, kept_mask(given_.size.tokens, 0));
        for (std::size_t index = 0; index < rows.size(); ++index) {
            if (rows[index] < 0 || static_cast<std::size_t>(rows[index]) >= given_.size.tokens)
                throw bad_file{"has a tensor " + tensor + " with a row that does not exist"};
            masks[index / shape[1]][static_cast<std::size_t>(rows[index])] = 1;
        }
        return masks;
    }
    [[nodiscard]] mask_list masks_of(const std::vector<std::int64_t>& flags) const {
        mask_list masks;
        for (std::size_t first = 0; first < flags.size(); first += given_.size.tokens) {
            masks.emplace_back(given_.size.tokens, std::uint8_t{0});
            for (std::size_t row = 0; row < given_.size.tokens; ++row)
                masks.back()[row] = flags[first + row] != 0;
        }
        return masks;
    }

    /// `together`: the heads of a layer compete, so that one bar holds for all of them.
    void compare_layer(const char* method, std::size_t layer, const decision& made, const mask_list& expected,
                       bool together) {
        if (!made.outcome())
            return;
        std::size_t wanted = 0;
        std::size_t kept = 0;
        std::size_t guards = 0;
        for (std::size_t head = 0; head < expected.size(); ++head) {
            wanted +=
                static_cast<std::size_t>(std::accumulate(expected[head].begin(), expected[head].end(), 0));
            kept += made.count(layer, head);
            guards += given_.size.tokens - made.scores(layer, head).size();
        }
        if (wanted < guards &&
            kept == guards) { // the file's choice among rows of equal padded scores is a tie
            found_.of(method).kept += given_.size.tokens * expected.size();
            found_.of(method).ties += guards - wanted;
            return;
        }
        double highest = -1e300;
        for (std::size_t head = 0; head < expected.size(); ++head)
            highest = std::max(highest, made.bar(layer, head));
        for (std::size_t head = 0; head < expected.size(); ++head)
            compare_kept(found_.of(method), layer, head, made.mask(layer, head, given_.size.tokens),
                         expected[head], made.scores(layer, head),
                         together ? highest : made.bar(layer, head));
        if (wanted != kept)
            found_.of(method).differs(layer, 0,
                                      std::to_string(kept) + " rows kept in the layer, expected " +
                                          std::to_string(wanted));
    }

    /// In every head the `count` rows of the highest scores of the file.
    [[nodiscard]] mask_list best_rows(const std::string& tensor, std::size_t count) const {
        const std::size_t tokens = given_.size.tokens;
        const auto scores = file_.floats(tensor, {given_.size.kv_heads, tokens});
        mask_list masks(given_.size.kv_heads, kept_mask(tokens, 0));
        for (std::size_t head = 0; head < masks.size(); ++head) {
            std::vector<std::size_t> order(tokens);
            std::iota(order.begin(), order.end(), std::size_t{0});
            std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
                return scores[head * tokens + a] > scores[head * tokens + b];
            });
            for (std::size_t rank = 0; rank < count; ++rank)
                masks[head][order[rank]] = 1;
        }
        return masks;
    }

    const oracle_file& file_;
    findings& found_;
    prefill_case given_;
};

} // namespace oracle
