// SPDX-License-Identifier: Apache-2.0
// What the generator promises of its workloads.
#include <trace/make_workloads.hpp>

#include <support/catch.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <set>
#include <span>
#include <tuple>
#include <vector>

namespace vtensor::bench {

namespace {

auto as_tuple(const request& one) {
    return std::tuple{one.stream,  one.prompt, one.decoded, one.salt,
                      one.arrival, one.after,  one.group,   one.common};
}

bool same(const workload& one, const workload& other) {
    return one.streams == other.streams &&
           std::ranges::equal(one.requests, other.requests, {}, as_tuple, as_tuple);
}

/// What the engine relies on.
void check_form(const workload& made) {
    std::set<std::size_t> followed;
    for (std::size_t index = 0; index < made.requests.size(); ++index) {
        const request& one = made.requests[index];
        REQUIRE(one.prompt >= 1);
        REQUIRE(one.decoded >= 1);
        REQUIRE(one.arrival >= 0);
        REQUIRE(one.common <= one.prompt);
        REQUIRE(one.prompt + one.decoded <= made.streams.at(one.stream).size());
        if (one.after != none) {
            REQUIRE(one.after < index);
            REQUIRE(followed.insert(one.after).second);
        }
    }
    for (const auto& stream : made.streams)
        REQUIRE(std::ranges::all_of(stream, [](token_id token) { return token >= 0 && token < 128'000; }));
}

const std::vector<request_lengths> lengths(500, {.prompt = 40, .decoded = 10});

} // namespace

TEST_CASE("The seed alone decides a workload") {
    CHECK(same(make_trace("t", lengths, 2, 7), make_trace("t", lengths, 2, 7)));
    CHECK_FALSE(same(make_trace("t", lengths, 2, 7), make_trace("t", lengths, 2, 8)));
    CHECK(same(make_chat({.conversations = 20}, 7), make_chat({.conversations = 20}, 7)));
    CHECK_FALSE(same(make_chat({.conversations = 20}, 7), make_chat({.conversations = 20}, 8)));
    CHECK(same(make_system_prompts({.requests = 20}, 7), make_system_prompts({.requests = 20}, 7)));
    CHECK_FALSE(same(make_system_prompts({.requests = 20}, 7), make_system_prompts({.requests = 20}, 8)));
}

TEST_CASE("The numbers are the same on every machine") {
    // By the definition of the 64-bit Mersenne Twister: its first numbers after the seed 5489.
    random_source random{5489};
    std::vector<token_id> tokens;
    random.append_tokens(tokens, 2);
    CHECK(tokens == std::vector<token_id>{static_cast<token_id>(14514284786278117030U % 128'000),
                                          static_cast<token_id>(4620546740167642908U % 128'000)});
}

TEST_CASE("A trace keeps its lengths and its rate, and no two prompts begin alike") {
    const workload made = make_trace("t", lengths, 4, 3);
    check_form(made);
    CHECK(made.longest() == 50);
    std::set<std::vector<token_id>> beginnings;
    for (const request& one : made.requests) {
        CHECK(one.prompt == 40);
        CHECK(one.decoded == 10);
        const auto first = made.tokens(one, 4);
        beginnings.insert({first.begin(), first.end()});
    }
    CHECK(beginnings.size() == lengths.size());
    CHECK(std::ranges::is_sorted(made.requests, {}, &request::arrival));
    const double rate = static_cast<double>(lengths.size()) / made.requests.back().arrival;
    CHECK(rate > 3.4); // three deviations of 500 arrivals are 13 %
    CHECK(rate < 4.6);
}

TEST_CASE("Every turn of a conversation begins with all that was said before") {
    const chat_options options{.conversations = 100};
    const workload made = make_chat(options, 3);
    check_form(made);
    CHECK(made.prefixes_recur);
    CHECK(made.streams.size() == 100);
    std::size_t turns = 0;
    for (std::size_t index = 0; index < made.requests.size(); ++index) {
        const request& one = made.requests[index];
        if (one.after == none) {
            CHECK((index == 0 || (turns >= options.turns.least && turns <= options.turns.most)));
            turns = 1;
            continue;
        }
        ++turns;
        const request& before = made.requests[one.after];
        CHECK(one.after == index - 1);
        CHECK(one.stream == before.stream);
        CHECK(one.prompt >= before.prompt + before.decoded + options.message.least);
        CHECK(one.prompt <= before.prompt + before.decoded + options.message.most);
    }
}

TEST_CASE("Requests of a group begin with one system prompt, and groups differ") {
    const system_prompt_options options{.requests = 200, .prompts = 3};
    const workload made = make_system_prompts(options, 3);
    check_form(made);
    CHECK(made.prefixes_recur);
    std::array<const request*, 3> first{};
    for (const request& one : made.requests) {
        REQUIRE(one.group < first.size());
        CHECK(one.common >= options.prompt.least);
        CHECK(one.common <= options.prompt.most);
        CHECK(one.prompt > one.common);
        const request*& known = first[one.group];
        if (known == nullptr)
            known = &one;
        CHECK(one.common == known->common);
        CHECK(std::ranges::equal(made.tokens(one, one.common), made.tokens(*known, one.common)));
        if (&one != known)
            CHECK_FALSE(
                std::ranges::equal(made.tokens(one, one.common + 4), made.tokens(*known, one.common + 4)));
    }
    REQUIRE(std::ranges::none_of(first, [](const request* one) { return one == nullptr; }));
    CHECK_FALSE(std::ranges::equal(made.tokens(*first[0], 4), made.tokens(*first[1], 4)));
    CHECK_FALSE(std::ranges::equal(made.tokens(*first[0], 4), made.tokens(*first[2], 4)));
}

} // namespace vtensor::bench
