// SPDX-License-Identifier: Apache-2.0
//
// Streams and events for a backend that has none: work is queued, and done when the test says so. It reports
// memory that is unmapped, or loses its access, while queued work still touches it.
#pragma once

#include <vtensor/adaptors/detail/forwarding.hpp>
#include <vtensor/core/concepts.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

struct model_stream {
    std::size_t number = 0;
    friend bool operator==(model_stream, model_stream) noexcept = default;
};

/// A stream that cannot be compared with another.
struct opaque_stream {
    std::size_t number = 0;
};

struct model_event {
    std::uint64_t number = 0;
};

/// `Upstream` with streams. Nothing runs by itself: `step` does the next thing of a stream, and so does
/// waiting on the host for what comes before an event, as the device would meanwhile. Thread-safe.
template <backend Upstream, class Stream = model_stream>
class stream_model : public adaptors::detail::forwarding<Upstream, stream_model<Upstream, Stream>> {
    using base = adaptors::detail::forwarding<Upstream, stream_model>;

  public:
    using stream_type = Stream;
    using event_type = model_event;

    explicit stream_model(Upstream& upstream) noexcept : base{upstream} {}

    // ---- what a test does ----

    [[nodiscard]] Stream make_stream() {
        const std::lock_guard lock{mutex_};
        streams_.emplace_back();
        return Stream{streams_.size() - 1};
    }
    /// Queues a kernel that touches the range, and does `body`, which calls nothing of this backend.
    void launch(Stream stream, address where, bytes size, std::function<void()> body = {}) {
        const std::lock_guard lock{mutex_};
        check_accessible(where, size, "a kernel is launched on");
        streams_[stream.number].push_back({kind::work, {{where, size}}, std::move(body), {}});
    }
    /// Does the next thing queued on the stream. False where there is none, or where it waits for an event.
    bool step(Stream stream) {
        const std::lock_guard lock{mutex_};
        return step(streams_[stream.number]);
    }
    /// Does all that can be done on the stream.
    void run(Stream stream) {
        const std::lock_guard lock{mutex_};
        while (step(streams_[stream.number])) {
        }
    }
    void run_all() {
        const std::lock_guard lock{mutex_};
        for (bool moved = true; moved;) {
            moved = false;
            for (queue& one : streams_)
                moved = step(one) || moved;
        }
    }

    [[nodiscard]] std::size_t queued() const {
        const std::lock_guard lock{mutex_};
        std::size_t count = 0;
        for (const queue& one : streams_)
            count += one.size();
        return count;
    }
    [[nodiscard]] std::size_t events() const {
        const std::lock_guard lock{mutex_};
        return events_.size();
    }
    /// From now on waiting on the host begins when so many threads do it at once.
    void gather_waiters(std::size_t count) {
        const std::lock_guard lock{mutex_};
        gathered_ = 0;
        gather_ = count;
    }
    /// How often the host waited for an event that had not happened.
    [[nodiscard]] std::size_t host_waits() const {
        const std::lock_guard lock{mutex_};
        return host_waits_;
    }
    /// What was done to memory under work that touches it, one sentence each.
    [[nodiscard]] std::vector<std::string> violations() const {
        const std::lock_guard lock{mutex_};
        return violations_;
    }

    // ---- the contract ----

    [[nodiscard]] result<model_event> create_event() noexcept {
        const std::lock_guard lock{mutex_};
        events_[++last_event_] = {};
        return model_event{last_event_};
    }
    [[nodiscard]] status destroy_event(model_event event) noexcept {
        const std::lock_guard lock{mutex_};
        return events_.erase(event.number) == 1 ? status{} : unknown(verb::destroy_event);
    }
    [[nodiscard]] status record(model_event event, Stream stream) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = events_.find(event.number);
        if (found == events_.end() || stream.number >= streams_.size())
            return unknown(verb::record);
        const moment recorded{event.number, ++found->second.recorded};
        found->second.pending.insert(recorded.recording);
        streams_[stream.number].push_back({kind::record, {}, {}, recorded});
        return {};
    }
    /// True for an event that was never recorded.
    [[nodiscard]] result<bool> query(model_event event) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = events_.find(event.number);
        if (found == events_.end())
            return unknown(verb::query);
        return found->second.has_happened();
    }
    [[nodiscard]] status wait(model_event event) noexcept {
        std::unique_lock lock{mutex_};
        ++gathered_;
        all_there_.notify_all();
        all_there_.wait(lock, [this] { return gathered_ >= gather_; });
        const auto found = events_.find(event.number);
        if (found == events_.end())
            return unknown(verb::wait);
        if (!found->second.has_happened())
            ++host_waits_;
        run_until({event.number, found->second.recorded});
        return {};
    }
    [[nodiscard]] status wait(Stream stream, model_event event) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = events_.find(event.number);
        if (found == events_.end() || stream.number >= streams_.size())
            return unknown(verb::wait);
        streams_[stream.number].push_back({kind::wait, {}, {}, {event.number, found->second.recorded}});
        return {};
    }
    /// The bytes are moved where the CPU reaches them.
    [[nodiscard]] status copy(address to, address from, bytes size, Stream stream) noexcept {
        return queue_bytes(verb::copy, {{to, size}, {from, size}}, stream,
                           [=] { std::memcpy(to.to_pointer(), from.to_pointer(), size.count()); });
    }
    [[nodiscard]] status fill(address to, std::byte value, bytes size, Stream stream) noexcept {
        return queue_bytes(verb::fill, {{to, size}}, stream,
                           [=] { std::memset(to.to_pointer(), static_cast<int>(value), size.count()); });
    }

    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        const std::lock_guard lock{mutex_};
        const status outcome = base::set_access(where, size, allowed);
        if (outcome && allowed == access_mode::none)
            note_loss(where, size, "access is taken away from");
        if (outcome && allowed != access_mode::none) {
            for (bytes offset{0}; offset < size; offset += this->granularity())
                accessible_.insert(where + offset);
        }
        return outcome;
    }
    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        const std::size_t before = violations_.size();
        note_loss(where, size, "something is unmapped from");
        if (violations_.size() > before)
            return {}; // it stays, so that the work queued on it does not end the test
        const status outcome = base::unmap(where, size);
        if (!outcome) {
            for (const address page : lost_)
                accessible_.insert(page);
        }
        return outcome;
    }

  private:
    friend class adaptors::detail::around_access;

    enum class kind { work, record, wait };
    struct range {
        address where;
        bytes size;
    };
    /// One recording of an event.
    struct moment {
        std::uint64_t event = 0;
        std::uint64_t recording = 0;
    };
    struct item {
        kind what;
        std::vector<range> touched;
        std::function<void()> body;
        moment when;
    };
    using queue = std::deque<item>;
    /// Recordings on different streams happen in any order: who waits for an earlier one is not let go by a
    /// later one.
    struct event_state {
        std::uint64_t recorded = 0;
        std::set<std::uint64_t> pending;

        [[nodiscard]] bool has_happened() const { return !pending.contains(recorded); }
    };

    template <class Next>
    auto around(const adaptors::call&, Next& next) noexcept {
        return next();
    }

    static error unknown(verb where) noexcept { return error{errc::invalid_argument, where, 0, bytes{0}}; }

    status queue_bytes(verb what, std::vector<range> touched, Stream stream, std::function<void()> body) {
        const std::lock_guard lock{mutex_};
        if (stream.number >= streams_.size())
            return unknown(what);
        for (const range& one : touched)
            check_accessible(one.where, one.size, "a copy or fill is queued on");
        if constexpr (!host_visible_backend<Upstream>)
            body = {};
        streams_[stream.number].push_back({kind::work, std::move(touched), std::move(body), {}});
        return {};
    }

    [[nodiscard]] bool has_happened(moment when) const {
        const auto found = events_.find(when.event);
        return found == events_.end() || !found->second.pending.contains(when.recording);
    }
    bool step(queue& from) {
        if (from.empty())
            return false;
        item& next = from.front();
        if (next.what == kind::wait && !has_happened(next.when))
            return false;
        if (next.what == kind::record) {
            const auto found = events_.find(next.when.event);
            if (found != events_.end())
                found->second.pending.erase(next.when.recording);
        }
        if (next.body)
            next.body();
        from.pop_front();
        return true;
    }
    /// Does what comes before the recording, on its stream and on those it waits for.
    void run_until(moment when) {
        while (!has_happened(when)) {
            for (queue& one : streams_) {
                if (!records(one, when))
                    continue;
                if (one.front().what == kind::wait)
                    run_until(one.front().when);
                step(one);
            }
        }
    }
    static bool records(const queue& one, moment when) {
        for (const item& queued : one) {
            if (queued.what == kind::record && queued.when.event == when.event &&
                queued.when.recording == when.recording)
                return true;
        }
        return false;
    }

    void check_accessible(address where, bytes size, const char* what) {
        const std::size_t unit = this->granularity().count();
        for (std::uintptr_t page = where.value() / unit * unit; page < where.value() + size.count();
             page += unit) {
            if (!accessible_.contains(address{page})) {
                violations_.push_back(std::string{what} + " memory that is not accessible");
                return;
            }
        }
    }
    /// Reports it where queued work touches the range; otherwise the range is not accessible any more.
    void note_loss(address where, bytes size, const char* what) {
        for (const queue& one : streams_) {
            for (const item& queued : one) {
                for (const range& touched : queued.touched) {
                    if (touched.where < where + size && where < touched.where + touched.size) {
                        violations_.push_back(std::string{what} + " memory that queued work touches");
                        return;
                    }
                }
            }
        }
        lost_.clear();
        const auto end = accessible_.lower_bound(where + size);
        for (auto page = accessible_.lower_bound(where); page != end; page = accessible_.erase(page))
            lost_.push_back(*page);
    }

    mutable std::mutex mutex_;
    std::vector<queue> streams_;
    std::map<std::uint64_t, event_state> events_;
    std::set<address> accessible_;
    std::vector<address> lost_; ///< by the last loss
    std::vector<std::string> violations_;
    std::uint64_t last_event_ = 0;
    std::size_t host_waits_ = 0;
    std::condition_variable all_there_;
    std::size_t gathered_ = 0;
    std::size_t gather_ = 0;
};

} // namespace vtensor::testing
