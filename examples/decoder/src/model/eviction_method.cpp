// SPDX-License-Identifier: Apache-2.0
#include "model/eviction_method.hpp"

#include "io/input_error.hpp"

#include <vtensor/policy/eviction/methods.hpp>

#include <array>
#include <charconv>
#include <functional>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace decoder {

namespace {

namespace eviction = vtensor::eviction;

/// What may be set from outside, and how. Values are whole numbers, but for `alpha`.
using setters = std::map<std::string, std::function<void(double)>>;

template <class Part, class Category>
constexpr bool is_a = std::is_same_v<typename Part::category, Category>;

template <class Policy>
class method_of final : public eviction_method {
  public:
    /// Whether a fraction to keep means something to it: not where it goes by rows alone.
    static constexpr bool goes_by_fraction = requires(Policy policy, eviction::amount wanted) {
        policy.template get<eviction::part::budget>().amount = wanted;
    }
    &&!requires(Policy policy) { policy.template get<eviction::part::schedule>().rows; };

    void keep(double fraction) { policy_.set_amount(eviction::amount::removing(1 - fraction)); }

    [[nodiscard]] eviction::evidence_needs needs() const noexcept override { return policy_.needs(); }
    [[nodiscard]] bool due(const eviction::progress& now) const noexcept override { return policy_.due(now); }
    [[nodiscard]] vtensor::status choose(std::span<const eviction::layer_evidence> layers,
                                         eviction::workspace& room,
                                         eviction::kept_rows& kept) const noexcept override {
        return policy_.choose(layers, room, kept);
    }

    /// The settings that this policy has a part for.
    [[nodiscard]] setters settings() {
        setters all;
        policy_.for_each_part([&](auto& one) { add_settings_of(one, all); });
        if (policy_.needs().window_queries > 1)
            all["window"] = [this](double value) { policy_.set_window(static_cast<std::size_t>(value)); };
        if (policy_.needs().recurrence)
            all["alpha"] = [this](double value) { recurrence_threshold = static_cast<float>(value); };
        return all;
    }

  private:
    template <class Part>
    static void add_settings_of(Part& one, setters& all) {
        const auto whole = [](std::size_t& member) {
            return [&member](double value) { member = static_cast<std::size_t>(value); };
        };
        if constexpr (is_a<Part, eviction::part::pooling> && requires { one.width; }) {
            all["kernel"] = whole(one.width);
        } else if constexpr (is_a<Part, eviction::part::guard> && requires { one.window(); }) {
            all["recent"] = whole(one.tokens);
        } else if constexpr (is_a<Part, eviction::part::guard> && requires { one.tokens; }) {
            all["sinks"] = whole(one.tokens);
        } else if constexpr (is_a<Part, eviction::part::schedule> && requires {
                                 one.steps;
                                 one.rows;
                             }) {
            all["every"] = whole(one.steps);
            all["rows"] = [&one, others = all["rows"]](double value) {
                one.rows = static_cast<std::size_t>(value);
                if (others)
                    others(value);
            };
        } else if constexpr (is_a<Part, eviction::part::schedule> && requires { one.tokens; }) {
            all["every"] = whole(one.tokens);
        } else if constexpr (is_a<Part, eviction::part::budget> &&
                             requires(eviction::amount wanted) { one.amount = wanted; }) {
            all["rows"] = [&one, others = all["rows"]](double value) {
                one.amount = eviction::amount::of_tokens(static_cast<std::size_t>(value));
                if (others)
                    others(value);
            };
        }
    }

    Policy policy_;
};

struct made_method {
    std::unique_ptr<eviction_method> method;
    setters settings;
    bool took_fraction = true;
};

struct entry {
    const char* name;
    made_method (*make)(std::optional<double> keep);
};

template <class Policy>
constexpr entry named(const char* name) {
    return {name, [](std::optional<double> keep) {
                auto made = std::make_unique<method_of<Policy>>();
                if (keep && method_of<Policy>::goes_by_fraction)
                    made->keep(*keep);
                auto settings = made->settings();
                return made_method{std::move(made), std::move(settings),
                                   !keep || method_of<Policy>::goes_by_fraction};
            }};
}

const std::array all_methods{
    named<eviction::sliding_window<>>("sliding_window"),
    named<eviction::h2o<>>("h2o"),
    named<eviction::observed>("observed"),
    named<eviction::snapkv<>>("snapkv"),
    named<eviction::pyramid_snapkv<>>("pyramid_snapkv"),
    named<eviction::ada<eviction::snapkv<>>>("ada_snapkv"),
    named<eviction::tova>("tova"),
    named<eviction::knorm>("knorm"),
    named<eviction::keydiff>("keydiff"),
    named<eviction::critical<eviction::snapkv<>>>("critical_snapkv"),
    named<eviction::defensive_kv<>>("defensive_kv"),
    named<eviction::layer_defensive_kv<>>("layer_defensive_kv"),
    named<eviction::window_kv<>>("window_kv"),
    named<eviction::window_kv_best<>>("window_kv_best"),
    named<eviction::lazy<>>("lazy"),
};

template <class Names>
std::string joined(const Names& names) {
    std::string line;
    for (const auto& name : names)
        line += (line.empty() ? "" : ", ") + std::string{name};
    return line;
}

void set(const setters& keys, const std::string& method, const std::string& assignment) {
    const auto equals = assignment.find('=');
    const std::string key = assignment.substr(0, equals);
    const auto found = keys.find(key);
    if (equals == std::string::npos || found == keys.end()) {
        std::vector<std::string> known;
        for (const auto& [name, unused] : keys)
            known.push_back(name);
        refuse("--evict " + method + ": \"" + printable(assignment) + "\" is not one of its settings; " +
               (known.empty() ? std::string{"it has none"}
                              : "it has " + joined(known) + ", as in " + known[0] + "=8"));
    }
    const std::string text = assignment.substr(equals + 1);
    double value = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, trouble] = std::from_chars(text.data(), end, value);
    const bool whole = value >= 0 && value <= 1e9 && value == static_cast<double>(static_cast<long>(value));
    if (trouble != std::errc{} || rest != end || !(key == "alpha" ? value >= 0 && value <= 1 : whole))
        refuse("--evict " + method + ": \"" + printable(text) + "\" does not fit " + key + "; give " +
               (key == "alpha" ? "a number from 0 to 1" : "a whole number"));
    found->second(value);
}

} // namespace

std::string eviction_method_names() {
    std::vector<std::string> names;
    for (const entry& one : all_methods)
        names.emplace_back(one.name);
    return joined(names);
}

std::unique_ptr<eviction_method> make_eviction_method(const std::string& words, std::optional<double> keep) {
    const auto colon = words.find(':');
    const std::string name = words.substr(0, colon);
    for (const entry& one : all_methods) {
        if (name != one.name)
            continue;
        made_method made = one.make(keep);
        if (!made.took_fraction)
            refuse("--keep means nothing to --evict " + name + "; give it as --evict " + name + ":" +
                   (made.settings.contains("rows") ? "rows" : "recent") + "=N");
        std::string rest = colon == std::string::npos ? "" : words.substr(colon + 1);
        while (!rest.empty()) {
            const auto comma = rest.find(',');
            set(made.settings, name, rest.substr(0, comma));
            rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
        }
        return std::move(made.method);
    }
    refuse("--evict: there is no method \"" + printable(name) + "\"; there are " + eviction_method_names());
}

} // namespace decoder
