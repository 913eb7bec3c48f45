// SPDX-License-Identifier: Apache-2.0
//
// What every call into a simulated machine goes through: the lock, the log, the faults that a test planned,
// and the state that a real driver checks first. Also how a test asks what happened.
#pragma once

#include <support/simulated_driver/calls.hpp>
#include <support/simulated_driver/codes.hpp>
#include <support/simulated_driver/contexts.hpp>
#include <support/simulated_driver/options.hpp>
#include <support/simulated_driver/report.hpp>

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

namespace vtensor::testing::simulated {

/// Which driver the machine pretends to have.
enum class api : std::uint8_t { cuda, hip };

class machine_core {
  public:
    machine_core(const machine_core&) = delete;
    machine_core& operator=(const machine_core&) = delete;

    [[nodiscard]] const machine_options& options() const noexcept { return options_; }

    // ---- what was called ----

    [[nodiscard]] std::size_t calls(entry which) const {
        const std::lock_guard lock{mutex_};
        return log_.count(which);
    }
    [[nodiscard]] std::size_t total_calls() const {
        const std::lock_guard lock{mutex_};
        return log_.total();
    }
    /// The calls in order, the first `call_log::most_kept` of them.
    [[nodiscard]] std::vector<call> log() const {
        const std::lock_guard lock{mutex_};
        return log_.calls();
    }
    void clear_log() {
        const std::lock_guard lock{mutex_};
        log_.clear();
    }

    // ---- calls that fail ----

    /// From now on, of the calls that `counted` likes (all, where none is given), numbers first … first +
    /// length
    /// - 1, counted from 1, have no effect and give the code `native`.
    void fail_calls(std::size_t first, std::size_t length, int native, call_predicate counted = {}) {
        const std::lock_guard lock{mutex_};
        faults_.arm(first, length, native, std::move(counted));
    }
    /// The same for the calls of one entry.
    void fail_entry(entry which, int native, std::size_t first = 1, std::size_t length = 1) {
        fail_calls(first, length, native, [which](const call& made) { return made.what == which; });
    }
    /// Nothing fails any more. How many calls did.
    std::size_t disarm() noexcept {
        const std::lock_guard lock{mutex_};
        return faults_.disarm();
    }
    [[nodiscard]] std::size_t failures() const noexcept {
        const std::lock_guard lock{mutex_};
        return faults_.failures();
    }

    // ---- what was done wrong ----

    [[nodiscard]] std::vector<violation> violations() const {
        const std::lock_guard lock{mutex_};
        return violations_;
    }
    [[nodiscard]] std::size_t violation_count(violation_kind kind) const {
        const std::lock_guard lock{mutex_};
        std::size_t count = 0;
        for (const violation& one : violations_)
            count += one.kind == kind ? 1u : 0u;
        return count;
    }
    /// Forgets the violations, and lets a machine go on that illegal access had stopped.
    void forgive() {
        const std::lock_guard lock{mutex_};
        violations_.clear();
        poisoned_ = false;
    }

    // ---- contexts of the engine that embeds the library (CUDA) ----

    [[nodiscard]] std::uint64_t make_context(int device = 0) {
        const std::lock_guard lock{mutex_};
        return contexts_.create(device);
    }
    void destroy_context(std::uint64_t number) {
        const std::lock_guard lock{mutex_};
        contexts_.destroy(number);
    }
    /// The context that is current in the calling thread; 0 where none is.
    [[nodiscard]] std::uint64_t current_context() const {
        const std::lock_guard lock{mutex_};
        return contexts_.current();
    }

  protected:
    /// What must be current in the calling thread.
    enum class needs : std::uint8_t { nothing, context_if_strict, context };

    explicit machine_core(api which, machine_options options)
        : api_{which}, options_{checked(std::move(options))}, contexts_{options_.devices} {}
    ~machine_core() = default;

    /// Carries a call out under the lock. `body` is given the lock, gives a code, and has no effect where it
    /// throws std::bad_alloc.
    template <class Body>
    int perform(call made, needs need, Body body) noexcept {
        if (is_forked())
            return code::not_initialized; // a driver does not survive a fork
        std::unique_lock lock{mutex_};
        try {
            log_.prepare();
            made.thread = std::this_thread::get_id();
            made.context_device = current_device();
            made.result = refusal(made, need);
            if (made.result == code::success)
                made.result = body(lock);
        } catch (const std::bad_alloc&) {
            made.result = code::out_of_memory;
        } catch (...) {
            made.result = code::unknown;
        }
        log_.add(made);
        if (api_ == api::hip && made.result != code::success && made.what != entry::get_last_error)
            last_error_ = made.result;
        return made.result;
    }

    /// True in a child of the process that made the machine.
    [[nodiscard]] bool is_forked() const noexcept { return ::getpid() != process_; }

    /// The device of the context that is current in this thread, -1 where none is.
    [[nodiscard]] int current_device() const noexcept {
        if (api_ == api::hip)
            return contexts_.device();
        const context_state* const current = contexts_.find(contexts_.current());
        return current == nullptr ? -1 : current->device;
    }
    /// The context that work without a stream goes to, 0 where none is current.
    [[nodiscard]] std::uint64_t acting_context() const noexcept {
        return api_ == api::hip ? contexts_.primary(contexts_.device()) : contexts_.current();
    }
    [[nodiscard]] bool is_device(int device) const noexcept {
        return device >= 0 && device < options_.devices;
    }

    void report(violation_kind kind, std::string text) { violations_.push_back({kind, std::move(text)}); }

    const api api_;
    const machine_options options_;
    mutable std::mutex mutex_;
    std::condition_variable changed_; ///< work was done, or may now be done
    context_set contexts_;
    bool initialised_ = false;
    int last_error_ = code::success; ///< HIP keeps it until it is asked for; the real one for each thread
    bool poisoned_ = false; ///< by illegal access: every call fails from then on, as on a real device

  private:
    static machine_options checked(machine_options options) {
        if (options.devices < 0 || options.minimum_granularity == 0)
            throw std::invalid_argument{"a simulated machine has a number of devices and a granularity"};
        if (options.default_alignment == 0)
            options.default_alignment = options.minimum_granularity;
        return options;
    }

    /// Why the call fails before it does anything, or success.
    [[nodiscard]] int refusal(const call& made, needs need) {
        const bool asks_nothing = made.what == entry::init || made.what == entry::version ||
                                  made.what == entry::get_error_text || made.what == entry::get_last_error;
        if (!initialised_ && !asks_nothing)
            return code::not_initialized;
        if (made.what != entry::get_error_text && made.what != entry::get_last_error) {
            if (const int native = faults_.failure_of(made); native != code::success)
                return native;
        }
        const bool stack = made.what == entry::ctx_push_current || made.what == entry::ctx_pop_current;
        if (poisoned_ && !asks_nothing && !stack)
            return code::illegal_address;
        const bool wanted = need == needs::context || (need == needs::context_if_strict &&
                                                       options_.contexts == context_rule::everywhere);
        if (api_ == api::cuda && wanted && current_device() < 0)
            return code::invalid_context;
        return code::success;
    }

    const pid_t process_ = ::getpid();
    call_log log_;
    fault_plan faults_;
    std::vector<violation> violations_;
};

/// "0x7f…00 (2097152 bytes)"
[[nodiscard]] inline std::string range_text(std::uintptr_t where, std::size_t size) {
    constexpr char digits[] = "0123456789abcdef";
    std::string hex;
    for (std::uintptr_t rest = where; rest != 0; rest /= 16)
        hex.insert(hex.begin(), digits[rest % 16]);
    return "0x" + hex + " (" + std::to_string(size) + " bytes)";
}

} // namespace vtensor::testing::simulated
