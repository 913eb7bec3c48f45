// SPDX-License-Identifier: Apache-2.0
//
// A backend with every refinement there is, which does nothing but write down what it was asked.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

/// A handle that is moved, not copied, as an owned file descriptor is.
struct fake_handle {
    std::unique_ptr<int> number;
};

/// A chunk handle with padding, so that its bytes cannot be hashed.
struct padded_chunk {
    int number = 0;
    char kind = 0;
    friend bool operator==(const padded_chunk&, const padded_chunk&) = default;
};
static_assert(!std::has_unique_object_representations_v<padded_chunk>);

class fake_device {
  public:
    using chunk_type = padded_chunk;
    struct stream_type {
        int number = 0;
    };
    struct event_type {
        int number = 0;
    };
    using os_handle_type = fake_handle;
    using device_type = int;

    [[nodiscard]] bytes granularity() const noexcept { return 64_KiB; }
    [[nodiscard]] bool can_alias() const noexcept { return false; }
    [[nodiscard]] bool host_visible() const noexcept { return false; }
    [[nodiscard]] bool can_export() const noexcept { return true; }
    [[nodiscard]] bool can_reach(int device) const noexcept { return device == 3; }

    result<address> reserve(bytes size, bytes align) noexcept {
        if (!note("reserve", size.count(), align.count()))
            return failure_;
        return address{std::uintptr_t{4096}};
    }
    status release(address where, bytes size) noexcept {
        return ended("release", where.value(), size.count());
    }
    result<padded_chunk> create(bytes size) noexcept {
        if (!note("create", size.count()))
            return failure_;
        return padded_chunk{++last_, 'c'};
    }
    status destroy(padded_chunk chunk) noexcept { return ended("destroy", number(chunk.number)); }
    status map(address where, padded_chunk chunk) noexcept {
        return ended("map", where.value(), number(chunk.number));
    }
    status set_access(address where, bytes size, access_mode allowed) noexcept {
        return ended("set_access", where.value(), size.count(), static_cast<std::size_t>(allowed));
    }
    status unmap(address where, bytes size) noexcept { return ended("unmap", where.value(), size.count()); }

    result<event_type> create_event() noexcept {
        if (!note("create_event"))
            return failure_;
        return event_type{5};
    }
    status destroy_event(event_type event) noexcept { return ended("destroy_event", number(event.number)); }
    status record(event_type event, stream_type stream) noexcept {
        return ended("record", number(event.number), number(stream.number));
    }
    result<bool> query(event_type event) noexcept {
        if (!note("query", number(event.number)))
            return failure_;
        return true;
    }
    status wait(event_type event) noexcept { return ended("wait", number(event.number)); }
    status wait(stream_type stream, event_type event) noexcept {
        return ended("wait", number(stream.number), number(event.number));
    }
    status copy(address to, address from, bytes size, stream_type stream) noexcept {
        return ended("copy", to.value(), from.value(), size.count(), number(stream.number));
    }
    status fill(address to, std::byte value, bytes size, stream_type stream) noexcept {
        return ended("fill", to.value(), static_cast<std::size_t>(value), size.count(),
                     number(stream.number));
    }

    result<fake_handle> export_chunk(padded_chunk chunk) noexcept {
        if (!note("export_chunk", number(chunk.number)))
            return failure_;
        return fake_handle{std::make_unique<int>(chunk.number)};
    }
    result<padded_chunk> import_chunk(fake_handle handle, bytes size) noexcept {
        if (!note("import_chunk", number(*handle.number), size.count()))
            return failure_;
        return padded_chunk{*handle.number + 100, 'i'};
    }
    status set_peer_access(address where, bytes size, access_mode allowed, int device) noexcept {
        return ended("set_peer_access", where.value(), size.count(), static_cast<std::size_t>(allowed),
                     number(device));
    }

    /// What was asked, one line a call: "map 4096 1".
    [[nodiscard]] const std::vector<std::string>& asked() const { return asked_; }
    /// Every call from now on ends with `failure`, after it was written down.
    void break_down(const error& failure) { failure_ = failure; }

  private:
    static std::size_t number(int value) noexcept { return static_cast<std::size_t>(value); }

    template <class... Numbers>
    bool note(const char* what, Numbers... numbers) noexcept {
        const std::lock_guard lock{mutex_};
        std::string line = what;
        (line.append(1, ' ').append(std::to_string(numbers)), ...);
        asked_.push_back(line);
        return failure_.code == errc::ok;
    }
    template <class... Numbers>
    status ended(const char* what, Numbers... numbers) noexcept {
        return note(what, numbers...) ? status{} : status{failure_};
    }

    std::mutex mutex_;
    std::vector<std::string> asked_;
    error failure_{};
    int last_ = 0;
};

static_assert(backend<fake_device> && aliasing_backend<fake_device> && host_visible_backend<fake_device> &&
              stream_ordered_backend<fake_device> && exportable_backend<fake_device> &&
              peer_access_backend<fake_device>);

} // namespace vtensor::testing
