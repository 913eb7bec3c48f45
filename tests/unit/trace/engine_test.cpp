// SPDX-License-Identifier: Apache-2.0
// The simulated engine: its clock, whom it lets in, whom it takes back, and what it asks of a manager. The
// manager here only counts tokens.
#include <trace/engine.hpp>

#include <support/catch.hpp>

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace vtensor::bench {

namespace {

/// Memory for so many tokens. Checks that it is asked sensibly, and writes down what it was asked.
class counting_manager final : public memory_manager_under_test {
  public:
    explicit counting_manager(std::size_t capacity) : capacity_{capacity} {}

    [[nodiscard]] std::string name() const override { return "counting"; }
    [[nodiscard]] std::optional<admission> begin(std::span<const token_id> prompt,
                                                 std::uint64_t salt) override {
        if (used() + prompt.size() > capacity_) {
            ++refused;
            return std::nullopt;
        }
        const sequence_id id = next_++;
        live_[id] = {prompt.begin(), prompt.end()};
        log.push_back("begin " + std::to_string(prompt[0]) + " with " + std::to_string(prompt.size()));
        salts.push_back(salt);
        return admission{id, std::min(matched, prompt.size())};
    }
    [[nodiscard]] bool extend(std::span<const extension> batch) override {
        std::size_t fresh = 0;
        for (const extension& one : batch)
            fresh += one.tokens.size();
        if (used() + fresh > capacity_)
            return false;
        for (const extension& one : batch) {
            REQUIRE(one.tokens.size() == 1);
            live_.at(one.sequence).push_back(one.tokens[0]);
        }
        ++extended;
        return true;
    }
    void preempt(sequence_id id, std::span<const token_id> tokens) override { leave("preempt ", id, tokens); }
    void end(sequence_id id, std::span<const token_id> tokens) override { leave("end ", id, tokens); }
    [[nodiscard]] double while_computing(double seconds) override {
        computed += seconds;
        return hidden;
    }
    [[nodiscard]] memory_figures figures() const override {
        return {bytes{capacity_}, bytes{used()}, bytes{}};
    }
    [[nodiscard]] std::byte* key_row(sequence_id id, std::size_t token) override {
        REQUIRE(token < live_.at(id).size());
        return rows_[{id, token}].data();
    }

    std::vector<std::string> log;
    std::vector<std::uint64_t> salts;
    std::size_t extended = 0;
    std::size_t refused = 0; ///< of `begin`
    std::size_t matched = 0; ///< what every `begin` claims
    double hidden = 0;
    double computed = 0;

  private:
    [[nodiscard]] std::size_t used() const {
        std::size_t sum = 0;
        for (const auto& [id, tokens] : live_)
            sum += tokens.size();
        return sum;
    }
    void leave(const char* how, sequence_id id, std::span<const token_id> tokens) {
        REQUIRE(live_.at(id) == std::vector<token_id>{tokens.begin(), tokens.end()});
        live_.erase(id);
        log.push_back(how + std::to_string(tokens[0]) + " with " + std::to_string(tokens.size()));
    }

    std::size_t capacity_;
    sequence_id next_ = 0;
    std::map<sequence_id, std::vector<token_id>> live_;
    std::map<std::pair<sequence_id, std::size_t>, std::array<std::byte, 8>> rows_;
};

/// Requests {prompt, decoded, arrival}; the first token of each is its number, the others are all different.
workload asked(std::vector<request> requests) {
    workload made;
    made.requests = std::move(requests);
    for (std::size_t index = 0; index < made.requests.size(); ++index) {
        request& one = made.requests[index];
        one.stream = index;
        auto& tokens = made.streams.emplace_back();
        for (std::size_t token = 0; token < one.prompt + one.decoded; ++token)
            tokens.push_back(static_cast<token_id>(token * 1000 + index));
    }
    return made;
}

const cost_model costs{.step = 1, .sequence = 0.1, .context_token = 0.01, .prefill_tokens_per_second = 100};

run_record run(const workload& all, counting_manager& memory, engine_options options = {}) {
    options.cost = costs;
    options.check_rows = true;
    return engine{all, memory, options}.run();
}

using names = std::vector<std::string>;

} // namespace

TEST_CASE("The clock of one request is the sum of its steps") {
    counting_manager memory{1000};
    const auto record = run(asked({{.prompt = 50, .decoded = 3, .arrival = 10}}), memory);
    // A step of 50 tokens of the prompt, then two of one sequence with 51 and 52 tokens.
    REQUIRE(record.steps.size() == 3);
    CHECK(record.steps[0].start == 10);
    CHECK(record.steps[0].computing == Catch::Approx(1 + 0.5));
    CHECK(record.steps[1].start == Catch::Approx(11.5));
    CHECK(record.steps[1].computing == Catch::Approx(1 + 0.1 + 0.51));
    CHECK(record.steps[2].computing == Catch::Approx(1 + 0.1 + 0.52));
    CHECK(record.seconds == Catch::Approx(10 + 1.5 + 1.61 + 1.62));
    CHECK(memory.computed == Catch::Approx(1.5 + 1.61 + 1.62));
    CHECK(record.steps[2].tokens == 52);
    CHECK(record.steps[2].memory.held == bytes{52});
    CHECK(memory.log == names{"begin 0 with 50", "end 0 with 52"}); // the last token needs no KV
    CHECK(record.finished == 1);
    CHECK(record.steps[0].steady == false);
    CHECK(record.steps[1].steady == true);
    CHECK(record.steps[2].steady == false);
    CHECK(record.wrong_rows == 0);
}

TEST_CASE("Sequences that run share a step, and one that comes later is let in between two") {
    counting_manager memory{1000};
    const auto record = run(asked({{.prompt = 10, .decoded = 4, .arrival = 0},
                                   {.prompt = 20, .decoded = 2, .salt = 7, .arrival = 0},
                                   {.prompt = 30, .decoded = 1, .arrival = 1.4}}),
                            memory);
    REQUIRE(record.steps.size() == 4);
    CHECK(record.steps[0].sequences == 2);
    CHECK(record.steps[0].computing == Catch::Approx(1.3));
    CHECK(record.steps[1].sequences == 2); // at 1.3 the third had not come
    CHECK(record.steps[1].computing == Catch::Approx(1 + 0.2 + 0.32));
    CHECK(record.steps[2].sequences == 2);
    CHECK(record.steps[2].computing == Catch::Approx(1 + 0.1 + 0.12 + 0.3));
    CHECK(record.steps[3].sequences == 1);
    CHECK(memory.log == names{"begin 0 with 10", "begin 1 with 20", "end 1 with 21", "begin 2 with 30",
                              "end 2 with 30", "end 0 with 13"});
    CHECK(memory.salts == std::vector<std::uint64_t>{0, 7, 0});
    CHECK(memory.extended == 3);
    CHECK(record.prompt_tokens == 60);
}

TEST_CASE("The number of sequences and the prompts of a step have limits") {
    const workload all = asked({{.prompt = 60, .decoded = 2},
                                {.prompt = 60, .decoded = 2},
                                {.prompt = 30, .decoded = 2},
                                {.prompt = 200, .decoded = 2}});
    counting_manager memory{1000};
    const auto record = run(all, memory, {.max_sequences = 3, .prefill_budget = 100});
    std::vector<std::size_t> sequences;
    for (const step_record& step : record.steps)
        sequences.push_back(step.sequences);
    // 60 | 60 and 30 beside the first, which ends | 200 is more than the budget beside nothing else
    CHECK(sequences == std::vector<std::size_t>{1, 3, 3, 1});
    CHECK(memory.log == names{"begin 0 with 60", "begin 1 with 60", "begin 2 with 30", "end 0 with 61",
                              "begin 3 with 200", "end 1 with 61", "end 2 with 31", "end 3 with 201"});
}

TEST_CASE("A request that finds no memory waits, and those behind it do, until something ends") {
    counting_manager memory{100};
    const auto record =
        run(asked({{.prompt = 60, .decoded = 3}, {.prompt = 50, .decoded = 1}, {.prompt = 5, .decoded = 1}}),
            memory);
    CHECK(memory.log == names{"begin 0 with 60", "end 0 with 62", "begin 1 with 50", "begin 2 with 5",
                              "end 1 with 50", "end 2 with 5"});
    CHECK(memory.refused == 1); // it is not asked again before
    CHECK(record.finished == 3);
    CHECK(record.preemptions == 0);
}

TEST_CASE(
    "When memory runs out, the sequence let in last is taken back and begins anew with its answer so far") {
    counting_manager memory{24};
    const auto record = run(asked({{.prompt = 10, .decoded = 4},
                                   {.prompt = 10, .decoded = 4},
                                   {.prompt = 2, .decoded = 1, .arrival = 0.1}}),
                            memory);
    // 10 + 10, 11 + 11 and 2, 12 + 12; at 13 + 13 the second leaves, with three tokens of its answer sampled,
    // of which two have KV. It is before the third in the queue, had that not been let in before.
    CHECK(memory.log == names{"begin 0 with 10", "begin 1 with 10", "begin 2 with 2", "end 2 with 2",
                              "preempt 1 with 12", "end 0 with 13", "begin 1 with 13", "end 1 with 13"});
    CHECK(memory.refused == 0);
    CHECK(record.preemptions == 1);
    CHECK(record.recomputed_tokens == 13);
    CHECK(record.prompt_tokens == 22); // recomputing is no prompt
    CHECK(record.finished == 3);
    CHECK(record.wrong_rows == 0);
}

TEST_CASE("Who was taken back goes before those who have not been let in yet") {
    counting_manager memory{22};
    const auto record =
        run(asked({{.prompt = 10, .decoded = 4}, {.prompt = 10, .decoded = 4}, {.prompt = 9, .decoded = 1}}),
            memory);
    CHECK(memory.log == names{"begin 0 with 10", "begin 1 with 10", "preempt 1 with 11", "end 0 with 13",
                              "begin 1 with 12", "begin 2 with 9", "end 2 with 9", "end 1 with 13"});
    CHECK(record.finished == 3);
}

TEST_CASE("What can never fit is refused, and with it what would follow") {
    SECTION("a prompt") {
        counting_manager memory{20};
        const auto record = run(asked({{.prompt = 21, .decoded = 1},
                                       {.prompt = 5, .decoded = 1, .after = 0},
                                       {.prompt = 5, .decoded = 1, .arrival = 0.5}}),
                                memory);
        CHECK(record.refused == 2);
        CHECK(record.finished == 1);
        CHECK(memory.log == names{"begin 2 with 5", "end 2 with 5"});
    }
    SECTION("an answer, with nobody waiting") {
        counting_manager memory{20};
        const auto record = run(asked({{.prompt = 19, .decoded = 9}}), memory);
        CHECK(record.refused == 1);
        CHECK(record.finished == 0);
    }
    SECTION("an answer") {
        counting_manager memory{20};
        const auto record =
            run(asked({{.prompt = 19, .decoded = 9}, {.prompt = 5, .decoded = 1, .arrival = 0.5}}), memory);
        CHECK(record.refused == 1);
        CHECK(record.finished == 1);
        CHECK(memory.log == names{"begin 0 with 19", "preempt 0 with 20", "begin 1 with 5", "end 1 with 5"});
    }
}

TEST_CASE("A turn comes its time after the end of the one before it") {
    counting_manager memory{100};
    const auto record = run(asked({{.prompt = 10, .decoded = 1, .arrival = 2},
                                   {.prompt = 20, .decoded = 1, .arrival = 5, .after = 0}}),
                            memory);
    REQUIRE(record.steps.size() == 2);
    CHECK(record.steps[1].start == Catch::Approx(2 + 1.1 + 5));
    CHECK(record.seconds == Catch::Approx(2 + 1.1 + 5 + 1.2));
}

TEST_CASE("Matched tokens are not computed, the last one always is, and hits are counted once") {
    counting_manager memory{100};
    memory.matched = 15;
    const auto record = run(asked({{.prompt = 20, .decoded = 1}, {.prompt = 10, .decoded = 1}}), memory);
    REQUIRE(record.steps.size() == 1);
    CHECK(record.steps[0].computing == Catch::Approx(1 + 0.05 + 0.01));
    CHECK(record.prompt_tokens == 30);
    CHECK(record.matched_tokens == 25);
    CHECK(record.wrong_rows == 2 * 25); // claimed and not there, seen when let in and when ended
}

TEST_CASE("Tokens that several sequences begin with count once among the different ones") {
    counting_manager memory{1000};
    const auto record = run(asked({{.prompt = 30, .decoded = 1, .group = 3, .common = 20},
                                   {.prompt = 25, .decoded = 2, .group = 3, .common = 20},
                                   {.prompt = 10, .decoded = 3, .group = 4, .common = 5},
                                   {.prompt = 40, .decoded = 3, .group = 3, .common = 20}}),
                            memory);
    REQUIRE(record.steps.size() == 3);
    CHECK(record.steps[0].tokens == 105);
    CHECK(record.steps[0].distinct == 65);
    CHECK(record.steps[1].tokens == 26 + 11 + 41);
    CHECK(record.steps[1].distinct == 26 + 11 + 41 - 20);
    CHECK(record.steps[2].tokens == 12 + 42);
    CHECK(record.steps[2].distinct == 12 + 42);
}

TEST_CASE("Work beside the model is hidden as far as the model takes as long") {
    const workload all = asked({{.prompt = 50, .decoded = 3}});
    counting_manager memory{100};
    memory.hidden = 1.55; // the steps take 1.5, 1.61 and 1.62 seconds
    const auto record = run(all, memory);
    REQUIRE(record.steps.size() == 3);
    CHECK(record.hidden == Catch::Approx(3 * 1.55));
    CHECK(record.steps[0].managing > 0.0499);
    CHECK(record.steps[0].managing < 0.1);
    CHECK(record.steps[1].managing < 0.04);
    CHECK(record.seconds == Catch::Approx(1.5 + 1.61 + 1.62)); // what managing takes does not move the clock
}

} // namespace vtensor::bench
