// SPDX-License-Identifier: Apache-2.0
//
// How a policy hands its tasks out: the tasks of all sequences are numbered one after another, so that the
// executor sees one range of them. It checks the problem first; it computes nothing.
#pragma once

#include <vtensor/attention/detail/check.hpp>
#include <vtensor/attention/problem.hpp>
#include <vtensor/core/error.hpp>

#include <cstddef>

namespace vtensor::attention::detail {

/// Refuses a malformed problem; otherwise has `run` do `run_task(sequence, options, task)` for every task
/// from 0 to `tasks_of(sequence)` of every sequence. `run_task` does not throw.
template <class T, class Query, class Executor, class TasksOf, class RunTask>
[[nodiscard]] status dispatch(const problem<T, Query>& asked, Executor& run, TasksOf tasks_of,
                              RunTask run_task) {
    if (const status checked = check(asked); !checked)
        return checked;
    std::size_t tasks = 0;
    for (const auto& one : asked.sequences)
        tasks += tasks_of(one);
    run(tasks, [&](std::size_t task) noexcept {
        for (const auto& one : asked.sequences) {
            const std::size_t own = tasks_of(one);
            if (task < own)
                return run_task(one, asked.options, task);
            task -= own;
        }
    });
    return {};
}

} // namespace vtensor::attention::detail
