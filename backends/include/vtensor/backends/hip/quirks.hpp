// SPDX-License-Identifier: Apache-2.0
//
// What HIP runtimes do otherwise than documented, by version and architecture, each with its source. A row
// without an end is one for which no released repair is known. It decides nothing: device_quirks.hpp says
// what the switches mean.
#pragma once

#include <vtensor/backends/detail/device_quirks.hpp>
#include <vtensor/backends/hip/abi.hpp>
#include <vtensor/core/units.hpp>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace vtensor::hip {

enum class quirk_kind : std::uint8_t {
    unmap_one_by_one,
    granularity_of_2_mib,
    access_over_whole_run,
    local_access_last,
    memory_returns_with_addresses,
    pieces_of_2_mib,
    alignment_unreliable,
};

/// One row: in which runtimes (from ≤ version < before, as hipRuntimeGetVersion counts) and on which
/// architectures (a prefix of the name; empty for all) it was seen.
struct quirk {
    quirk_kind kind;
    int from;
    int before;
    std::string_view architecture;
    std::string_view what;
    std::string_view source;

    [[nodiscard]] constexpr bool applies(int version, std::string_view to) const noexcept {
        return version >= from && version < before && to.starts_with(architecture);
    }
};

inline constexpr int no_repair_known = std::numeric_limits<int>::max();

inline constexpr std::array known_quirks{
    quirk{quirk_kind::unmap_one_by_one, 0, no_repair_known, "",
          "after one unmap call for several mappings the addresses cannot be freed",
          "github.com/ROCm/ROCR-Runtime/issues/285"},
    quirk{quirk_kind::granularity_of_2_mib, 0, no_repair_known, "",
          "4 KiB is reported where kernels fault on less than 2 MiB",
          "github.com/ROCm/rocm-systems/pull/9360"},
    // Repaired on the development branch in January 2026 (rocm-systems PR 2451), after 7.2 was cut; 7.14 is
    // the next series made from it.
    quirk{quirk_kind::access_over_whole_run, 0, abi::version(7, 14), "",
          "access to a part of what is mapped is refused",
          "github.com/ROCm/rocm-systems/issues/2516, github.com/ggml-org/llama.cpp/pull/23900"},
    quirk{quirk_kind::local_access_last, abi::version(7, 14), no_repair_known, "",
          "access of a peer set after that of the own device corrupts the mapping",
          "github.com/openxla/xla/pull/46576"},
    quirk{quirk_kind::memory_returns_with_addresses, abi::version(6, 4), no_repair_known, "",
          "released memory is back only when its addresses are freed",
          "github.com/vllm-project/vllm/pull/37533, github.com/ROCm/legacy-rocm-build/issues/6021"},
    quirk{quirk_kind::pieces_of_2_mib, abi::version(6, 0), abi::version(7, 0), "",
          "creating large chunks is unreliable", "github.com/vllm-project/vllm/pull/12695"},
    quirk{quirk_kind::alignment_unreliable, 0, no_repair_known, "",
          "reserving with an alignment is refused where reserving without works",
          "github.com/vllm-project/vllm/pull/43022"},
};

/// The switches for one runtime and architecture ("gfx942:sramecc+:xnack-").
[[nodiscard]] constexpr device_quirks quirks_of(int version, std::string_view architecture) noexcept {
    constexpr bytes two_mib{std::size_t{2} << 20};
    device_quirks found;
    for (const quirk& row : known_quirks) {
        if (!row.applies(version, architecture))
            continue;
        switch (row.kind) {
        case quirk_kind::unmap_one_by_one:
            found.unmap_one_by_one = true;
            break;
        case quirk_kind::granularity_of_2_mib:
            found.least_granularity = two_mib;
            break;
        case quirk_kind::access_over_whole_run:
            found.access_over_whole_run = true;
            break;
        case quirk_kind::local_access_last:
            found.local_access_last = true;
            break;
        case quirk_kind::memory_returns_with_addresses:
            found.memory_returns_with_addresses = true;
            break;
        case quirk_kind::pieces_of_2_mib:
            found.largest_piece = two_mib;
            break;
        case quirk_kind::alignment_unreliable:
            found.alignment_unreliable = true;
            break;
        }
    }
    return found;
}

/// For the report: what is in force, each with its source.
[[nodiscard]] inline std::string describe_quirks(int version, std::string_view architecture) {
    std::string text;
    for (const quirk& row : known_quirks) {
        if (!row.applies(version, architecture))
            continue;
        text.append(text.empty() ? "" : "; ").append(row.what).append(" (").append(row.source).append(")");
    }
    return text;
}

} // namespace vtensor::hip
