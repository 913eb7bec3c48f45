// SPDX-License-Identifier: Apache-2.0
//
// Streams and events of a device backend: the caller's own streams, work queued on them, marks behind it. It
// keeps no book and takes no lock: the driver is safe to call from any thread, and a thread that waits for an
// event keeps nobody from mapping.
//
// Asks of `Api`: `create_event`, `destroy_event`, `record`, `query`, `synchronize`, `wait`, `copy`, `fill`.
#pragma once

#include <vtensor/backends/detail/device_vmm.hpp>

#include <cstddef>
#include <utility>

namespace vtensor::detail {

/// A null stream is the legacy default stream of the backend's context. Events measure no time.
template <class Api>
class device_streams : public device_vmm<Api> {
  public:
    using stream_type = typename Api::stream_type;
    using event_type = typename Api::event_type;

    [[nodiscard]] result<event_type> create_event() noexcept {
        event_type made{};
        const status outcome =
            call(verb::create_event, bytes{0}, [&](Api& api) { return api.create_event(made); });
        if (!outcome)
            return outcome;
        return made;
    }
    [[nodiscard]] status destroy_event(event_type event) noexcept {
        return on_event(verb::destroy_event, event, [&](Api& api) { return api.destroy_event(event); });
    }
    /// The event happens when the work queued on the stream so far is done.
    [[nodiscard]] status record(event_type event, stream_type stream) noexcept {
        return on_event(verb::record, event, [&](Api& api) { return api.record(event, stream); });
    }
    /// True where it has happened or was never recorded.
    [[nodiscard]] result<bool> query(event_type event) noexcept {
        bool happened = false;
        const status outcome =
            on_event(verb::query, event, [&](Api& api) { return api.query(event, happened); });
        if (!outcome)
            return outcome;
        return happened;
    }
    [[nodiscard]] status wait(event_type event) noexcept {
        return on_event(verb::wait, event, [&](Api& api) { return api.synchronize(event); });
    }
    [[nodiscard]] status wait(stream_type stream, event_type event) noexcept {
        return on_event(verb::wait, event, [&](Api& api) { return api.wait(stream, event); });
    }

    /// Between accessible ranges of the device; either may also be the host's memory. Refused with
    /// `invalid_argument` where they overlap; nothing to do for no bytes.
    [[nodiscard]] status copy(address to, address from, bytes size, stream_type stream) noexcept {
        if (size == bytes{0})
            return {};
        const bytes distance = to > from ? to - from : from - to;
        if (distance < size)
            return this->refuse(errc::invalid_argument, verb::copy, size);
        return call(verb::copy, size, [&](Api& api) { return api.copy(to, from, size, stream); });
    }
    [[nodiscard]] status fill(address to, std::byte value, bytes size, stream_type stream) noexcept {
        if (size == bytes{0})
            return {};
        return call(verb::fill, size, [&](Api& api) { return api.fill(to, value, size, stream); });
    }

  protected:
    explicit device_streams(opened_device<Api>&& opened) : device_vmm<Api>{std::move(opened)} {}
    ~device_streams() = default;

  private:
    /// Runs `work(api)`, which returns 0 or a code, with the device current.
    template <class Work>
    status call(verb what, bytes size, Work work) noexcept {
        if (!this->process_.is_this())
            return this->refuse(errc::no_device, what, size);
        Api& api = this->native_.api();
        const typename Api::current scope{api, true};
        int native = scope.failed();
        if (native == 0)
            native = work(api);
        return native == 0 ? status{} : status{this->failed(native, what, size)};
    }
    template <class Work>
    status on_event(verb what, event_type event, Work work) noexcept {
        if (event == event_type{})
            return this->refuse(errc::invalid_argument, what, bytes{0});
        return call(what, bytes{0}, work);
    }
};

} // namespace vtensor::detail
