// SPDX-License-Identifier: Apache-2.0
//
// The published methods, each a composition of parts. Their numbers are defaults of template parameters, and
// may be set at run time in the parts. docs/eviction.md has them as a table.
#pragma once

#include <vtensor/policy/eviction/compose.hpp>
#include <vtensor/policy/eviction/with.hpp>

#include <cstddef>

namespace vtensor::eviction {

/// The first `Sinks` and the last `Window` positions: StreamingLLM (arXiv 2309.17453).
template <std::size_t Sinks = 4, std::size_t Window = 1024>
using sliding_window =
    compose<guard::sinks<Sinks>, guard::recent<Window>, budget::guards_only, schedule::every<1>>;

/// The rows with the most attention of all queries so far, and the recent ones, `Rows` in all: H2O
/// (arXiv 2306.14048).
template <std::size_t Rows = 1024, std::size_t Recent = Rows / 2>
using h2o = compose<indicator::accumulated, guard::recent<Recent>, budget::uniform<Rows>, schedule::every<1>>;

/// The rows with the most attention a query that saw them: "observed attention" of NVIDIA's kvpress.
using observed = compose<indicator::column_mean, budget::uniform<>>;

/// The window, and the rows that its queries attend to on average (arXiv 2404.14469).
template <std::size_t Window = 32, std::size_t Kernel = 5>
using snapkv = compose<indicator::window_queries<Window>, aggregate::mean, pooling::average<Kernel>,
                       guard::recent<Window>, budget::uniform<>>;

/// SnapKV's rows, more of them in the lower layers: PyramidKV (arXiv 2406.02069).
template <std::size_t Window = 32, std::size_t Kernel = 5>
using pyramid_snapkv = with<snapkv<Window, Kernel>, budget::pyramid>;

/// The rows of `Base`, shared among the heads of a layer above a floor: AdaKV (arXiv 2407.11550).
template <class Base>
using ada = with<Base, budget::per_head_floor>;

/// What the last query attends to, the mean of all heads (arXiv 2401.06104).
using tova = compose<indicator::last_query, aggregate::mean_over_layer, guard::recent<1>, budget::uniform<>,
                     schedule::every<1>>;

/// The keys of smallest norm (arXiv 2406.11430).
using knorm = compose<indicator::key_norm, budget::uniform<>>;

/// The keys least like the others (arXiv 2504.15364).
using keydiff = compose<indicator::key_difference, budget::uniform<>>;

/// Half of the budget by the scores of `Base`, the rest by them times what the values do to the output:
/// CriticalKV (arXiv 2502.03805).
template <class Base>
using critical = with<Base, weighting::output_norms, protection::best_share>;

/// The worst case instead of the mean, norms of outputs, a first stage by mass, and one budget for the heads
/// of a layer (arXiv 2510.13334).
template <std::size_t Window = 32, std::size_t Kernel = 5>
using defensive_kv =
    compose<indicator::window_queries<Window>, aggregate::defensive, pooling::average<Kernel, true>,
            weighting::output_norms_over_heads, protection::mass, guard::recent<Window>, budget::layer_flat>;

/// The same with one budget for all heads of all layers.
template <std::size_t Window = 32, std::size_t Kernel = 5>
using layer_defensive_kv = with<defensive_kv<Window, Kernel>, budget::global>;

/// Whole windows of 8 tokens, alike for all heads of a group of layers (arXiv 2503.17922), scored by their
/// mean. The budget is what is kept beside the last `Suffix` tokens.
template <std::size_t Suffix = 16, std::size_t Width = 8>
using window_kv = compose<indicator::window_queries<Suffix>, aggregate::mean, selection::whole_windows<Width>,
                          guard::recent<Suffix>, budget::arithmetic_groups>;

/// The same, scored by the mean of each window's best half.
template <std::size_t Suffix = 32, std::size_t Width = 8>
using window_kv_best = with<window_kv<Suffix, Width>, aggregate::window_best<Width, Width / 2>>;

/// Rows that recur, `Rows` of them after every `Steps` steps, the last `Steps` among them: LazyEviction
/// (arXiv 2506.15969). Wants the importance of a `recurrence_tracker`.
template <std::size_t Rows = 1024, std::size_t Steps = 128>
using lazy = compose<indicator::recurrence, guard::recent<Steps>, budget::uniform<Rows>,
                     schedule::lagged<Rows, Steps>>;

static_assert(choosing_eviction_policy<sliding_window<>, layer_evidence, workspace, kept_rows>);
static_assert(choosing_eviction_policy<layer_defensive_kv<>, layer_evidence, workspace, kept_rows>);
static_assert(sliding_window<>::scope == eviction_scope::tensor && snapkv<>::scope == eviction_scope::tensor);
static_assert(critical<snapkv<>>::scope == eviction_scope::tensor);
static_assert(ada<snapkv<>>::scope == eviction_scope::layer && tova::scope == eviction_scope::layer);
static_assert(defensive_kv<>::scope == eviction_scope::layer);
static_assert(layer_defensive_kv<>::scope == eviction_scope::model);
static_assert(pyramid_snapkv<>::scope == eviction_scope::model &&
              window_kv<>::scope == eviction_scope::model);

} // namespace vtensor::eviction
