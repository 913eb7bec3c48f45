// SPDX-License-Identifier: Apache-2.0
// Every memory manager that is compared: it answers all requests under a tight limit, no row is ever another
// token's, and its figures stay within the limit.
#include <trace/engine.hpp>
#include <trace/make_workloads.hpp>
#include <trace/managers.hpp>
#include <trace/run_summary.hpp>

#include <support/catch.hpp>

#include <string>
#include <vector>

namespace vtensor::bench {

namespace {

const kv_shape shape{.layers = 2, .heads = 1, .width = 8, .element = 2};

manager_options tight_options(const workload& all, bytes limit) {
    return {.shape = shape,
            .page = 4_KiB,
            .limit = limit,
            .max_tokens = all.longest(),
            .max_sequences = 20,
            .prefixes = all.prefixes_recur};
}

std::vector<workload> small_workloads() {
    std::vector<request_lengths> lengths;
    for (std::size_t index = 0; index < 60; ++index)
        lengths.push_back({.prompt = 100 + index * 37 % 400, .decoded = 50 + index * 53 % 200});
    return {make_trace("trace", lengths, 20, 1), make_chat({.conversations = 25, .per_second = 20}, 1),
            make_system_prompts({.requests = 120, .per_second = 40, .prompts = 2, .prompt = {200, 300}}, 1)};
}

} // namespace

TEST_CASE("Every manager answers every request, and every row is its token's") {
    for (const workload& all : small_workloads()) {
        // Three of the longest sequences, which fill pages and blocks badly.
        const bytes limit = shape.token() * (all.longest() * 3) + 256_KiB;
        for (const compared_manager& compared : compared_managers) {
            INFO(all.name << ", " << compared.name);
            const auto memory = compared.make(tight_options(all, limit));
            CHECK(memory->name() == compared.name);
            const auto record = engine{all, *memory, {.max_sequences = 20, .check_rows = true}}.run();
            CHECK(record.finished == all.requests.size());
            CHECK(record.refused == 0);
            CHECK(record.wrong_rows == 0);
            CHECK(memory->verify());
            CHECK(memory->figures().held == bytes{});
            const run_summary found = summarize(record, shape);
            CHECK(found.held.worst_ratio >= 1);
            for (const step_record& step : record.steps) {
                REQUIRE(step.memory.held + step.memory.kept <= step.memory.physical);
                REQUIRE(step.memory.physical <= limit + 4_KiB);
                REQUIRE(step.memory.held >= shape.token() * step.distinct);
            }
        }
    }
}

TEST_CASE("The same run gives the same steps, whatever the managing took") {
    const auto all = small_workloads();
    for (const compared_manager& compared : compared_managers) {
        INFO(compared.name);
        std::vector<run_record> records;
        for (int turn = 0; turn < 2; ++turn) {
            const auto memory = compared.make(tight_options(all[1], 1_MiB));
            records.push_back(engine{all[1], *memory, {.max_sequences = 20, .thread_time = turn == 1}}.run());
        }
        CHECK(records[0].seconds == records[1].seconds);
        CHECK(records[0].matched_tokens == records[1].matched_tokens);
        CHECK(records[0].preemptions == records[1].preemptions);
        REQUIRE(records[0].steps.size() == records[1].steps.size());
    }
}

TEST_CASE("Static ranges hold the longest length for every sequence, and blocks only what is begun") {
    const workload all = small_workloads()[0];
    manager_options options = tight_options(all, 1_MiB);
    options.max_sequences = 100;
    static_ranges ranges{options};
    paged_blocks blocks{options};
    const auto prompt = all.tokens(all.requests[0], 17);
    std::size_t sequences = 0;
    while (ranges.begin(prompt, 0))
        ++sequences;
    const bytes range = round_up(shape.row() * all.longest(), 4_KiB) * shape.tensors();
    CHECK(sequences == 1_MiB / range);
    CHECK(ranges.figures().held == range * sequences);
    REQUIRE(blocks.begin(prompt, 0));
    CHECK(blocks.figures().held == shape.token() * 32);
    const std::vector<token_id> too_long(all.longest() + 1, 0);
    CHECK_FALSE(static_ranges{options}.begin(too_long, 0));
    CHECK_FALSE(paged_blocks{options}.begin(too_long, 0));
    auto little = options;
    little.limit = range - 1_B;
    CHECK_THROWS(static_ranges{little});
}

} // namespace vtensor::bench
