// SPDX-License-Identifier: Apache-2.0
//
// Attention on the CPU by vector instructions: Google Highway, for the instruction set that the including
// file is compiled for. Without a flag such as -march=x86-64-v3 or -march=native that is the compiler's
// baseline, and where Highway has no vectors for it, `host` computes what `reference` does. Needs Highway's
// headers and nothing of its library.
#pragma once

#include <vtensor/attention/detail/check.hpp>
#include <vtensor/attention/detail/decode_task.hpp>
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
/// One task a KV head and query of a sequence. How the work is cut never depends on the executor and tasks
/// write disjoint outputs, so that every executor gives the same bits. Allocates nothing; a task takes up to
/// 64 KiB of its thread's stack. NaN or infinite inputs give unspecified outputs.
struct host {
    /// Computes `asked`, its tasks run by `run`. Errors: `invalid_argument` for a malformed problem, nothing
    /// written. May be called from any thread; outputs must not overlap those of a call that runs at the same
    /// time.
    template <attention_element T, attention_element Query, class Executor>
    requires task_executor<Executor> status operator()(const problem<T, Query>& asked, Executor&& run) const {
        if (const status checked = detail::check(asked); !checked)
            return checked;
        std::size_t tasks = 0;
        for (const auto& one : asked.sequences)
            tasks += tasks_of(one);
        run(tasks, [&asked](std::size_t task) noexcept {
            for (const auto& one : asked.sequences) {
                if (task < tasks_of(one))
                    return run_task(one, asked.options, task);
                task -= tasks_of(one);
            }
        });
        return {};
    }

  private:
    template <class T, class Query>
    static std::size_t tasks_of(const sequence<T, Query>& one) noexcept {
        return one.queries.extents[0] * one.heads.size();
    }

    template <class T, class Query>
    static void run_task(const sequence<T, Query>& one, const options& chosen, std::size_t task) noexcept {
        const std::size_t query = task / one.heads.size();
        const std::size_t kv_head = task % one.heads.size();
        const std::size_t group = one.queries.extents[1] / one.heads.size();
        const std::size_t at_once = detail_host::heads_in_pass(one.queries.extents[2]);
        for (std::size_t first = 0; first < group; first += at_once)
            detail_host::decode_task<T, Query>{
                one, chosen, kv_head, query, kv_head * group + first, std::min(at_once, group - first)}
                .run();
    }
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
