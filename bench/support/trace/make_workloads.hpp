// SPDX-License-Identifier: Apache-2.0
//
// The workloads: requests of a trace, conversations of many turns, and prompts behind a system prompt.
// Everything is decided by the seed.
#pragma once

#include "random_source.hpp"
#include "request_lengths.hpp"
#include "workload.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::bench {

namespace detail {

/// "Poisson, 2.50 requests/s"
[[nodiscard]] inline std::string poisson(double per_second, const char* what) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "Poisson, %.2f %s/s", per_second, what);
    return text.data();
}

} // namespace detail

/// Requests of these lengths, `per_second` of them on average, independent of one another (Poisson). The
/// tokens are drawn by chance, so that no two prompts begin alike.
[[nodiscard]] inline workload make_trace(std::string name, std::span<const request_lengths> lengths,
                                         double per_second, std::uint64_t seed) {
    random_source random{seed};
    workload made{.name = std::move(name),
                  .arrivals = detail::poisson(per_second, "requests"),
                  .prefixes_recur = false,
                  .streams = {},
                  .requests = {}};
    double now = 0;
    for (const request_lengths& one : lengths) {
        now += random.exponential(1 / per_second);
        random.append_tokens(made.streams.emplace_back(), one.prompt + one.decoded);
        made.requests.push_back({.stream = made.streams.size() - 1,
                                 .prompt = one.prompt,
                                 .decoded = one.decoded,
                                 .arrival = now});
    }
    return made;
}

/// From the least to the most, every number as likely.
struct token_range {
    std::size_t least = 1;
    std::size_t most = 1;
};

struct chat_options {
    std::size_t conversations = 500;
    double per_second = 2; ///< conversations that begin (Poisson)
    double think_time = 8; ///< seconds between an answer and the next turn (exponential)
    token_range turns{2, 10};
    token_range first_message{50, 600}; ///< tokens
    token_range message{20, 200};
    token_range answer{50, 400};
};

/// Conversations: the prompt of a turn is all that was said before and a new message. Many go on at once.
[[nodiscard]] inline workload make_chat(const chat_options& options, std::uint64_t seed) {
    random_source random{seed};
    const auto draw = [&](token_range range) { return random.between(range.least, range.most); };
    workload made{.name = "multi-turn chat",
                  .arrivals = detail::poisson(options.per_second, "conversations"),
                  .prefixes_recur = true,
                  .streams = {},
                  .requests = {}};
    double now = 0;
    for (std::size_t conversation = 0; conversation < options.conversations; ++conversation) {
        now += random.exponential(1 / options.per_second);
        const std::size_t turns = draw(options.turns);
        std::size_t said = 0;
        for (std::size_t turn = 0; turn < turns; ++turn) {
            request one{.stream = conversation,
                        .prompt = said + draw(turn == 0 ? options.first_message : options.message),
                        .decoded = draw(options.answer),
                        .arrival = turn == 0 ? now : random.exponential(options.think_time)};
            if (turn != 0)
                one.after = made.requests.size() - 1;
            said = one.prompt + one.decoded;
            made.requests.push_back(one);
        }
        random.append_tokens(made.streams.emplace_back(), said);
    }
    return made;
}

struct system_prompt_options {
    std::size_t requests = 4000;
    double per_second = 60; ///< Poisson
    std::size_t prompts = 4;
    token_range prompt{1000, 2000}; ///< tokens
    token_range message{20, 300};
    token_range answer{50, 400};
};

/// Requests that begin with one of a few system prompts, each as likely.
[[nodiscard]] inline workload make_system_prompts(const system_prompt_options& options, std::uint64_t seed) {
    random_source random{seed};
    const auto draw = [&](token_range range) { return random.between(range.least, range.most); };
    workload made{.name = "shared system prompt",
                  .arrivals = detail::poisson(options.per_second, "requests"),
                  .prefixes_recur = true,
                  .streams = {},
                  .requests = {}};
    std::vector<std::vector<token_id>> prompts(options.prompts);
    for (auto& prompt : prompts)
        random.append_tokens(prompt, draw(options.prompt));
    double now = 0;
    for (std::size_t index = 0; index < options.requests; ++index) {
        now += random.exponential(1 / options.per_second);
        const std::size_t group = random.between(0, options.prompts - 1);
        const std::size_t common = prompts[group].size();
        const request one{.stream = index,
                          .prompt = common + draw(options.message),
                          .decoded = draw(options.answer),
                          .arrival = now,
                          .group = group,
                          .common = common};
        made.streams.push_back(prompts[group]);
        random.append_tokens(made.streams.back(), one.prompt + one.decoded - common);
        made.requests.push_back(one);
    }
    return made;
}

} // namespace vtensor::bench
