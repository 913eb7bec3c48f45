// SPDX-License-Identifier: Apache-2.0
//
// The published methods, each a composition of parts. Their numbers are defaults of template parameters, and
// may be set at run time in the parts.
#pragma once

#include <vtensor/policy/eviction/compose.hpp>

#include <cstddef>

namespace vtensor::eviction {

/// The first `Sinks` and the last `Window` positions: StreamingLLM (arXiv 2309.17453).
template <std::size_t Sinks = 4, std::size_t Window = 1024>
using sliding_window =
    compose<guard::sinks<Sinks>, guard::recent<Window>, budget::guards_only, schedule::every<1>>;

/// The keys of smallest norm (arXiv 2406.11430).
using knorm = compose<indicator::key_norm, budget::uniform>;

/// The window and the rows that its queries attend to on average (arXiv 2404.14469).
template <std::size_t Window = 32, std::size_t Kernel = 5>
using snapkv = compose<indicator::window_queries<Window>, aggregate::mean, pooling::average<Kernel>,
                       guard::recent<Window>, budget::uniform>;

/// The worst case instead of the mean, norms of outputs, a first stage by mass, and one budget for the heads
/// of a layer (arXiv 2510.13334).
template <std::size_t Window = 32, std::size_t Kernel = 5>
using defensive_kv =
    compose<indicator::window_queries<Window>, aggregate::defensive, pooling::average<Kernel, true>,
            weighting::output_norms_over_heads, protection::mass, guard::recent<Window>, budget::layer_flat>;

static_assert(choosing_eviction_policy<sliding_window<>, layer_evidence, workspace, kept_rows>);
static_assert(sliding_window<>::scope == eviction_scope::tensor);
static_assert(snapkv<>::scope == eviction_scope::tensor);
static_assert(defensive_kv<>::scope == eviction_scope::layer);

} // namespace vtensor::eviction
