// SPDX-License-Identifier: Apache-2.0
//
// An eviction policy and a defragmentation policy chosen at run time, by the words of the command line. The
// library's policies are types; here is the one place where a word becomes one.
#pragma once

#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/evidence.hpp>
#include <vtensor/policy/eviction/kept_rows.hpp>
#include <vtensor/policy/eviction/schedule.hpp>
#include <vtensor/policy/eviction/workspace.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace decoder {

class eviction_method {
  public:
    eviction_method() = default;
    eviction_method(const eviction_method&) = delete;
    eviction_method& operator=(const eviction_method&) = delete;
    virtual ~eviction_method() = default;

    [[nodiscard]] virtual vtensor::eviction::evidence_needs needs() const noexcept = 0;
    [[nodiscard]] virtual bool due(const vtensor::eviction::progress& now) const noexcept = 0;
    [[nodiscard]] virtual vtensor::status choose(std::span<const vtensor::eviction::layer_evidence> layers,
                                                 vtensor::eviction::workspace& room,
                                                 vtensor::eviction::kept_rows& kept) const noexcept = 0;
    /// From which probability a row counts as attended to, for methods that watch recurrence.
    float recurrence_threshold = 1e-3F;
};

/// "snapkv", "h2o:rows=256,recent=64", … ; `keep` is the fraction that stays, for methods that go by one.
/// Refuses with `input_error` what it does not know, and names what it does.
[[nodiscard]] std::unique_ptr<eviction_method> make_eviction_method(const std::string& words,
                                                                    std::optional<double> keep);

/// The names, as one line for --help.
[[nodiscard]] std::string eviction_method_names();

enum class defrag_kind : std::uint8_t { none, compact, swap_with_last, remap, hybrid, incremental };

/// Any of the library's defragmentation policies, as a policy.
struct chosen_defrag {
    defrag_kind kind = defrag_kind::compact;
    vtensor::defrag::costs measured{}; ///< what `hybrid` goes by

    static constexpr std::size_t bytes_a_step = std::size_t{256} << 10; ///< of `incremental`

    [[nodiscard]] vtensor::status plan(const vtensor::defrag::state& from,
                                       vtensor::defrag::plan& into) const noexcept {
        namespace defrag = vtensor::defrag;
        switch (kind) {
        case defrag_kind::none:
            break;
        case defrag_kind::compact:
            return defrag::compact{}.plan(from, into);
        case defrag_kind::swap_with_last:
            return defrag::swap_with_last{}.plan(from, into);
        case defrag_kind::remap:
            return defrag::remap{}.plan(from, into);
        case defrag_kind::hybrid:
            return defrag::hybrid{measured}.plan(from, into);
        case defrag_kind::incremental:
            return defrag::incremental<bytes_a_step>{}.plan(from, into);
        }
        return defrag::none{}.plan(from, into);
    }
};

static_assert(vtensor::defrag_policy<chosen_defrag, vtensor::defrag::state, vtensor::defrag::plan>);

} // namespace decoder
