// SPDX-License-Identifier: Apache-2.0
//
// An engine that computes nothing: it writes rows whose content follows from the tokens before them, as keys
// and values do, and knows by itself what every sequence of a manager must hold.
#pragma once

#include <support/catch.hpp>

#include <vtensor/backends/host.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace vtensor::testing {

template <class Backend>
using shared_layer = kv::per_layer_cache<float, Backend, growth::exact, std::mutex>;

/// What a sequence must hold: for each token what its rows are made of.
struct expected_sequence {
    kv::salt_id salt{};
    std::vector<kv::token_id> tokens;
    std::vector<std::uint64_t> rows;
    bool is_true = true; ///< no row was overwritten: it may be recorded
    /// By layer and head, the tokens whose rows are left, ascending; empty while all are.
    std::vector<std::vector<std::size_t>> left{};
};

inline std::uint64_t mixed(std::uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdu;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53u;
    return value ^ (value >> 33);
}

template <class Layer = shared_layer<host_backend>, class Reclaim = reclaim::cheapest_first,
          class Preemption = preemption::recompute>
class engine {
  public:
    using cache_type = kv::kv_cache<Layer>;
    using pool_type = typename Layer::pool_type;
    using manager_type = kv::manager<cache_type, Reclaim, Preemption>;
    using options_type = typename manager_type::options_type;

    static constexpr std::size_t layers = 2;
    static constexpr std::size_t heads = 2;
    static constexpr std::size_t width =
        16; ///< a row of a tensor has 128 bytes: 32 tokens are a page of 4 KiB
    static constexpr std::size_t tokens_a_page = 32;
    static constexpr std::size_t pages_together = 2 * layers; ///< a page of tokens in every tensor

    explicit engine(pool_type& pool, std::size_t longest = 2048, const options_type& options = plain())
        : manager{manager_type::try_create(pool, {layers, {heads, width, width, longest}}, options).value()} {
    }

    /// A page is mapped when it is needed.
    static options_type plain() {
        options_type options;
        options.cache.tokens_a_growth = 0;
        return options;
    }

    // ---- verbs: as the manager's, and the rows are written ----

    result<kv::placed_sequence> create(std::vector<kv::token_id> prompt, kv::sequence_options options = {}) {
        auto made = manager->try_create(prompt, options);
        if (!made)
            return made;
        expected_sequence now{options.salt, std::move(prompt), {}};
        complete(now);
        sequences[made->id] = std::move(now);
        write(made->id, made->matched);
        return made;
    }
    status extend(kv::sequence_id id, std::vector<kv::token_id> tokens) {
        const kv::extension one{id, tokens};
        return extend(std::span{&one, 1});
    }
    status extend(std::span<const kv::extension> batch) {
        const status outcome = manager->try_extend(batch);
        if (!outcome)
            return outcome;
        for (const kv::extension& one : batch) {
            if (manager->state(one.id).value() != kv::sequence_state::running)
                continue;
            expected_sequence& grown = sequences.at(one.id);
            const std::size_t first = grown.tokens.size();
            grown.tokens.insert(grown.tokens.end(), one.tokens.begin(), one.tokens.end());
            complete(grown);
            for (auto& list : grown.left)
                for (std::size_t token = first; token < grown.tokens.size(); ++token)
                    list.push_back(token);
            write(one.id, first);
        }
        return outcome;
    }
    result<kv::sequence_id> fork(kv::sequence_id id) {
        auto made = manager->try_fork(id);
        if (made)
            sequences[*made] = sequences.at(id);
        return made;
    }
    status release(kv::sequence_id id) {
        const status outcome = manager->try_release(id);
        if (outcome)
            sequences.erase(id);
        return outcome;
    }
    result<kv::placed_sequence> resume(kv::sequence_id id) {
        auto placed = manager->try_resume(id);
        if (placed) {
            expected_sequence& back = sequences.at(id);
            if (placed->matched < back.tokens.size()) { // computed anew, all of it
                back.left.clear();
                back.rows.clear();
                back.is_true = true;
                complete(back);
            }
            write(id, placed->matched);
        }
        return placed;
    }
    status truncate(kv::sequence_id id, std::size_t tokens) {
        const status outcome = manager->try_truncate(id, tokens);
        if (outcome && tokens < sequences.at(id).tokens.size()) {
            sequences.at(id).tokens.resize(tokens);
            sequences.at(id).rows.resize(tokens);
            for (auto& list : sequences.at(id).left)
                std::erase_if(list, [&](std::size_t token) { return token >= tokens; });
        }
        return outcome;
    }
    /// A random share of the rows stays in every head; then the rows are brought together.
    template <class Random>
    status evict(kv::sequence_id id, Random& random) {
        cache_type* const cache = manager->cache(id);
        if (cache == nullptr)
            return error{errc::busy, verb::evict, 0, bytes{0}};
        eviction::kept_rows kept;
        REQUIRE(kept.reset(layers, heads));
        std::vector<std::vector<std::size_t>> left;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            for (std::size_t head = 0; head < heads; ++head) {
                std::vector<slot_type> slots;
                left.emplace_back();
                for (std::size_t slot = 0; slot < cache->layer(layer).rows(head); ++slot) {
                    const std::size_t token = token_in(*cache, layer, head, slot);
                    if (token == gone || random() % 3 == 0)
                        continue;
                    slots.push_back(static_cast<slot_type>(slot));
                    left.back().push_back(token);
                }
                std::sort(left.back().begin(), left.back().end());
                REQUIRE(kept.add(slots));
            }
        }
        if (const status outcome = manager->try_evict(id, kept); !outcome)
            return outcome;
        sequences.at(id).left = std::move(left);
        std::vector<defrag::plan> plans(heads);
        for (std::size_t layer = 0; layer < layers; ++layer) {
            const status outcome = cache->try_defragment(layer, defrag::compact{}, plans);
            REQUIRE((outcome.ok() || is_shortage(outcome.code()) || outcome.code() == errc::native_failure));
        }
        return {};
    }
    /// Other content in rows that exist, as an engine that corrects its cache.
    status overwrite(kv::sequence_id id, std::size_t first, std::size_t count, std::uint64_t seed) {
        const status outcome = manager->try_make_writable(id, first, count);
        if (!outcome)
            return outcome;
        expected_sequence& changed = sequences.at(id);
        for (std::size_t token = first; token < first + count; ++token) {
            changed.rows[token] = mixed(seed + token);
            write_row(id, token);
        }
        changed.is_true = false;
        return outcome;
    }

    // ---- what is so ----

    /// Every row of every running sequence is what it must be.
    void require_same() {
        for (const auto& [id, what] : sequences)
            require_same(id);
    }
    void require_same(kv::sequence_id id) {
        const expected_sequence& what = sequences.at(id);
        const auto tokens = manager->tokens(id);
        REQUIRE(std::equal(tokens.begin(), tokens.end(), what.tokens.begin(), what.tokens.end()));
        cache_type* const cache = manager->cache(id);
        if (cache == nullptr) {
            REQUIRE(manager->state(id).value() == kv::sequence_state::preempted);
            return;
        }
        REQUIRE(cache->tokens() == what.tokens.size());
        std::size_t wrong = 0;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            for (std::size_t head = 0; head < heads; ++head) {
                const auto keys = cache->keys(layer, head);
                const auto values = cache->values(layer, head);
                std::vector<std::size_t> found;
                for (std::size_t slot = 0; slot < cache->layer(layer).rows(head); ++slot) {
                    const std::size_t token = token_in(*cache, layer, head, slot);
                    if (token == gone)
                        continue;
                    REQUIRE(token < what.rows.size());
                    found.push_back(token);
                    const std::uint64_t seed = of(what.rows[token], layer, head);
                    for (std::size_t at = 0; at < width; ++at) {
                        wrong += keys(slot, at) != value_of(seed + at) ? 1u : 0u;
                        wrong += values(slot, at) != value_of(seed + width + at) ? 1u : 0u;
                    }
                }
                std::sort(found.begin(), found.end());
                if (what.left.empty())
                    REQUIRE(found.size() == what.rows.size());
                else
                    REQUIRE(found == what.left[layer * heads + head]);
            }
        }
        REQUIRE(wrong == 0);
    }

    /// What its rows are made of, from the tokens.
    static void complete(expected_sequence& one) {
        std::uint64_t state =
            one.rows.empty() ? mixed(static_cast<std::uint64_t>(one.salt)) : one.rows.back();
        for (std::size_t token = one.rows.size(); token < one.tokens.size(); ++token) {
            state = mixed(state ^ mixed(static_cast<std::uint32_t>(one.tokens[token]) + 1u));
            one.rows.push_back(state);
        }
    }

    std::unique_ptr<manager_type> manager;
    std::map<kv::sequence_id, expected_sequence> sequences;

  private:
    static std::uint64_t of(std::uint64_t row, std::size_t layer, std::size_t head) {
        return mixed(row + 31 * layer + head);
    }
    static float value_of(std::uint64_t seed) { return static_cast<float>(seed % 1'000'003); }

    void write(kv::sequence_id id, std::size_t first) {
        for (std::size_t token = first; token < sequences.at(id).tokens.size(); ++token)
            write_row(id, token);
    }
    void write_row(kv::sequence_id id, std::size_t token) {
        cache_type& cache = *manager->cache(id);
        const std::uint64_t row = sequences.at(id).rows[token];
        for (std::size_t layer = 0; layer < layers; ++layer) {
            for (std::size_t head = 0; head < heads; ++head) {
                // Without evictions the slot of a token is its number; with them it is further down.
                std::size_t slot = std::min(token + 1, cache.layer(layer).rows(head));
                while (token_in(cache, layer, head, --slot) != token)
                    REQUIRE(slot > 0);
                const std::uint64_t seed = of(row, layer, head);
                for (std::size_t at = 0; at < width; ++at) {
                    cache.keys(layer, head)(slot, at) = value_of(seed + at);
                    cache.values(layer, head)(slot, at) = value_of(seed + width + at);
                }
            }
        }
    }

    static constexpr std::size_t gone = static_cast<std::size_t>(-1);
    /// Whose row lies in a slot.
    static std::size_t token_in(cache_type& cache, std::size_t layer, std::size_t head, std::size_t slot) {
        const auto positions = cache.layer(layer).positions(head);
        if (positions.empty())
            return slot;
        return positions[slot] == no_position ? gone : positions[slot];
    }
};

/// `count` tokens that follow from the seed; equal seeds give equal beginnings.
inline std::vector<kv::token_id> text(std::size_t count, std::uint64_t seed = 1) {
    std::vector<kv::token_id> made(count);
    for (std::size_t index = 0; index < count; ++index)
        made[index] = static_cast<kv::token_id>(mixed(seed * 1'000'003 + index) % 50'000);
    return made;
}

inline std::vector<kv::token_id> joined(std::vector<kv::token_id> one,
                                        const std::vector<kv::token_id>& other) {
    one.insert(one.end(), other.begin(), other.end());
    return one;
}

} // namespace vtensor::testing
