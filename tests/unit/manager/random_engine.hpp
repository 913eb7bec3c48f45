// SPDX-License-Identifier: Apache-2.0
//
// An engine that does anything at any time: creates, extends, forks, records, writes, takes back, preempts,
// resumes and releases sequences at a limit, by chance, and knows what must be so afterwards.
#pragma once

#include "engine.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>
#include <vector>

namespace vtensor::testing {

struct random_engine_options {
    std::size_t most_sequences = 12;
    std::size_t longest = 400; ///< tokens
    bool changes_limit = false;
    bool failures_are_allowed = false; ///< the backend may fail whenever it likes
    bool evicts = false;
};

template <class Engine>
class random_engine {
  public:
    random_engine(Engine& engine, std::uint64_t seed, const random_engine_options& options = {})
        : now_{engine}, chance_{seed}, options_{options} {}

    /// One operation, of any kind. What it answers must be one of the answers that are allowed.
    void step() {
        const std::size_t what = below(100);
        if (now_.sequences.empty() || (what < 12 && now_.sequences.size() < options_.most_sequences))
            create();
        else if (what < 60)
            extend();
        else if (what < 66)
            fork();
        else if (what < 72)
            record();
        else if (what < 78)
            truncate();
        else if (what < 82)
            overwrite();
        else if (what < 86)
            allow(now_.manager->try_preempt(any()), {errc::busy});
        else if (what < 91)
            allow(now_.resume(any()).status(), {errc::invalid_argument});
        else if (what < 93)
            evict();
        else if (what < 99)
            allow(now_.release(any()), {});
        else if (options_.changes_limit)
            allow(now_.manager->resize_limit(bytes{(200 + below(400)) * 4096}), {errc::limit_exceeded});
    }
    /// Of a sequence by chance, every row; often enough it is one that shares.
    void check_one() {
        if (!now_.sequences.empty())
            now_.require_same(any());
    }
    [[nodiscard]] std::size_t refusals() const { return refusals_; }
    /// How many recordings made pages shared.
    [[nodiscard]] std::size_t merges() const { return merges_; }

  private:
    [[nodiscard]] std::size_t below(std::size_t end) { return chance_() % end; }
    [[nodiscard]] kv::sequence_id any() {
        auto at = now_.sequences.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(below(now_.sequences.size())));
        return at->first;
    }
    /// A few texts with common beginnings, for few tenants.
    [[nodiscard]] std::vector<kv::token_id> prompt() {
        auto made = text(1 + below(options_.longest / 2), below(3));
        if (below(2) == 0)
            made = joined(std::move(made), text(below(60), below(5)));
        return made;
    }

    void allow(const status& outcome, std::initializer_list<errc> allowed) {
        if (outcome)
            return;
        ++refusals_;
        const errc code = outcome.code();
        const bool expected = is_shortage(code) || options_.failures_are_allowed ||
                              std::find(allowed.begin(), allowed.end(), code) != allowed.end();
        INFO(to_string(outcome.error()));
        REQUIRE(expected);
    }

    void create() {
        kv::sequence_options options;
        options.salt = kv::salt_id{below(2)};
        options.priority = static_cast<int>(below(3));
        const auto tokens = prompt();
        std::vector<kv::sequence_id> made; // now and then several that begin alike
        for (std::size_t more = below(4) == 0 ? 3 : 1;
             more > 0 && now_.sequences.size() < options_.most_sequences; --more) {
            const auto one = now_.create(joined(tokens, text(more - 1, more)), options);
            allow(one.status(), {});
            if (one)
                made.push_back(one->id);
        }
        for (const auto id : made) {
            if (made.size() > 1)
                record(id);
        }
    }
    void extend() {
        std::vector<std::vector<kv::token_id>> tokens;
        std::vector<kv::extension> batch;
        tokens.reserve(now_.sequences.size());
        for (const auto& [id, what] : now_.sequences) {
            const std::size_t count = std::min(1 + below(below(10) == 0 ? 50 : 3), options_.longest);
            if (now_.manager->state(id).value() != kv::sequence_state::running ||
                what.tokens.size() + count > options_.longest || below(8) == 0)
                continue;
            tokens.push_back(text(count, below(4)));
            batch.push_back({id, tokens.back()});
        }
        allow(now_.extend(batch), {});
    }
    void fork() {
        if (now_.sequences.size() < options_.most_sequences)
            allow(now_.fork(any()).status(), {errc::busy});
    }
    void record() { record(any()); }
    void record(kv::sequence_id id) {
        const expected_sequence& what = now_.sequences.at(id);
        const bytes shared = now_.manager->stats().shared;
        if (what.is_true)
            allow(now_.manager->try_record(id),
                  {errc::busy, what.left.empty() ? errc::busy : errc::unsupported});
        merges_ += now_.manager->stats().shared > shared ? 1u : 0u;
    }
    void evict() {
        if (options_.evicts)
            allow(now_.evict(any(), chance_), {errc::busy});
    }
    void truncate() {
        const auto id = any();
        allow(now_.truncate(id, 1 + below(now_.sequences.at(id).tokens.size())), {errc::busy});
    }
    /// Rows that cannot be computed from the tokens: such a sequence is neither recorded nor preempted.
    void overwrite() {
        const auto id = any();
        const std::size_t size = now_.sequences.at(id).tokens.size();
        const std::size_t first = below(size);
        if (!now_.sequences.at(id).left.empty())
            return; // tokens and slots are two things then
        allow(now_.overwrite(id, first, 1 + below(std::min<std::size_t>(size - first, 40)), chance_()),
              {errc::busy});
    }

    Engine& now_;
    std::mt19937_64 chance_;
    random_engine_options options_;
    std::size_t refusals_ = 0;
    std::size_t merges_ = 0;
};

} // namespace vtensor::testing
