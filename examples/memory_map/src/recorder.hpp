// SPDX-License-Identifier: Apache-2.0
//
// A sink for the `tracing` adaptor that keeps every call, and between the calls what the program has to say
// about them. It draws nothing.
#pragma once

#include <vtensor/adaptors/trace_sink.hpp>

#include <cstddef>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

namespace memory_map {

/// A moment of the story that begins here.
struct mark {
    std::string title; ///< what happens, in one sentence
    std::string text;  ///< what to look at
};

/// What the reservation around an address is called from now on.
struct label {
    vtensor::address where;
    std::string name;
};

/// How many rows of each page, from the first one on, hold a token that is still needed.
struct live_rows {
    vtensor::address where;
    std::size_t rows_per_page = 0;
    std::vector<std::size_t> live;
};

using entry = std::variant<vtensor::adaptors::trace_event, mark, label, live_rows>;

/// Keeps entries in the order in which they come. Thread-safe; calls of several threads lie in the order in
/// which they ended, which need not be the one in which the backend carried them out.
class recorder {
  public:
    /// Called by the adaptor.
    void record(const vtensor::adaptors::trace_event& event) noexcept;

    /// The three below throw `std::bad_alloc`.
    void say(std::string title, std::string text);
    void name(vtensor::address where, std::string what);
    void rows(live_rows state);

    [[nodiscard]] std::vector<entry> entries() const;
    /// Calls for which there was no memory. What was recorded then makes no whole picture.
    [[nodiscard]] std::size_t dropped() const noexcept;

  private:
    mutable std::mutex mutex_;
    std::vector<entry> entries_;
    std::size_t dropped_ = 0;
};
static_assert(vtensor::adaptors::trace_sink<recorder>);

} // namespace memory_map
