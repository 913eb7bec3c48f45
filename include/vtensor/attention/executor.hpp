// SPDX-License-Identifier: Apache-2.0
//
// The executor for those who bring none: every task on the calling thread, in order. Attention itself never
// starts a thread.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>

namespace vtensor::attention {

/// Runs the tasks one after the other on the calling thread.
struct inline_executor {
    template <class Task>
    constexpr void operator()(std::size_t tasks, Task&& task) const {
        for (std::size_t index = 0; index < tasks; ++index)
            task(index);
    }
};
static_assert(task_executor<inline_executor>);
static_assert(task_executor<const inline_executor>);

} // namespace vtensor::attention
