// SPDX-License-Identifier: Apache-2.0
#include "checks.hpp"
#include "prefill_comparison.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace oracle {

namespace {

namespace ev = vtensor::eviction;

class prefill_check : private prefill_comparison {
  public:
    using prefill_comparison::prefill_comparison;

    void run() {
        outputs();
        snapkv();
        pyramid();
        ada();
        critical();
        by_scores<ev::tova>("tova", 1);
        kept_lists<ev::tova>("tova");
        by_scores<ev::knorm>("knorm", 0);
        by_scores<ev::keydiff>("keydiff", 0);
        by_scores<ev::observed>("observed", 0);
        defensive();
        layer_defensive();
        windows<ev::window_kv<16>>("average", 0);
        windows<ev::window_kv_best<32>>("max", 4);
    }

  private:
    /// The method with the file's parameters. Methods without a window do not get one.
    template <class Policy>
    [[nodiscard]] Policy configured(bool windowed) const {
        Policy policy;
        policy.set_amount(ev::amount::removing(given_.removed));
        if (windowed)
            policy.set_window(given_.window);
        if constexpr (requires { policy.template get<ev::part::pooling>().width; })
            policy.template get<ev::part::pooling>().width = given_.kernel;
        return policy;
    }
    template <class Policy>
    decision decide(const char* method, const Policy& policy) {
        decision made{policy, given_.evidence};
        if (!made.outcome())
            found_.of(method).differs(0, 0, vtensor::to_string(made.outcome().error()));
        return made;
    }

    /// attention.out by the loops that make the evidence.
    void outputs() {
        for (std::size_t layer = 0; layer < given_.layers; ++layer) {
            const auto& size = given_.size;
            const auto expected =
                file_.floats(name("attention.out", layer), {size.query_heads, size.tokens, size.width});
            const std::vector<float> found{given_.truths[layer].outputs.begin(),
                                           given_.truths[layer].outputs.end()};
            float magnitude = 0;
            for (const float value : expected)
                magnitude = std::max(magnitude, std::abs(value));
            const std::size_t length = size.tokens * size.width;
            for (std::size_t head = 0; head < size.query_heads; ++head)
                compare_scores(
                    found_.of("attention"), layer, head, std::span{found}.subspan(head * length, length),
                    std::span{expected}.subspan(head * length, length), 1e-5, static_cast<double>(magnitude));
        }
    }

    void snapkv() {
        const auto made = decide("snapkv", configured<ev::snapkv<>>(true));
        compare_all_scores("snapkv", "snapkv.scores", made, 1);
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer("snapkv", layer, made,
                          masks_of_lists(name("snapkv.kept", layer), given_.size.kv_heads), false);
    }

    /// The budgets, and the best rows by the file's scores of snapkv.
    void pyramid() {
        const auto made = decide("pyramid", configured<ev::pyramid_snapkv<>>(true));
        for (std::size_t layer = 0; layer < given_.layers; ++layer) {
            const std::size_t budget = file_.count(name("pyramid.budget", layer), given_.size.tokens);
            compare_layer("pyramid", layer, made, best_rows(name("snapkv.scores", layer), budget), false);
        }
    }

    void ada() {
        const auto made = decide("adakv", configured<ev::ada<ev::snapkv<>>>(true));
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer("adakv", layer, made,
                          masks_of(file_.integers(name("adakv.kept_mask", layer),
                                                  {given_.size.kv_heads, given_.size.tokens})),
                          true);
    }

    void critical() {
        const auto made = decide("criticalkv", configured<ev::critical<ev::snapkv<>>>(true));
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer("criticalkv", layer, made,
                          masks_of_lists(name("criticalkv.kept", layer), given_.size.kv_heads), false);
    }

    /// The scores, and the best rows by the file's scores.
    template <class Policy>
    void by_scores(const char* method, float beyond) {
        const auto made = decide(method, configured<Policy>(false));
        const std::string tensor = std::string{method} + ".scores";
        compare_all_scores(method, tensor.c_str(), made, beyond);
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer(method, layer, made, best_rows(name(tensor.c_str(), layer), given_.even_budget()),
                          false);
    }
    template <class Policy>
    void kept_lists(const char* method) {
        const auto made = decide(method, configured<Policy>(false));
        const std::string tensor = std::string{method} + ".kept";
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer(method, layer, made,
                          masks_of_lists(name(tensor.c_str(), layer), given_.size.kv_heads), false);
    }

    void defensive() {
        const auto made = decide("defensive", configured<ev::defensive_kv<>>(true));
        compare_all_scores("defensive", "defensive.scores", made, 0);
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            compare_layer("defensive", layer, made,
                          masks_of(file_.integers(name("defensive.kept_mask", layer),
                                                  {given_.size.kv_heads, given_.size.tokens})),
                          true);
    }

    void layer_defensive() {
        const char* method = "layer_defensive";
        const auto made = decide(method, configured<ev::layer_defensive_kv<>>(true));
        const auto budgets = file_.integers("layer_defensive.layer_budget", {given_.layers});
        const auto masks = masks_of(file_.integers(
            "layer_defensive.kept_mask", {given_.layers, given_.size.kv_heads, given_.size.tokens}));
        if (!made.outcome())
            return;
        double highest = -1e300;
        for (std::size_t layer = 0; layer < given_.layers; ++layer)
            for (std::size_t head = 0; head < given_.size.kv_heads; ++head)
                highest = std::max(highest, made.bar(layer, head));
        for (std::size_t layer = 0; layer < given_.layers; ++layer) {
            std::size_t kept = 0;
            const std::size_t ties = found_.of(method).ties;
            for (std::size_t head = 0; head < given_.size.kv_heads; ++head) {
                kept += made.count(layer, head);
                compare_kept(found_.of(method), layer, head, made.mask(layer, head, given_.size.tokens),
                             masks[layer * given_.size.kv_heads + head], made.scores(layer, head), highest);
            }
            if (found_.of(method).ties == ties && static_cast<std::int64_t>(kept) != budgets[layer])
                found_.of(method).differs(layer, 0,
                                          std::to_string(kept) + " rows kept in the layer, expected " +
                                              std::to_string(budgets[layer]));
        }
    }

    /// WindowKV over as many layers as the file has budgets, all of them layer 0, whose kept rows the file
    /// has.
    template <class Policy>
    void windows(const char* kind, std::size_t best) {
        const std::string method = std::string{"windowkv."} + kind;
        const std::size_t tokens = given_.size.tokens;
        const auto budgets = file_.counts(method + ".budgets", tokens);
        const std::size_t suffix = file_.count(method + ".suffix", tokens - 1);
        const extents shape = file_.shape(method + ".kept", 1);
        const auto rows = file_.integers(method + ".kept", shape);
        if (budgets.empty() || suffix == 0)
            throw bad_file{"has no budgets or no suffix of " + method};
        kept_mask expected(tokens, 0);
        for (const std::int64_t row : rows) {
            if (row < 0 || static_cast<std::size_t>(row) >= tokens)
                throw bad_file{"has a tensor " + method + ".kept with a row that does not exist"};
            expected[static_cast<std::size_t>(row)] = 1;
        }

        Policy policy;
        policy.set_window(suffix);
        policy.set_amount(ev::amount::of_tokens((budgets.front() + budgets.back()) / 2));
        const std::vector<ev::layer_evidence> shown(budgets.size(), given_.evidence[0]);
        const decision made{policy, shown};
        finding& into = found_.of(method);
        if (!made.outcome())
            return into.differs(0, 0, vtensor::to_string(made.outcome().error()));

        const std::vector<float> scores = window_scores(suffix, best);
        double bar = -1e300;
        for (std::size_t row = 0; row < scores.size(); ++row)
            if (made.mask(0, 0, tokens)[row] == 0)
                bar = std::max(bar, static_cast<double>(scores[row]));
        for (std::size_t head = 0; head < given_.size.kv_heads; ++head)
            compare_kept(into, 0, head, made.mask(0, head, tokens), expected, scores, bar);
        constexpr std::size_t width = 8;
        for (std::size_t layer = 0; layer < budgets.size(); ++layer) {
            const std::size_t scored = tokens - suffix;
            const std::size_t surplus = scored > budgets[layer] ? scored - budgets[layer] : 0;
            const std::size_t all = (scored + width - 1) / width;
            const std::size_t stay = all - std::min(all, (surplus + width - 1) / width);
            const kept_mask kept = made.mask(layer, 0, tokens);
            std::size_t windows = 0;
            for (std::size_t row = 0; row < scored; row += width)
                windows += kept[row];
            if (windows != stay)
                into.differs(layer, 0,
                             std::to_string(windows) + " windows kept, expected " + std::to_string(stay));
        }
    }

    /// By row the score of its window in layer 0, by a plain loop.
    [[nodiscard]] std::vector<float> window_scores(std::size_t suffix, std::size_t best) const {
        const auto& shown = given_.evidence[0].probabilities;
        const std::size_t scored = given_.size.tokens - suffix;
        std::vector<float> scores(scored);
        for (std::size_t first = 0; first < scored; first += 8) {
            const std::size_t last = std::min(scored, first + 8);
            double total = 0;
            for (std::size_t head = 0; head < given_.size.query_heads; ++head) {
                std::vector<double> sums;
                for (std::size_t row = first; row < last; ++row) {
                    double sum = 0;
                    for (std::size_t query = shown.extents[1] - suffix; query < shown.extents[1]; ++query)
                        sum += static_cast<double>(shown(head, query, row));
                    sums.push_back(sum);
                }
                std::sort(sums.rbegin(), sums.rend());
                const std::size_t counted = best == 0 ? sums.size() : std::min(best, sums.size());
                total +=
                    std::accumulate(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(counted), 0.0) /
                    static_cast<double>(counted);
            }
            std::fill(scores.begin() + static_cast<std::ptrdiff_t>(first),
                      scores.begin() + static_cast<std::ptrdiff_t>(last),
                      static_cast<float>(total / static_cast<double>(given_.size.query_heads)));
        }
        return scores;
    }
};

} // namespace

void check_prefill(const oracle_file& file, findings& found) { prefill_check{file, found}.run(); }

} // namespace oracle
