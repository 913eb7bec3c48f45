// SPDX-License-Identifier: Apache-2.0
//
// Tells a sink of every call that passes through to a backend: what, where, how much, which chunk, how it
// ended, when, how long, and on which thread. It changes no outcome.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/adaptors/trace_sink.hpp>
#include <vtensor/core/concepts.hpp>

#include <chrono>
#include <thread>

namespace vtensor::adaptors {

/// A backend that traces and forwards. `upstream` and `sink` must outlive it. Thread-safe.
template <backend Upstream, trace_sink Sink>
class tracing : public detail::forwarding<Upstream, tracing<Upstream, Sink>> {
  public:
    tracing(Upstream& upstream, Sink& sink) noexcept
        : detail::forwarding<Upstream, tracing>{upstream}, sink_{&sink} {}

    [[nodiscard]] Sink& sink() const noexcept { return *sink_; }

  private:
    friend class detail::around_access;

    template <class Next>
    auto around(const call& seen, Next& next) noexcept {
        const auto start = std::chrono::steady_clock::now();
        auto outcome = next();
        const auto end = std::chrono::steady_clock::now();
        sink_->record(trace_event{seen.what, seen.where, seen.size, seen.chunk, seen.allowed, outcome.code(),
                                  start, end - start, std::this_thread::get_id()});
        return outcome;
    }

    Sink* sink_;
};

} // namespace vtensor::adaptors
