// SPDX-License-Identifier: Apache-2.0
//
// An engine with continuous batching, as vLLM schedules with whole prompts: in every step the sequences that
// run get memory for one token more, then requests that wait are let in, first come, first served. Where the
// memory does not suffice for the tokens of a step, the sequence let in last is taken back and begins anew
// later, its answer so far included. The clock is simulated (cost_model.hpp); the memory is managed for real,
// and timed.
#pragma once

#include "cost_model.hpp"
#include "live_tokens.hpp"
#include "memory_manager.hpp"
#include "request_queue.hpp"
#include "row_stamps.hpp"
#include "run_record.hpp"
#include "workload.hpp"

#include "../bench_report.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace vtensor::bench {

struct engine_options {
    cost_model cost{};
    std::size_t max_sequences = 512;
    std::size_t prefill_budget = 16'384; ///< tokens of prompts in a step, unless a single one is longer
    bool check_rows = false;             ///< see row_stamps.hpp
    /// Verbs are timed by the processor time of the calling thread, and not by the wall clock: waiting does
    /// not count then, nor what other programs do to this one.
    bool thread_time = false;
};

/// One run over one workload. The workload and the manager must outlive it.
class engine {
  public:
    engine(const workload& asked, memory_manager_under_test& memory, const engine_options& options)
        : asked_{asked}, memory_{memory}, options_{options}, queue_{asked}, sampled_(asked.requests.size()) {
        if (options.check_rows)
            stamps_.emplace(asked);
    }

    /// Until everything is answered or refused. To be called once.
    [[nodiscard]] run_record run() {
        while (true) {
            queue_.advance(now_);
            if (!running_.empty() || queue_.waits())
                step();
            else if (!queue_.empty())
                now_ = queue_.next_arrival();
            else
                break;
        }
        return std::move(record_);
    }

  private:
    /// A sequence that has memory. The last token that was sampled has no KV yet, unless none was sampled
    /// since it was let in.
    struct running {
        std::size_t request = 0;
        sequence_id sequence = 0;
        std::size_t tokens = 0; ///< with KV
    };

    /// Adds the time of a manager's verb to that of the step.
    template <class Verb>
    auto timed(Verb verb) {
        struct stopwatch {
            double& total;
            bool thread_time;
            double start = seconds_now(thread_time);
            ~stopwatch() { total += seconds_now(thread_time) - start; }
        };
        const stopwatch until_it_returns{managing_, options_.thread_time};
        return verb();
    }

    void step() {
        managing_ = 0;
        const std::size_t preemptions = record_.preemptions;
        const std::size_t finished = record_.finished;
        grow();
        const std::size_t decoding = running_.size();
        const std::size_t context = live_.total();
        const std::size_t prefill = admit();
        if (running_.empty()) {
            if (blocked_)
                refuse_front(); // nothing held memory, and the request found none
            return;
        }
        step_record now{.start = now_,
                        .computing = options_.cost.seconds(prefill, decoding, context),
                        .sequences = running_.size(),
                        .tokens = live_.total(),
                        .distinct = live_.distinct(),
                        .memory = memory_.figures()};

        const double hidden = memory_.while_computing(now.computing);
        record_.hidden += hidden;
        now_ += now.computing;
        managing_ += std::max(0.0, hidden - now.computing);
        sample();
        now.managing = managing_;
        now.steady = prefill == 0 && record_.preemptions == preemptions && record_.finished == finished;
        record_.steps.push_back(now);
    }

    /// One token more for every sequence, or for as many as there is memory for.
    void grow() {
        batch_.clear();
        for (const running& one : running_)
            batch_.push_back({one.sequence, tokens_of(one, one.tokens + 1).last(1)});
        while (!batch_.empty() && !timed([&] { return memory_.extend(batch_); })) {
            batch_.pop_back();
            take_back();
        }
        for (running& one : running_) {
            ++one.tokens;
            write_rows(one, one.tokens - 1);
        }
        live_.grow(running_.size());
    }

    /// Lets in what waits. Returns how many tokens are to be computed for it.
    std::size_t admit() {
        std::size_t computed = 0;
        while (queue_.waits() && running_.size() < options_.max_sequences &&
               (!blocked_ || running_.empty())) {
            const std::size_t index = queue_.front();
            const request& one = asked_.requests[index];
            const std::size_t tokens = one.prompt + sampled_[index];
            if (computed > 0 && computed + tokens > options_.prefill_budget)
                break;
            const auto admitted = timed([&] { return memory_.begin(asked_.tokens(one, tokens), one.salt); });
            if (!admitted) {
                blocked_ = true;
                break;
            }
            if (admitted->matched > tokens)
                throw std::logic_error{memory_.name() + " matched more than there is"};
            queue_.take_front();
            running_.push_back({index, admitted->sequence, tokens});
            live_.add(one, tokens);
            computed += std::max<std::size_t>(1, tokens - admitted->matched);
            note_prompt(sampled_[index] == 0, tokens, admitted->matched);
            check_rows(running_.back(), admitted->matched);
            write_rows(running_.back(), admitted->matched);
        }
        return computed;
    }

    /// Every sequence has computed a token; those whose answer is whole end.
    void sample() {
        std::erase_if(running_, [&](const running& one) {
            const request& asked = asked_.requests[one.request];
            if (++sampled_[one.request] < asked.decoded)
                return false;
            check_rows(one, one.tokens);
            live_.remove(asked, one.tokens);
            timed([&] { memory_.end(one.sequence, tokens_of(one, one.tokens)); });
            ++record_.finished;
            record_.seconds = now_;
            queue_.finished(one.request, now_);
            blocked_ = false;
            return true;
        });
    }

    /// The sequence let in last gives its memory up. It is not let in again before another one has ended.
    void take_back() {
        const running last = running_.back();
        running_.pop_back();
        check_rows(last, last.tokens);
        live_.remove(asked_.requests[last.request], last.tokens);
        timed([&] { memory_.preempt(last.sequence, tokens_of(last, last.tokens)); });
        queue_.put_back(last.request);
        ++record_.preemptions;
        blocked_ = true;
        if (running_.empty())
            refuse_front(); // it had all the memory there is
    }

    void refuse_front() {
        record_.refused += queue_.refused(queue_.front());
        queue_.take_front();
        blocked_ = false;
    }

    [[nodiscard]] static double seconds_now(bool thread_time) noexcept {
        const auto seconds = [](auto when) {
            return std::chrono::duration<double>(when.time_since_epoch()).count();
        };
        return thread_time ? seconds(thread_clock::now()) : seconds(std::chrono::steady_clock::now());
    }

    void note_prompt(bool first_time, std::size_t tokens, std::size_t matched) {
        if (first_time) {
            record_.prompt_tokens += tokens;
            record_.matched_tokens += matched;
        } else {
            record_.recomputed_tokens += tokens - matched;
        }
    }
    void write_rows(const running& one, std::size_t first) {
        if (stamps_)
            stamps_->write(memory_, one.sequence, asked_.requests[one.request], first, one.tokens);
    }
    void check_rows(const running& one, std::size_t count) {
        if (stamps_)
            record_.wrong_rows += stamps_->wrong(memory_, one.sequence, asked_.requests[one.request], count);
    }
    [[nodiscard]] std::span<const token_id> tokens_of(const running& one, std::size_t count) const {
        return asked_.tokens(asked_.requests[one.request], count);
    }

    const workload& asked_;
    memory_manager_under_test& memory_;
    engine_options options_;
    request_queue queue_;
    std::optional<row_stamps> stamps_;

    double now_ = 0;
    std::vector<running> running_;     ///< in the order in which they were let in
    std::vector<std::size_t> sampled_; ///< by request: tokens of its answer so far
    std::vector<extension> batch_;
    live_tokens live_;
    bool blocked_ = false; ///< a request found no memory, and none was given back since
    double managing_ = 0;  ///< seconds measured in this step
    run_record record_;
};

} // namespace vtensor::bench
