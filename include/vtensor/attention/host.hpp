// SPDX-License-Identifier: Apache-2.0
//
// Attention on the CPU by vector instructions: Google Highway, for the instruction set that the including
// file is compiled for. Without a flag such as -march=x86-64-v3 or -march=native that is the compiler's
// baseline, and where Highway has no vectors for it, `host` computes what `reference` does. Needs Highway's
// headers and nothing of its library.
#pragma once

#include <vtensor/attention/detail/decode_task.hpp>
#include <vtensor/attention/detail/dispatch.hpp>
#include <vtensor/attention/detail/prefill_task.hpp>
#include <vtensor/attention/executor.hpp>
#include <vtensor/attention/problem.hpp>
#include <vtensor/attention/reference.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <cstddef>

namespace vtensor::attention {

// Files compiled for different instruction sets see different types, so that linking them is sound.
inline namespace HWY_NAMESPACE {

#if VTENSOR_ATTENTION_HAS_VECTORS

namespace detail_host = vtensor::attention::detail::HWY_NAMESPACE;

/// The vectorised policy. Every row of keys and values is read once for all query heads of its KV head (32 at
/// a time), converted in registers and accumulated in float32 with an online softmax.
///
/// One task a KV head and tile of queries, or a KV head and query where there are few or where they want
/// scores. How the work is cut never depends on the executor and tasks write disjoint outputs, so that every
/// executor gives the same bits. Allocates nothing; a task takes up to 128 KiB of its thread's stack. NaN or
/// infinite inputs give unspecified outputs.
struct host {
    /// Computes `asked`, its tasks run by `run`. Errors: `invalid_argument` for a malformed problem, nothing
    /// written. May be called from any thread; outputs must not overlap those of a call that runs at the same
    /// time.
    template <attention_element T, attention_element Query, class Executor>
    requires task_executor<Executor> status operator()(const problem<T, Query>& asked, Executor&& run) const {
        return detail::dispatch(
            asked, run, [](const auto& one) { return tasks_of(one); },
            [](const auto& one, const options& chosen, std::size_t task) { run_task(one, chosen, task); });
    }

  private:
    /// How the queries of one sequence are cut, from the shapes alone. The first ones go together in tiles,
    /// as far as they want no scores and are enough to be worth it; each of the others alone.
    struct plan {
        std::size_t tiled_queries = 0;
        std::size_t tile_queries = 1;
        std::size_t single_queries = 0;

        [[nodiscard]] std::size_t tiles() const noexcept {
            return (tiled_queries + tile_queries - 1) / tile_queries;
        }
        [[nodiscard]] std::size_t parts() const noexcept { return tiles() + single_queries; }
    };

    template <class T, class Query>
    static plan plan_of(const sequence<T, Query>& one) noexcept {
        const std::size_t queries = one.queries.extents[0];
        if (queries == 0)
            return {};
        const std::size_t group = one.queries.extents[1] / one.heads.size();
        const std::size_t scored = one.scores.data == nullptr ? 0 : one.scores.extents[1];
        const bool is_worth_it = (queries - scored) * group >= fewest_lines && queries - scored > 1;
        return {.tiled_queries = is_worth_it ? queries - scored : 0,
                .tile_queries = std::max<std::size_t>(detail_host::prefill_lines / group, 1),
                .single_queries = is_worth_it ? scored : queries};
    }

    template <class T, class Query>
    static std::size_t tasks_of(const sequence<T, Query>& one) noexcept {
        return plan_of(one).parts() * one.heads.size();
    }

    template <class T, class Query>
    static void run_task(const sequence<T, Query>& one, const options& chosen, std::size_t task) noexcept {
        const plan cut = plan_of(one);
        const std::size_t part = task / one.heads.size();
        const std::size_t kv_head = task % one.heads.size();
        if (part < cut.tiles()) {
            const std::size_t first = part * cut.tile_queries;
            attend_tile(one, chosen, kv_head, first, std::min(cut.tile_queries, cut.tiled_queries - first));
        } else {
            attend_single(one, chosen, kv_head, cut.tiled_queries + part - cut.tiles());
        }
    }

    template <class T, class Query>
    static void attend_tile(const sequence<T, Query>& one, const options& chosen, std::size_t kv_head,
                            std::size_t first_query, std::size_t queries) noexcept {
        const std::size_t group = one.queries.extents[1] / one.heads.size();
        for (std::size_t first = 0; first < group; first += detail_host::prefill_lines)
            detail_host::prefill_task<T, Query>{
                one,
                chosen,
                kv_head,
                {.first_query = first_query,
                 .queries = queries,
                 .first_head = kv_head * group + first,
                 .heads = std::min(detail_host::prefill_lines, group - first)}}
                .run();
    }

    template <class T, class Query>
    static void attend_single(const sequence<T, Query>& one, const options& chosen, std::size_t kv_head,
                              std::size_t query) noexcept {
        const std::size_t group = one.queries.extents[1] / one.heads.size();
        const std::size_t at_once = detail_host::heads_in_pass(one.queries.extents[2]);
        if (at_once == 0) { // keys of more than 8,192 elements: beyond the scratch
            for (std::size_t head = 0; head < group; ++head)
                detail::attend_query(one, chosen, kv_head * group + head, query);
            return;
        }
        for (std::size_t first = 0; first < group; first += at_once)
            detail_host::decode_task<T, Query>{
                one, chosen, kv_head, query, kv_head * group + first, std::min(at_once, group - first)}
                .run();
    }

    static constexpr std::size_t fewest_lines = 12;
};

#else

/// There are no vectors to be had: the scalar policy under the other name.
struct host : reference {};

#endif

static_assert(attention_policy<host, problem<float>, inline_executor>);
static_assert(attention_policy<host, problem<float16>, inline_executor>);
static_assert(attention_policy<host, problem<bfloat16>, inline_executor>);

} // namespace HWY_NAMESPACE

} // namespace vtensor::attention
