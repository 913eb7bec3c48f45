// SPDX-License-Identifier: Apache-2.0
// The block allocator that is compared with, against plain models of it.
#include <trace/paged_blocks.hpp>

#include <support/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace vtensor::bench {

namespace {

using token_string = std::vector<token_id>;

/// Of a small alphabet, so that prefixes recur.
token_string draw_tokens(std::mt19937& random, std::size_t count) {
    token_string made(count);
    for (token_id& token : made)
        token = random() % 16 == 0 ? 1 : 0;
    return made;
}

manager_options options_for(std::size_t blocks, std::size_t sequences) {
    const kv_shape shape{.layers = 1, .heads = 1, .width = 4, .element = 2};
    return {.shape = shape,
            .page = 4_KiB,
            .limit = shape.token() * (16 * blocks),
            .max_tokens = 400,
            .max_sequences = sequences,
            .prefixes = true,
            .headroom = 0};
}

} // namespace

TEST_CASE("Keys of blocks are equal for equal prefixes only") {
    std::map<std::pair<std::uint64_t, std::uint64_t>, token_string> seen;
    std::size_t made = 0;
    // All strings of up to 9 tokens out of 3 that differ in one bit or in many.
    const token_string alphabet{0, 1, -1};
    std::vector<token_string> strings{{}};
    for (std::size_t length = 0; length < 9; ++length) {
        std::vector<token_string> longer;
        for (const token_string& one : strings)
            for (const token_id token : alphabet) {
                longer.push_back(one);
                longer.back().push_back(token);
                const block_key key = next_key(first_key(0), longer.back());
                seen.emplace(std::pair{key.low, key.high}, longer.back());
                ++made;
            }
        strings = std::move(longer);
    }
    CHECK(seen.size() == made);
    std::set<std::uint64_t> low;
    for (const auto& [key, tokens] : seen)
        low.insert(key.first);
    CHECK(low.size() == made); // either half alone tells them apart

    const token_string some{5, 6, 7, 8};
    const block_key whole = next_key(first_key(3), some);
    CHECK(next_key(next_key(first_key(3), std::span{some}.first(1)), std::span{some}.subspan(1)) == whole);
    CHECK_FALSE(next_key(first_key(4), some) == whole);
}

TEST_CASE("Blocks are counted, named and taken again as a plain model says") {
    constexpr std::size_t count = 12;
    block_pool pool{count};
    std::vector<std::uint32_t> references(count);
    std::vector<std::optional<std::uint64_t>> names(count);
    std::deque<block_id> free;
    for (block_id id = 0; id < count; ++id)
        free.push_back(id);
    std::mt19937 random{11};
    const auto key = [](std::uint64_t name) { return block_key{name, ~name}; };
    for (int step = 0; step < 100'000; ++step) {
        const auto id = static_cast<block_id>(random() % count);
        switch (random() % 4) {
        case 0:
            if (!free.empty()) {
                REQUIRE(pool.acquire() == free.front());
                references[free.front()] = 1;
                names[free.front()].reset();
                free.pop_front();
            }
            break;
        case 1: // found again, by name or by a second sequence
            if (references[id] > 0 || names[id]) {
                pool.retain(id);
                if (references[id]++ == 0)
                    std::erase(free, id);
            }
            break;
        case 2:
            if (references[id] > 0) {
                pool.release(id);
                if (--references[id] == 0)
                    free.push_back(id);
            }
            break;
        default:
            if (references[id] > 0 && !names[id]) {
                const std::uint64_t name = random() % 20;
                const bool taken = std::ranges::find(names, std::optional{name}) != names.end();
                pool.name(id, key(name));
                if (!taken)
                    names[id] = name;
            }
        }
        REQUIRE(pool.free() == free.size());
        REQUIRE(pool.kept() == static_cast<std::size_t>(std::ranges::count_if(
                                   free, [&](block_id one) { return names[one].has_value(); })));
        for (std::uint64_t name = 0; name < 20; ++name) {
            const auto place = std::ranges::find(names, std::optional{name});
            const auto found = pool.find(key(name));
            REQUIRE(found.has_value() == (place != names.end()));
            if (found)
                REQUIRE(static_cast<std::ptrdiff_t>(*found) == place - names.begin());
        }
        if (step % 100 == 0) {
            REQUIRE(pool.verify());
            for (block_id one = 0; one < count; ++one)
                REQUIRE(pool.references(one) == references[one]);
        }
    }
}

namespace {

/// Sequences that begin, grow and end at random; every key row holds the number of its prefix. A block is in
/// two sequences only if all tokens up to its end are the same.
struct random_life {
    struct sequence {
        sequence_id id = 0;
        std::uint64_t salt = 0;
        token_string tokens;
    };

    paged_blocks memory;
    std::mt19937 random;
    std::vector<sequence> live{};
    std::set<std::pair<std::uint64_t, token_string>> stored{}; ///< prefixes of whole blocks that ever were
    std::size_t refused_begins = 0;
    std::size_t refused_growths = 0;
    std::size_t matched = 0;
    std::size_t less_than_stored = 0;

    random_life(std::size_t blocks, std::uint32_t seed) : memory{options_for(blocks, 8)}, random{seed} {}

    static std::uint64_t stamp(const sequence& one, std::size_t token) {
        return next_key(first_key(one.salt), std::span{one.tokens}.first(token + 1)).high;
    }
    std::uint64_t* row(const sequence& one, std::size_t token) {
        return reinterpret_cast<std::uint64_t*>(memory.key_row(one.id, token));
    }
    void fill(const sequence& one, std::size_t first) {
        for (std::size_t token = first; token < one.tokens.size(); ++token)
            *row(one, token) = stamp(one, token);
        for (std::size_t end = 16; end <= one.tokens.size(); end += 16)
            stored.emplace(one.salt, token_string{one.tokens.begin(),
                                                  one.tokens.begin() + static_cast<std::ptrdiff_t>(end)});
    }
    void check_rows(const sequence& one, std::size_t count) {
        for (std::size_t token = 0; token < count; ++token)
            REQUIRE(*row(one, token) == stamp(one, token));
    }

    void begin() {
        sequence one{.id = 0, .salt = random() % 2, .tokens = draw_tokens(random, 1 + random() % 100)};
        if (!live.empty() && random() % 2 == 0) { // goes on where another one is
            const sequence& other = live[random() % live.size()];
            token_string joined{other.tokens.begin(),
                                other.tokens.begin() +
                                    static_cast<std::ptrdiff_t>(random() % (other.tokens.size() + 1))};
            joined.insert(joined.end(), one.tokens.begin(), one.tokens.end());
            joined.resize(std::min<std::size_t>(joined.size(), 300));
            one.tokens = std::move(joined);
        }
        std::size_t known = 0;
        while (known + 16 < one.tokens.size() &&
               stored.contains(
                   {one.salt, token_string{one.tokens.begin(),
                                           one.tokens.begin() + static_cast<std::ptrdiff_t>(known + 16)}}))
            known += 16;
        const auto admitted = memory.begin(one.tokens, one.salt);
        if (!admitted) {
            ++refused_begins;
            return;
        }
        one.id = admitted->sequence;
        REQUIRE(admitted->matched % 16 == 0);
        REQUIRE(admitted->matched < one.tokens.size());
        REQUIRE(admitted->matched <= known);
        less_than_stored += std::size_t{admitted->matched < known};
        matched += admitted->matched;
        check_rows(one, admitted->matched);
        fill(one, admitted->matched);
        live.push_back(std::move(one));
    }
    void extend() {
        std::vector<extension> batch;
        std::vector<token_string> added(live.size());
        for (std::size_t index = 0; index < live.size(); ++index) {
            const std::size_t room = 400 - live[index].tokens.size();
            added[index] = draw_tokens(random, std::min(room, 1 + random() % 20));
            if (!added[index].empty())
                batch.push_back({live[index].id, added[index]});
        }
        const bytes held = memory.figures().held;
        if (!memory.extend(batch)) {
            ++refused_growths;
            REQUIRE(memory.figures().held == held);
            return;
        }
        for (std::size_t index = 0; index < live.size(); ++index) {
            const std::size_t first = live[index].tokens.size();
            live[index].tokens.insert(live[index].tokens.end(), added[index].begin(), added[index].end());
            fill(live[index], first);
        }
    }
    void end() {
        if (live.empty())
            return;
        const std::size_t index = random() % live.size();
        check_rows(live[index], live[index].tokens.size());
        if (random() % 2 == 0)
            memory.end(live[index].id, live[index].tokens);
        else
            memory.preempt(live[index].id, live[index].tokens);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(index));
    }
    void check_blocks() {
        std::map<std::byte*, std::pair<std::uint64_t, token_string>> owners;
        for (const sequence& one : live) {
            std::set<std::byte*> own;
            for (std::size_t first = 0; first < one.tokens.size(); first += 16) {
                std::byte* const block = memory.key_row(one.id, first);
                REQUIRE(own.insert(block).second);
                const std::size_t end = std::min(first + 16, one.tokens.size());
                const std::pair prefix{
                    one.salt,
                    token_string{one.tokens.begin(), one.tokens.begin() + static_cast<std::ptrdiff_t>(end)}};
                const auto [place, fresh] = owners.emplace(block, prefix);
                REQUIRE((fresh || (place->second == prefix && end == first + 16)));
            }
        }
        const bytes block = options_for(1, 1).limit;
        REQUIRE(memory.figures().held == block * owners.size());
    }
    void run(int steps) {
        for (int step = 0; step < steps; ++step) {
            switch (random() % 5) {
            case 0:
            case 1:
                begin();
                break;
            case 2:
                end();
                break;
            default:
                extend();
            }
            REQUIRE(memory.verify());
            check_blocks();
        }
    }
};

} // namespace

TEST_CASE("Sequences share blocks only where their prefixes are equal, and rows stay what they were") {
    random_life life{60, 3};
    life.run(4000);
    CHECK(life.refused_begins > 50);
    CHECK(life.refused_growths > 50);
    CHECK(life.matched > 1000);
    CHECK(life.less_than_stored > 0); // some were forgotten in between
}

TEST_CASE("With room for everything, the longest prefix of whole blocks that ever was is found") {
    random_life life{40'000, 4};
    life.run(600);
    CHECK(life.refused_begins + life.refused_growths < 600); // for want of sequences, not of memory
    CHECK(life.matched > 1000);
    CHECK(life.less_than_stored == 0);
}

TEST_CASE("What was given back longest ago is forgotten first, the end of a sequence before its beginning") {
    std::mt19937 random{5};
    paged_blocks memory{options_for(4, 4)};
    const token_string first = draw_tokens(random, 33);
    token_string second = first;
    second[0] = 2;
    const auto once = [&](const token_string& tokens) {
        const auto admitted = memory.begin(tokens, 0);
        REQUIRE(admitted);
        memory.end(admitted->sequence, tokens);
        return admitted->matched;
    };
    CHECK(once(first) == 0);
    CHECK(once(first) == 32);
    CHECK(memory.figures().held == bytes{});
    CHECK(memory.figures().kept == options_for(2, 1).limit);
    const token_string one_block(16, 9);
    CHECK(once(one_block) == 0); // takes a block that held a part, and leaves the prefix alone
    CHECK(once(first) == 32);
    CHECK(once(second) == 0); // takes three of four: the one of `one_block`, another part, the end of `first`
    CHECK(once(first) == 16);
}

TEST_CASE("Headroom keeps requests out while others live, and lets one in that is alone") {
    auto options = options_for(10, 4);
    options.headroom = 0.2;
    options.prefixes = false;
    paged_blocks memory{options};
    const token_string nine(9 * 16, 0);
    const auto alone = memory.begin(nine, 0);
    REQUIRE(alone);
    memory.end(alone->sequence, nine);
    const token_string some(4 * 16, 0);
    REQUIRE(memory.begin(some, 0));
    CHECK_FALSE(memory.begin(token_string(4 * 16 + 1, 0), 0));
    CHECK(memory.begin(some, 0));
}

TEST_CASE("Without prefixes nothing is kept and nothing is matched") {
    auto options = options_for(10, 4);
    options.prefixes = false;
    paged_blocks memory{options};
    const token_string tokens(64, 0);
    for (int turn = 0; turn < 3; ++turn) {
        const auto admitted = memory.begin(tokens, 0);
        REQUIRE(admitted);
        CHECK(admitted->matched == 0);
        memory.end(admitted->sequence, tokens);
        CHECK(memory.figures().kept == bytes{});
    }
}

} // namespace vtensor::bench
