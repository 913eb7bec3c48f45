// SPDX-License-Identifier: Apache-2.0
//
// What an engine is asked: requests with token ids, and when they come. Plain data.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace vtensor::bench {

using token_id = std::int32_t;

inline constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

/// One request. Its tokens are the first `prompt + decoded` of a stream: the prompt, then the answer, which
/// the engine does not know before it has sampled it. The turns of a conversation are requests of one stream.
struct request {
    std::size_t stream = 0;
    std::size_t prompt = 0;   ///< tokens, at least 1
    std::size_t decoded = 0;  ///< tokens of the answer, at least 1
    std::uint64_t salt = 0;   ///< whose prefixes it may share
    double arrival = 0;       ///< seconds since the start, or since the end of the request `after`
    std::size_t after = none; ///< a request before this one in the list; at most one names it
    std::size_t group = none; ///< requests of a group begin with the same tokens
    std::size_t common = 0;   ///< how many; not more than `prompt`
};

struct workload {
    std::string name;
    std::string arrivals;        ///< in words
    bool prefixes_recur = false; ///< whether an engine would cache prefixes
    std::vector<std::vector<token_id>> streams;
    std::vector<request> requests;

    [[nodiscard]] std::span<const token_id> tokens(const request& one, std::size_t count) const {
        return std::span{streams[one.stream]}.first(count);
    }
    /// Tokens of the longest sequence.
    [[nodiscard]] std::size_t longest() const {
        std::size_t most = 0;
        for (const request& one : requests)
            most = std::max(most, one.prompt + one.decoded);
        return most;
    }
};

} // namespace vtensor::bench
