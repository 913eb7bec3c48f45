// SPDX-License-Identifier: Apache-2.0
// Types that are each wrong in exactly one way. That this compiles is most of the test.
#include <vtensor/adaptors/trace_sink.hpp>
#include <vtensor/core/concepts.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

// Not an unnamed namespace: most of these types are only declared, and compilers warn of unused functions.
namespace vtensor::testing {

// ---- growth_policy, look_ahead_policy ----

struct minimal_growth {
    page_count target(const growth_state& state) const noexcept { return state.needed; }
};
struct no_target {};
struct target_answers_a_number {
    std::size_t target(const growth_state&) const noexcept;
};
struct target_throws {
    page_count target(const growth_state&) const;
};
struct target_not_const {
    page_count target(const growth_state&) noexcept;
};
struct target_changes_the_state {
    page_count target(growth_state&) const noexcept;
};
struct target_of_three_numbers {
    page_count target(page_count, page_count, page_count) const noexcept;
};
struct growth_not_copyable {
    std::unique_ptr<int> step;
    page_count target(const growth_state&) const noexcept;
};
static_assert(growth_policy<minimal_growth> && !look_ahead_policy<minimal_growth>);
static_assert(!growth_policy<int> && !growth_policy<no_target> && !growth_policy<target_answers_a_number>);
static_assert(!growth_policy<target_throws> && !growth_policy<target_not_const>);
static_assert(!growth_policy<target_changes_the_state> && !growth_policy<target_of_three_numbers>);
static_assert(!growth_policy<growth_not_copyable>);

struct minimal_look_ahead : minimal_growth {
    page_count ahead(const growth_state& state) const noexcept { return state.limit; }
};
struct ahead_alone {
    page_count ahead(const growth_state&) const noexcept;
};
struct ahead_answers_bytes : minimal_growth {
    bytes ahead(const growth_state&) const noexcept;
};
struct ahead_throws : minimal_growth {
    page_count ahead(const growth_state&) const;
};
struct ahead_not_const : minimal_growth {
    page_count ahead(const growth_state&) noexcept;
};
static_assert(growth_policy<minimal_look_ahead> && look_ahead_policy<minimal_look_ahead>);
static_assert(!look_ahead_policy<ahead_alone> && !look_ahead_policy<ahead_answers_bytes>);
static_assert(!look_ahead_policy<ahead_throws> && !look_ahead_policy<ahead_not_const>);

// ---- sharing_policy ----

struct minimal_sharing {
    page_count pages(const sharing_state& state) const noexcept { return state.whole; }
};
struct no_pages {};
struct pages_as_a_number {
    std::size_t pages(const sharing_state&) const noexcept;
};
struct pages_that_throw {
    page_count pages(const sharing_state&) const;
};
struct pages_not_const {
    page_count pages(const sharing_state&) noexcept;
};
struct pages_of_a_number {
    page_count pages(std::size_t) const noexcept;
};
static_assert(sharing_policy<minimal_sharing>);
static_assert(!sharing_policy<no_pages> && !sharing_policy<pages_as_a_number>);
static_assert(!sharing_policy<pages_that_throw> && !sharing_policy<pages_not_const>);
static_assert(!sharing_policy<pages_of_a_number> && !sharing_policy<minimal_growth>);

// ---- reclaim_policy and preemption_policy ----

struct minimal_reclaim {
    std::optional<reclaim_source> next(const reclaim_state&) const noexcept { return std::nullopt; }
};
struct next_is_no_option {
    reclaim_source next(const reclaim_state&) const noexcept;
};
struct next_throws {
    std::optional<reclaim_source> next(const reclaim_state&) const;
};
struct next_not_const {
    std::optional<reclaim_source> next(const reclaim_state&) noexcept;
};
static_assert(reclaim_policy<minimal_reclaim> && !reclaim_policy<next_is_no_option>);
static_assert(!reclaim_policy<next_throws> && !reclaim_policy<next_not_const> && !reclaim_policy<no_pages>);

struct minimal_preemption {
    bool keeps_rows(const preemption_state&) const noexcept { return false; }
};
struct keeps_rows_throws {
    bool keeps_rows(const preemption_state&) const;
};
struct keeps_rows_of_a_number {
    bool keeps_rows(std::size_t) const noexcept;
};
static_assert(preemption_policy<minimal_preemption> && !preemption_policy<keeps_rows_throws>);
static_assert(!preemption_policy<keeps_rows_of_a_number> && !preemption_policy<minimal_reclaim>);

// ---- eviction_policy ----

struct minimal_eviction {
    static constexpr eviction_scope scope = eviction_scope::layer;
};
struct no_scope {};
struct scope_of_a_value {
    eviction_scope scope = eviction_scope::tensor;
};
struct scope_of_another_type {
    static constexpr int scope = 0;
};
struct eviction_not_copyable {
    static constexpr eviction_scope scope = eviction_scope::tensor;
    std::unique_ptr<int> scores;
};
static_assert(eviction_policy<minimal_eviction>);
static_assert(!eviction_policy<int> && !eviction_policy<no_scope> && !eviction_policy<scope_of_another_type>);
static_assert(!eviction_policy<scope_of_a_value>);
static_assert(!eviction_policy<eviction_not_copyable>);

// ---- element ----

struct sixteen_bits {
    std::uint16_t bits;
};
struct with_destructor {
    ~with_destructor() {}
};
static_assert(element<float> && element<float16> && element<bfloat16> && element<sixteen_bits>);
static_assert(element<int*> && element<char[4]>);
static_assert(!element<std::string> && !element<std::vector<float>> && !element<with_destructor>);
static_assert(!element<const float> && !element<float&> && !element<void> && !element<void()>);

// ---- mutex_type ----

struct minimal_mutex {
    void lock() {}
    void unlock() {}
    bool try_lock() { return true; }
};
struct mutex_without_try {
    void lock();
    void unlock();
};
struct mutex_without_unlock {
    void lock();
    bool try_lock();
};
struct mutex_whose_try_answers_nothing {
    void lock();
    void unlock();
    void try_lock();
};
struct mutex_without_default {
    explicit mutex_without_default(int);
    void lock();
    void unlock();
    bool try_lock();
};
static_assert(mutex_type<minimal_mutex> && mutex_type<std::mutex> && mutex_type<std::shared_mutex>);
static_assert(mutex_type<std::recursive_mutex> && mutex_type<no_mutex>);
static_assert(!mutex_type<int> && !mutex_type<mutex_without_try> && !mutex_type<mutex_without_unlock>);
static_assert(!mutex_type<mutex_whose_try_answers_nothing> && !mutex_type<mutex_without_default>);
static_assert(!mutex_type<const std::mutex>);

// ---- task_executor, attention_policy ----

struct minimal_executor {
    template <class Task>
    void operator()(std::size_t tasks, Task& task) const {
        for (std::size_t index = 0; index < tasks; ++index)
            task(index);
    }
};
struct executor_of_one_task {
    template <class Task>
    void operator()(Task& task) const;
};
struct executor_of_tasks_without_number {
    void operator()(std::size_t, void (*)()) const;
};
struct executor_called_otherwise {
    template <class Task>
    void run(std::size_t, Task& task) const;
};
static_assert(task_executor<minimal_executor>);
static_assert(task_executor<std::function<void(std::size_t, std::function<void(std::size_t)>)>>);
static_assert(!task_executor<int> && !task_executor<executor_of_one_task>);
static_assert(!task_executor<executor_of_tasks_without_number> && !task_executor<executor_called_otherwise>);

struct problem {};
struct minimal_attention {
    template <class Executor>
    status operator()(const problem&, Executor&) const {
        return {};
    }
};
struct attention_answers_nothing {
    template <class Executor>
    void operator()(const problem&, Executor&) const;
};
struct attention_not_const {
    template <class Executor>
    status operator()(const problem&, Executor&);
};
struct attention_without_executor {
    status operator()(const problem&) const;
};
struct attention_changes_the_problem {
    template <class Executor>
    status operator()(problem&, Executor&) const;
};
static_assert(attention_policy<minimal_attention, problem, minimal_executor>);
static_assert(!attention_policy<minimal_attention, int, minimal_executor>);
static_assert(!attention_policy<minimal_attention, problem, executor_of_one_task>);
static_assert(!attention_policy<attention_answers_nothing, problem, minimal_executor>);
static_assert(!attention_policy<attention_not_const, problem, minimal_executor>);
static_assert(!attention_policy<attention_without_executor, problem, minimal_executor>);
static_assert(!attention_policy<attention_changes_the_problem, problem, minimal_executor>);

// ---- trace_sink ----

struct minimal_sink {
    void record(const adaptors::trace_event&) noexcept {}
};
struct sink_throws {
    void record(const adaptors::trace_event&);
};
struct sink_changes_the_event {
    void record(adaptors::trace_event&) noexcept;
};
struct sink_answers {
    bool record(const adaptors::trace_event&) noexcept;
};
static_assert(adaptors::trace_sink<minimal_sink>);
static_assert(!adaptors::trace_sink<int> && !adaptors::trace_sink<sink_throws>);
static_assert(!adaptors::trace_sink<sink_changes_the_event> && !adaptors::trace_sink<sink_answers>);

TEST_CASE("the smallest policy of each concept runs") {
    const growth_state state{page_count{1}, page_count{2}, page_count{3}};
    CHECK(minimal_growth{}.target(state) == page_count{2});
    CHECK(minimal_look_ahead{}.ahead(state) == page_count{3});
    std::size_t sum = 0;
    const auto task = [&](std::size_t index) { sum += index; };
    minimal_executor{}(4, task);
    CHECK(sum == 6);
    minimal_executor executor;
    CHECK(minimal_attention{}(problem{}, executor).ok());
}

} // namespace vtensor::testing
