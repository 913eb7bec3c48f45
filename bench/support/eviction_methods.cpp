// SPDX-License-Identifier: Apache-2.0
#include "eviction_methods.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>

namespace vtensor::bench {

namespace {

using namespace vtensor::eviction;

constexpr std::size_t window = 32;

/// A policy whose members `set(policy, rows)` fits to a budget.
template <class Policy, class Set>
eviction_method method(std::string name, Set set) {
    return {name, [name, set, policy = Policy{}, memory = workspace{}](
                      std::span<const layer_evidence> layers, std::size_t rows, kept_rows& kept) mutable {
                set(policy, rows);
                if (!policy.choose(layers, memory, kept))
                    throw std::runtime_error{name + " refused to choose"};
            }};
}

/// A policy whose budget counts all rows of a head.
template <class Policy>
eviction_method method(std::string name) {
    return method<Policy>(std::move(name), [](Policy& policy, std::size_t rows) {
        policy.template get<part::budget>().amount = amount::of_tokens(rows);
    });
}

template <class Policy, std::size_t Suffix>
eviction_method windows_method(std::string name) {
    return method<Policy>(std::move(name), [](Policy& policy, std::size_t rows) {
        policy.template get<part::budget>().amount = amount::of_tokens(rows - std::min(rows, Suffix));
    });
}

/// The window, and as many of the other rows as there is room for, by chance: every head for itself, or the
/// same for all heads and layers.
class random_rows {
  public:
    explicit random_rows(bool shared) : shared_{shared} {}

    void operator()(std::span<const layer_evidence> layers, std::size_t rows, kept_rows& kept) {
        bool good = kept.reset(layers.size(), layers[0].heads.size()).ok();
        slots_.clear();
        for (const layer_evidence& layer : layers)
            for (const head_rows& head : layer.heads) {
                if (!shared_ || slots_.empty())
                    draw(head.rows, rows);
                good = good && kept.add(slots_).ok();
            }
        if (!good)
            throw std::runtime_error{"random refused to choose"};
    }

  private:
    void draw(std::size_t count, std::size_t kept) {
        const std::size_t older = count - std::min(window, count);
        const std::size_t wanted = std::min(older, kept - std::min(kept, count - older));
        slots_.resize(count);
        std::iota(slots_.begin(), slots_.end(), slot_type{0});
        for (std::size_t index = 0; index < wanted; ++index)
            std::swap(slots_[index], slots_[index + random_() % (older - index)]);
        slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(wanted),
                     slots_.begin() + static_cast<std::ptrdiff_t>(older));
        std::ranges::sort(slots_);
    }

    bool shared_;
    std::mt19937 random_{1};
    std::vector<slot_type> slots_;
};

template <class Aggregation, class... More>
using unpooled = with<snapkv<window>, Aggregation, pooling::none, More...>;

} // namespace

std::vector<eviction_method> all_methods() {
    using eviction::aggregate::max;
    using eviction::aggregate::mean;
    using clamped = eviction::aggregate::defensive;
    return {
        {"random", random_rows{false}},
        {"random, shared", random_rows{true}},
        method<sliding_window<>>("sliding_window",
                                 [](sliding_window<>& policy, std::size_t rows) {
                                     auto& sinks = policy.get<guard::sinks<4>>().tokens;
                                     sinks = std::min<std::size_t>(4, rows);
                                     policy.get<guard::recent<1024>>().tokens = rows - sinks;
                                 }),
        method<h2o<>>("h2o",
                      [](h2o<>& policy, std::size_t rows) {
                          policy.get<guard::recent<512>>().tokens = rows / 2;
                          policy.get<part::budget>().amount = amount::of_tokens(rows);
                      }),
        method<observed>("observed"),
        method<tova>("tova"),
        method<knorm>("knorm"),
        method<keydiff>("keydiff"),
        method<snapkv<window>>("snapkv"),
        method<pyramid_snapkv<window>>("pyramid_snapkv"),
        method<ada<snapkv<window>>>("ada<snapkv>"),
        method<critical<snapkv<window>>>("critical<snapkv>"),
        windows_method<window_kv<>, 16>("window_kv"),
        windows_method<window_kv_best<>, 32>("window_kv_best"),
        method<defensive_kv<window>>("defensive_kv"),
        method<layer_defensive_kv<window>>("layer_defensive_kv"),
        method<unpooled<mean>>("mean"),
        method<unpooled<max>>("max"),
        method<unpooled<clamped>>("max+clamp"),
        method<unpooled<mean, budget::global>>("mean, layer budgets"),
        method<unpooled<max, budget::global>>("max, layer budgets"),
        method<with<defensive_kv<window>, pooling::none>>("defensive_kv, unpooled"),
        method<with<layer_defensive_kv<window>, pooling::none>>("layer_defensive, unpooled"),
    };
}

std::vector<eviction_method> methods_named(std::span<const char* const> names) {
    std::vector<eviction_method> all = all_methods();
    std::vector<eviction_method> chosen;
    for (const char* const name : names) {
        const auto found = std::ranges::find(all, name, &eviction_method::name);
        if (found == all.end())
            throw std::runtime_error{std::string{"there is no method "} + name};
        chosen.push_back(*found);
    }
    return chosen;
}

} // namespace vtensor::bench
