// SPDX-License-Identifier: Apache-2.0
#include "app/generate_batch.hpp"

#include "app/stopwatch.hpp"
#include "io/input_error.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace decoder {

namespace {

namespace kv = vtensor::kv;

enum class job_state : std::uint8_t { waiting, running, preempted, done };

/// One text to be made. Of a running or preempted one the last token was chosen and is not computed yet: the
/// manager has the prompt and all tokens but that.
struct job {
    const batch_prompt* prompt;
    sampler choose;
    completion out{};
    job_state state = job_state::waiting;
    kv::sequence_id id{};
    bool is_alone = false; ///< shares no page, so that all memory there is can be its own
};

class batch_run {
  public:
    batch_run(llama& model, managed_sequences& sequences, const batch_request& request, thread_pool& threads)
        : model_{model},
          sequences_{sequences},
          request_{request},
          threads_{threads},
          logits_(model.config().vocabulary) {
        for (const batch_prompt& prompt : request.prompts) {
            for (std::size_t sample = 0; sample < request.samples; ++sample) {
                sampling how = request.how;
                how.seed += sample;
                jobs_.push_back({.prompt = &prompt, .choose = sampler{how}});
            }
        }
    }

    batch_run(const batch_run&) = delete;
    batch_run& operator=(const batch_run&) = delete;
    /// A run that was refused half way takes its sequences with it: nobody else knows their numbers.
    ~batch_run() {
        for (const job& one : jobs_)
            if (one.state == job_state::running || one.state == job_state::preempted)
                static_cast<void>(sequences_.try_release(one.id)); // is known
    }

    batch_outcome operator()() {
        while (left() > 0) {
            const stopwatch prefill_time;
            let_in();
            figures_.prefill_seconds += prefill_time.seconds();
            const stopwatch decode_time;
            step();
            figures_.decode_seconds += decode_time.seconds();
        }
        figures_.end = now();
        batch_outcome out{.completions = {}, .figures = figures_};
        for (job& one : jobs_)
            out.completions.push_back(std::move(one.out));
        return out;
    }

  private:
    [[nodiscard]] std::size_t count(job_state state) const {
        return static_cast<std::size_t>(
            std::count_if(jobs_.begin(), jobs_.end(), [&](const job& one) { return one.state == state; }));
    }
    [[nodiscard]] std::size_t left() const { return jobs_.size() - count(job_state::done); }
    [[nodiscard]] memory_moment now() const { return {sequences_.stats(), sequences_.counted_by_kernel()}; }

    /// Sequences that had to give way; those of them that stepped keep the token that was chosen.
    void note_preempted() {
        for (const kv::sequence_id id : sequences_.preempted())
            for (job& one : jobs_)
                if (one.state == job_state::running && one.id == id)
                    one.state = job_state::preempted;
    }
    /// Whether it was done; false where memory is short.
    bool was_done(const vtensor::status& outcome) {
        note_preempted();
        if (!outcome && !vtensor::is_shortage(outcome.code()))
            refuse("the manager of the KV cache failed: " + to_string(outcome.error()) +
                   "; choose other --page-bytes or free memory");
        if (!outcome)
            shortage_ = outcome;
        return outcome.ok();
    }

    // ---- coming ----

    /// Preempted ones first, then those that wait; as long as memory allows. Tried when a sequence has left.
    void let_in() {
        if (!has_room_ && count(job_state::running) > 0)
            return;
        has_room_ = false;
        for (job& one : jobs_)
            if (one.state == job_state::preempted && !resume(one))
                break;
        if (count(job_state::preempted) == 0) {
            for (job& one : jobs_)
                if (one.state == job_state::waiting && !start(one))
                    break;
        }
        if (count(job_state::running) == 0 && left() > 0 && !has_room_)
            start_alone(*std::find_if(jobs_.begin(), jobs_.end(), [&](const job& one) {
                return one.state ==
                       (count(job_state::preempted) > 0 ? job_state::preempted : job_state::waiting);
            }));
    }
    bool resume(job& one) {
        const auto placed = sequences_.try_resume(one.id);
        if (!was_done(placed.status()))
            return false;
        one.state = job_state::running;
        compute(one, placed->matched, {});
        return true;
    }
    /// The prompt is computed once; the other samples of it fork from there, as far as memory allows.
    bool start(job& one) {
        std::vector<int> tokens = one.prompt->tokens;
        const bool is_new = one.out.tokens.empty();
        if (!is_new)
            tokens.insert(tokens.end(), one.out.tokens.begin(), one.out.tokens.end() - 1);
        const auto salt = one.is_alone ? kv::salt_id{index_of(one) + 1} : kv::salt_id{};
        const auto placed = sequences_.try_create(tokens, salt);
        if (!was_done(placed.status()))
            return false;
        one.id = placed->id;
        one.state = job_state::running;
        compute(one, placed->matched, is_new ? std::span{logits_} : std::span<float>{});
        static_cast<void>(sequences_.try_record(one.id)); // else others will compute it again
        if (!is_new)
            return true;
        if (!one.is_alone)
            fork_others(one);
        accept(one);
        return true;
    }
    void fork_others(const job& parent) {
        for (job& other : jobs_) {
            if (other.prompt != parent.prompt || other.state != job_state::waiting)
                continue;
            const auto child = sequences_.try_fork(parent.id);
            if (!was_done(child.status()))
                return;
            other.id = *child;
            other.state = job_state::running;
            accept(other);
        }
    }
    /// Nothing else runs, and what was shared is in the way: once more with pages of its own.
    void start_alone(job& one) {
        const bool was_alone = std::exchange(one.is_alone, true);
        if (one.state != job_state::waiting)
            static_cast<void>(sequences_.try_release(one.id)); // is known
        one.state = job_state::waiting;
        if (was_alone || !start(one))
            refuse("the KV cache could not grow to the " +
                   std::to_string(one.prompt->tokens.size() + one.out.tokens.size()) + " tokens of prompt " +
                   std::to_string(one.prompt - request_.prompts.data() + 1) + ": " +
                   to_string(shortage_.error()) + "; raise --kv-limit, lower --max-tokens, or free memory");
    }
    [[nodiscard]] std::size_t index_of(const job& one) const {
        return static_cast<std::size_t>(&one - jobs_.data());
    }

    // ---- running ----

    /// The rows of a sequence from `first` on, in chunks; `logits` of the last token.
    void compute(const job& one, std::size_t first, std::span<float> logits) {
        const auto tokens = sequences_.tokens(one.id);
        kv_cache& rows = sequences_.rows(one.id, first);
        for (std::size_t done = first; done < tokens.size();) {
            const auto chunk = tokens.subspan(done, std::min(request_.prefill_chunk, tokens.size() - done));
            done += chunk.size();
            require(
                model_.try_step(rows, chunk, done == tokens.size() ? logits : std::span<float>{}, threads_));
        }
        figures_.prefill_tokens += tokens.size() - first;
    }
    /// One token for every sequence that runs. Where not even the first has room, the last one gives way.
    void step() {
        std::vector<job*> batch;
        for (;;) {
            batch.clear();
            std::vector<kv::extension> tokens;
            for (job& one : jobs_) {
                if (one.state == job_state::running) {
                    batch.push_back(&one);
                    tokens.push_back({one.id, std::span{one.out.tokens}.last(1)});
                }
            }
            if (batch.empty())
                return;
            figures_.most_running = std::max(figures_.most_running, batch.size());
            if (was_done(sequences_.try_extend(tokens)))
                break;
            job& last = *batch.back();
            if (batch.size() == 1) {
                start_alone(last);
            } else if (last.state == job_state::running) {
                require(sequences_.try_preempt(last.id));
                last.state = job_state::preempted;
            }
        }
        ++figures_.steps;
        if (auto moment = now(); moment.manager.tokens > figures_.busiest.manager.tokens)
            figures_.busiest = moment;
        for (job* const one : batch) {
            if (one->state != job_state::running)
                continue;
            const std::size_t before = sequences_.tokens(one->id).size() - 1;
            require(model_.try_step(sequences_.rows(one->id, before), std::span{one->out.tokens}.last(1),
                                    logits_, threads_));
            ++figures_.decode_tokens;
            accept(*one);
        }
    }
    void require(const vtensor::status& outcome) {
        if (!outcome)
            refuse("a step of the batch failed: " + to_string(outcome.error()) + "; free memory");
    }

    // ---- going ----

    /// Chooses the next token from `logits_`, the last one perhaps.
    void accept(job& one) {
        const int token = one.choose.choose(logits_);
        const auto& ends = model_.config().eos_tokens;
        if (std::find(ends.begin(), ends.end(), token) != ends.end())
            return finish(one, stop_reason::end_token);
        one.out.tokens.push_back(token);
        if (one.out.tokens.size() == one.prompt->max_tokens)
            finish(one, stop_reason::max_tokens);
    }
    void finish(job& one, stop_reason why) {
        one.out.stopped = why;
        one.state = job_state::done;
        static_cast<void>(sequences_.try_record(one.id)); // else nobody continues it
        require(sequences_.try_release(one.id));
        has_room_ = true;
    }

    llama& model_;
    managed_sequences& sequences_;
    const batch_request& request_;
    thread_pool& threads_;
    std::vector<float> logits_;
    std::vector<job> jobs_;
    bool has_room_ = true;     ///< more than when the last sequence was refused
    vtensor::status shortage_; ///< the last one
    batch_figures figures_;
};

} // namespace

batch_outcome generate_batch(llama& model, managed_sequences& sequences, const batch_request& request,
                             thread_pool& threads) {
    return batch_run{model, sequences, request, threads}();
}

double seconds_in(const vtensor::kv::manager_stats& manager) noexcept {
    double sum = 0;
    for (const auto& verb : manager.verbs)
        sum += 1e-9 * static_cast<double>(verb.nanoseconds);
    return sum;
}

} // namespace decoder
