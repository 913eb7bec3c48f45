// SPDX-License-Identifier: Apache-2.0
// The tokens of a sequence against a plain vector.
#include <support/catch.hpp>

#include <vtensor/kv/detail/token_log.hpp>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

using namespace vtensor;

TEST_CASE("A log has the tokens that a vector has, whatever the order of the calls") {
    constexpr std::size_t most = 200;
    std::mt19937_64 engine{5};
    const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(engine() % bound); };
    for (std::size_t phase = 0; phase < 70; ++phase) {
        INFO("phase " << phase);
        kv::detail::token_log log;
        CHECK(log.view().empty());
        std::vector<kv::token_id> room(kv::detail::token_log::room_for(most) / sizeof(kv::token_id));
        log.use(room.data(), phase);
        std::vector<kv::token_id> model;
        const auto add = [&](std::size_t count) {
            std::vector<kv::token_id> more(std::min(count, most - model.size()));
            for (kv::token_id& one : more)
                one = static_cast<kv::token_id>(engine());
            log.add(more);
            model.insert(model.end(), more.begin(), more.end());
        };
        bool same = true;
        for (std::size_t step = 0; step < 5000; ++step) {
            const std::size_t kind = below(100);
            if (kind < 80)
                add(1);
            else if (kind < 88)
                add(below(40));
            else if (kind < 92) {
                const std::size_t left = below(most + 10);
                log.truncate(left);
                model.resize(std::min(left, model.size()));
            } else if (kind < 93) {
                log.clear();
                model.clear();
            }
            same = same && log.size() == model.size();
            if (kind % 2 == 0) // what is looked at is in its place: it is not always
                same = same && std::ranges::equal(log.view(), model);
        }
        CHECK(same);
        add(most); // there is room for all
        CHECK(std::ranges::equal(log.view(), model));
    }
}
