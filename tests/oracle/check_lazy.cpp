// SPDX-License-Identifier: Apache-2.0
#include "checks.hpp"
#include "truth.hpp"

#include <vtensor/policy/eviction/methods.hpp>
#include <vtensor/policy/eviction/recurrence_tracker.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace oracle {

namespace {

namespace ev = vtensor::eviction;
using vtensor::position_type;
using vtensor::slot_type;

/// Decodes the file's steps beside the library's tracker and policy. After every eviction it goes on with the
/// rows that the file kept, because ties may differ.
class lazy_check {
  public:
    lazy_check(const oracle_file& file, findings& found)
        : file_{file},
          counters_{found.of("lazy.counters")},
          importance_{found.of("lazy.importance")},
          kept_{found.of("lazy.kept")},
          heads_{file.count("H", 1024)},
          width_{file.count("d", 4096)},
          prefix_{file.count("prefix", 16384)},
          steps_{file.count("steps", 16384)},
          evictions_{file.count("evictions", 4096)},
          budget_{file.count("B", 16384)},
          window_{file.count("W", 16384)} {
        if (heads_ == 0 || width_ == 0 || steps_ == 0 || window_ == 0 || window_ > budget_)
            throw bad_file{"has sizes that do not fit together"};
        q_ = file.floats("q", {heads_, steps_, width_});
        k_ = file.floats("k", {heads_, prefix_ + steps_, width_});
        evicted_at_ = file.integers("eviction.steps", {evictions_});
        policy_.set_window(window_);
        policy_.set_amount(ev::amount::of_tokens(budget_));
        policy_.get<ev::part::schedule>().rows = budget_;
        policy_.get<ev::part::schedule>().steps = window_;
        for (std::size_t head = 0; head < heads_; ++head)
            for (position_type position = 0; position < prefix_; ++position)
                live_[head].push_back(position);
    }

    void run() {
        ev::recurrence_tracker tracker{heads_, static_cast<float>(file_.number("alpha"))};
        std::size_t eviction = 0;
        for (std::size_t step = 1; step <= steps_; ++step) {
            if (!observe(tracker, step))
                return;
            const bool due = policy_.due(
                {.tokens = prefix_ + step, .steps = step, .rows = live_[0].size(), .evictions = eviction});
            const bool expected =
                eviction < evictions_ && evicted_at_[eviction] == static_cast<std::int64_t>(step);
            ++kept_.kept;
            if (due != expected)
                return kept_.differs(
                    0, 0,
                    "step " + std::to_string(step) +
                        (due ? ": evicts, expected not to" : ": does not evict, expected to"));
            if (due)
                evict(tracker, eviction++);
            if (!kept_.first_difference.empty())
                return; // what follows would follow from that
        }
        if (eviction != evictions_)
            throw bad_file{"has more evictions than steps to reach them"};
    }

  private:
    [[nodiscard]] std::vector<ev::head_rows> rows() const {
        std::vector<ev::head_rows> all;
        for (const auto& [head, positions] : live_)
            all.push_back({.rows = positions.size(), .positions = positions.data()});
        return all;
    }

    bool observe(ev::recurrence_tracker& tracker, std::size_t step) {
        std::vector<float> shown;
        for (auto& [head, positions] : live_) {
            positions.push_back(static_cast<position_type>(prefix_ + step - 1));
            std::vector<const float*> keys;
            for (const position_type position : positions)
                keys.push_back(&k_[(head * (prefix_ + steps_) + position) * width_]);
            for (const double weight : softmax(&q_[(head * steps_ + step - 1) * width_], keys, width_))
                shown.push_back(static_cast<float>(weight));
        }
        const std::size_t count = live_[0].size();
        const auto view = vtensor::make_view(static_cast<const float*>(shown.data()), heads_, 1, count);
        const vtensor::status seen = tracker.observe(rows(), view);
        if (!seen)
            counters_.differs(0, 0, vtensor::to_string(seen.error()));
        return seen.ok();
    }

    /// Compares everything of one eviction, and goes on with what the file kept.
    void evict(ev::recurrence_tracker& tracker, std::size_t eviction) {
        const std::string prefix = "eviction." + std::to_string(eviction) + ".";
        const extents shape{heads_, live_[0].size()};
        const auto positions = file_.integers(prefix + "live_positions", shape);
        const auto importance = file_.floats(prefix + "importance", shape);
        const auto last = file_.integers(prefix + "last_hit", shape);
        const auto longest = file_.integers(prefix + "max_interval", shape);
        const auto kept = file_.integers(prefix + "kept_positions", {heads_, budget_});

        const auto rated = tracker.importance();
        if (!rated)
            return kept_.differs(eviction, 0, vtensor::to_string(rated.error()));
        const auto heads = rows();
        const ev::layer_evidence shown{.heads = heads, .recurrence = *rated};
        ev::workspace memory;
        ev::kept_rows chosen;
        if (const vtensor::status outcome = policy_.choose({&shown, 1}, memory, chosen); !outcome)
            return kept_.differs(eviction, 0, vtensor::to_string(outcome.error()));

        for (std::size_t head = 0; head < heads_; ++head) {
            std::map<std::int64_t, slot_type> slot_of;
            for (slot_type slot = 0; slot < live_[head].size(); ++slot)
                slot_of[live_[head][slot]] = slot;
            std::vector<float> found(shape[1]);
            for (std::size_t index = 0; index < shape[1]; ++index) {
                const std::size_t at = head * shape[1] + index;
                if (!slot_of.contains(positions[at]))
                    return kept_.differs(eviction, head,
                                         "position " + std::to_string(positions[at]) + " is not live");
                const slot_type slot = slot_of[positions[at]];
                const auto& row = tracker.counters(head)[slot];
                ++counters_.scores;
                if (row.last_hit != last[at] || row.longest_interval != longest[at])
                    counters_.differs(eviction, head,
                                      "position " + std::to_string(positions[at]) + " has counters " +
                                          std::to_string(row.last_hit) + " and " +
                                          std::to_string(row.longest_interval) + ", expected " +
                                          std::to_string(last[at]) + " and " + std::to_string(longest[at]));
                found[index] = (*rated)(head, slot);
            }
            compare_scores(importance_, eviction, head, found,
                           std::span{importance}.subspan(head * shape[1], shape[1]), 1e-6);
            std::vector<slot_type> theirs;
            for (std::size_t index = 0; index < budget_; ++index) {
                const std::int64_t position = kept[head * budget_ + index];
                if (!slot_of.contains(position))
                    return kept_.differs(eviction, head,
                                         "position " + std::to_string(position) + " was not live");
                theirs.push_back(slot_of[position]);
            }
            std::sort(theirs.begin(), theirs.end());
            const auto scores = [&](slot_type slot) { return (*rated)(head, slot); };
            check_valid(eviction, head, "the library", chosen.of(0, head), scores);
            check_valid(eviction, head, "the file", theirs, scores);
            tracker.retain(head, theirs);
            std::vector<position_type> stay;
            for (const slot_type slot : theirs)
                stay.push_back(live_[head][slot]);
            live_[head] = stay;
        }
    }

    /// Kept is a top-k of the older rows and all of the window.
    template <class Scores>
    void check_valid(std::size_t eviction, std::size_t head, const std::string& who,
                     std::span<const slot_type> kept, const Scores& score) {
        const auto& positions = live_[head];
        const std::size_t window_begin = positions.back() + 1 - window_;
        float lowest_kept = std::numeric_limits<float>::max();
        float highest_gone = std::numeric_limits<float>::lowest();
        std::size_t found = 0;
        for (slot_type slot = 0; slot < positions.size(); ++slot) {
            const bool stays = std::binary_search(kept.begin(), kept.end(), slot);
            found += stays;
            ++kept_.kept;
            if (positions[slot] >= window_begin) {
                if (!stays)
                    kept_.differs(eviction, head, who + " evicts from the window");
            } else if (stays) {
                lowest_kept = std::min(lowest_kept, score(slot));
            } else {
                highest_gone = std::max(highest_gone, score(slot));
            }
        }
        if (found != budget_ || kept.size() != budget_)
            kept_.differs(eviction, head,
                          who + " keeps " + std::to_string(found) + " rows, expected " +
                              std::to_string(budget_));
        if (lowest_kept < highest_gone * (1 - 1e-6f))
            kept_.differs(eviction, head, who + " keeps a row of less importance than one that goes");
        kept_.ties += lowest_kept == highest_gone && who == "the library";
    }

    const oracle_file& file_;
    finding& counters_;
    finding& importance_;
    finding& kept_;
    std::size_t heads_, width_, prefix_, steps_, evictions_, budget_, window_;
    std::vector<float> q_, k_;
    std::vector<std::int64_t> evicted_at_;
    ev::lazy<> policy_;
    std::map<std::size_t, std::vector<position_type>> live_; ///< by head: the position of every row
};

} // namespace

void check_lazy(const oracle_file& file, findings& found) { lazy_check{file, found}.run(); }

} // namespace oracle
