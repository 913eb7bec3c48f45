// SPDX-License-Identifier: Apache-2.0
//
// Fault injection: chosen calls fail before they reach the backend, so that a test can see what the caller
// does then. It never fails a query, and never undoes or repeats a call.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>

namespace vtensor::adaptors {

/// A backend whose calls fail when it is told so. `upstream` must outlive it. Thread-safe. Calls are counted
/// from 1, anew each time it is armed or disarmed.
template <backend Upstream>
class failing : public detail::forwarding<Upstream, failing<Upstream>> {
  public:
    using predicate = std::function<bool(const call&)>;

    explicit failing(Upstream& upstream) noexcept : detail::forwarding<Upstream, failing>{upstream} {}

    /// The `k`-th call of the chosen verbs fails with `code`, the others do not.
    void fail_call(std::size_t k, errc code = errc::out_of_memory, verb_set chosen = verb_set::all()) {
        fail_calls(k, 1, code, chosen);
    }
    /// `count` calls fail, the `k`-th of the chosen verbs and those after it.
    void fail_calls(std::size_t k, std::size_t count, errc code = errc::out_of_memory,
                    verb_set chosen = verb_set::all()) {
        arm(rule{k, count, code, chosen, {}});
    }
    /// The `k`-th call of the chosen verbs fails, and every one after it.
    void fail_from(std::size_t k, errc code = errc::out_of_memory, verb_set chosen = verb_set::all()) {
        fail_calls(k, std::numeric_limits<std::size_t>::max(), code, chosen);
    }
    /// Calls fail for which `chosen(call)` is true. It is asked one call at a time, must not throw, and must
    /// not call this backend.
    void fail_if(predicate chosen, errc code = errc::out_of_memory) {
        arm(rule{1, std::numeric_limits<std::size_t>::max(), code, verb_set::all(), std::move(chosen)});
    }
    /// No call fails any more.
    void disarm() noexcept { arm(rule{}); }

    /// Calls of the chosen verbs since it was last armed or disarmed, those that failed included.
    [[nodiscard]] std::size_t calls() const noexcept {
        const std::lock_guard lock{mutex_};
        return calls_;
    }
    /// Of them, the ones that were made to fail.
    [[nodiscard]] std::size_t failures() const noexcept {
        const std::lock_guard lock{mutex_};
        return failures_;
    }

  private:
    friend class detail::around_access;

    struct rule {
        std::size_t first = 0; ///< 0: none fails
        std::size_t count = 0;
        errc code = errc::ok;
        verb_set chosen = verb_set::all();
        predicate condition{};
    };

    void arm(rule next) noexcept {
        const std::lock_guard lock{mutex_};
        rule_ = std::move(next);
        calls_ = 0;
        failures_ = 0;
    }

    /// The code this call is to fail with, or ok.
    [[nodiscard]] errc verdict(const call& seen) noexcept {
        const std::lock_guard lock{mutex_};
        if (!rule_.chosen.contains(seen.what))
            return errc::ok;
        ++calls_;
        const bool inside = rule_.first != 0 && calls_ >= rule_.first && calls_ - rule_.first < rule_.count;
        if (!inside || (rule_.condition && !rule_.condition(seen)))
            return errc::ok;
        ++failures_;
        return rule_.code;
    }

    template <class Next>
    auto around(const call& seen, Next& next) noexcept -> decltype(next()) {
        if (const errc code = verdict(seen); code != errc::ok)
            return error{code, seen.what, 0, seen.size};
        return next();
    }

    mutable std::mutex mutex_;
    rule rule_;
    std::size_t calls_ = 0;
    std::size_t failures_ = 0;
};

/// Failing over failing wraps it; without this it would be taken for a copy.
template <backend Upstream>
failing(failing<Upstream>&) -> failing<failing<Upstream>>;

} // namespace vtensor::adaptors
