// SPDX-License-Identifier: Apache-2.0
//
// Writes traced calls to a file that chrome://tracing and ui.perfetto.dev open: the JSON array of the Trace
// Event Format, one event a line. It reads nothing back and never prints elsewhere.
#pragma once

#include <vtensor/adaptors/trace_sink.hpp>
#include <vtensor/core/error.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace vtensor::adaptors {

/// Owns the file. Each event reaches the operating system as a whole line at once, so that after a crash
/// everything but the closing bracket is there, which the format allows to be missing; once closed the file
/// is valid JSON. Thread-safe.
class chrome_trace_sink {
  public:
    /// Replaces the file at `path`. Throws `backend_failure` with the system's number where it cannot.
    explicit chrome_trace_sink(const std::string& path) : file_{std::fopen(path.c_str(), "w")} {
        if (file_ == nullptr)
            throw_error(error{errc::native_failure, verb::construct, errno, bytes{0}});
        std::setvbuf(file_, nullptr, _IOLBF, 4096);
        note(std::fputs("[\n", file_));
    }
    chrome_trace_sink(const chrome_trace_sink&) = delete;
    chrome_trace_sink& operator=(const chrome_trace_sink&) = delete;
    ~chrome_trace_sink() { static_cast<void>(close()); }

    /// Does nothing once the sink is closed or a write has failed.
    void record(const trace_event& event) noexcept {
        const std::lock_guard lock{mutex_};
        if (file_ == nullptr || failure_ != 0)
            return;
        const std::string_view what = name(event.what);
        const std::string_view outcome = name(event.outcome);
        const long long start = nanoseconds(event.start - origin_);
        const long long duration = nanoseconds(event.duration);
        // Microseconds, put together from integers: the decimal point of printf depends on the locale.
        note(std::fprintf(
            file_,
            "{\"name\":\"%.*s\",\"cat\":\"vtensor\",\"ph\":\"X\",\"pid\":1,\"tid\":%zu,"
            "\"ts\":%lld.%03lld,\"dur\":%lld.%03lld,"
            "\"args\":{\"address\":\"0x%zx\",\"bytes\":%zu,\"chunk\":%llu,\"outcome\":\"%.*s\"}},\n",
            static_cast<int>(what.size()), what.data(), number_of(event.thread), start / 1000, start % 1000,
            duration / 1000, duration % 1000, static_cast<std::size_t>(event.where.value()),
            event.size.count(), static_cast<unsigned long long>(event.chunk),
            static_cast<int>(outcome.size()), outcome.data()));
    }

    /// Completes the file. `native_failure` where any write failed, this one or an earlier one.
    [[nodiscard]] status close() noexcept {
        const std::lock_guard lock{mutex_};
        if (file_ != nullptr) {
            // Every event ends in a comma; this one, the last, does not.
            note(std::fputs("{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,"
                            "\"args\":{\"name\":\"vtensor\"}}\n]\n",
                            file_));
            note(std::fclose(file_) == 0 ? 0 : -1);
            file_ = nullptr;
        }
        if (failure_ != 0)
            return error{errc::native_failure, verb::none, failure_, bytes{0}};
        return {};
    }

  private:
    static long long nanoseconds(std::chrono::steady_clock::duration span) noexcept {
        const long long count = std::chrono::duration_cast<std::chrono::nanoseconds>(span).count();
        return count > 0 ? count : 0;
    }

    /// Threads are numbered from 1 in the order in which they appear; 0 is any for which there is no memory.
    std::size_t number_of(std::thread::id thread) noexcept {
        for (std::size_t index = 0; index < threads_.size(); ++index) {
            if (threads_[index] == thread)
                return index + 1;
        }
        try {
            threads_.push_back(thread);
        } catch (const std::bad_alloc&) {
            return 0;
        }
        return threads_.size();
    }

    /// Keeps the first failure of a write.
    void note(int written) noexcept {
        if (written < 0 && failure_ == 0)
            failure_ = errno != 0 ? errno : EIO;
    }

    std::mutex mutex_;
    std::FILE* file_;
    const std::chrono::steady_clock::time_point origin_ = std::chrono::steady_clock::now();
    std::vector<std::thread::id> threads_;
    int failure_ = 0;
};
static_assert(trace_sink<chrome_trace_sink>);

} // namespace vtensor::adaptors
