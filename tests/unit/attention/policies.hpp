// SPDX-License-Identifier: Apache-2.0
//
// The policies under test, each with every storage type: what one of them must do, all must. They are
// compiled once, in policies.cpp, behind functions: their kernels take long.
#pragma once

#include <vtensor/attention/executor.hpp>
#include <vtensor/attention/problem.hpp>

#include <cstddef>
#include <memory>
#include <tuple>
#include <type_traits>

namespace vtensor::testing {

/// Any executor, by reference, as one type.
class any_executor {
  public:
    template <class Executor>
    explicit any_executor(Executor& run) noexcept
        : run_{const_cast<void*>(static_cast<const void*>(std::addressof(run)))},
          call_{[](void* run_tasks, std::size_t tasks, const any_task& task) {
              (*static_cast<Executor*>(run_tasks))(tasks, task);
          }} {}

    template <class Task>
    void operator()(std::size_t tasks, Task&& task) const {
        using plain = std::remove_reference_t<Task>;
        call_(run_, tasks,
              {const_cast<void*>(static_cast<const void*>(std::addressof(task))),
               [](void* one, std::size_t index) { (*static_cast<plain*>(one))(index); }});
    }

  private:
    struct any_task {
        void* task;
        void (*call)(void*, std::size_t);

        void operator()(std::size_t index) const { call(task, index); }
    };

    void* run_;
    void (*call_)(void*, std::size_t, const any_task&);
};

// Names for the library's policies: their headers are for policies.cpp.
struct reference_policy {};
struct host_policy {};

/// Defined in policies.cpp for all kinds below.
template <class Policy, class Stored, class Asking>
status attend(const attention::problem<Stored, Asking>& asked, const any_executor& run);

template <class Policy>
struct compiled {
    template <class Stored, class Asking, class Executor>
    status operator()(const attention::problem<Stored, Asking>& asked, Executor&& run) const {
        return attend<Policy>(asked, any_executor{run});
    }
};

/// A policy, what the cache is stored as, and what the queries are.
template <class Policy, class Stored, class Asking = float>
struct attention_kind {
    using policy = compiled<Policy>;
    using stored = Stored;
    using query = Asking;
};

/// For TEMPLATE_LIST_TEST_CASE.
using all_kinds =
    std::tuple<attention_kind<reference_policy, float>, attention_kind<reference_policy, float16>,
               attention_kind<reference_policy, bfloat16>, attention_kind<reference_policy, float, float16>,
               attention_kind<host_policy, float>, attention_kind<host_policy, float16>,
               attention_kind<host_policy, bfloat16>, attention_kind<host_policy, float16, float16>,
               attention_kind<host_policy, bfloat16, bfloat16>>;

} // namespace vtensor::testing
