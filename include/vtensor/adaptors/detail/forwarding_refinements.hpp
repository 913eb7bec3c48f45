// SPDX-License-Identifier: Apache-2.0
//
// The verbs of the backend refinements, forwarded: an adaptor inherits from each of these, and each is empty
// where the upstream has no such refinement. Part of forwarding.hpp.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <mutex>
#include <utility>

namespace vtensor::adaptors::detail {

template <backend Upstream, class Adaptor>
class forwarding;

/// Lets the forwarding bases call an adaptor's private `around`.
class around_access {
  public:
    template <class Adaptor, class Next>
    static auto around(Adaptor& adaptor, const call& seen, Next& next) noexcept {
        return adaptor.around(seen, next);
    }
};

template <class Upstream, class Adaptor>
class stream_verbs {};

template <stream_ordered_backend Upstream, class Adaptor>
class stream_verbs<Upstream, Adaptor> {
  public:
    using stream_type = typename Upstream::stream_type;
    using event_type = typename Upstream::event_type;

    [[nodiscard]] result<event_type> create_event() noexcept {
        return through({verb::create_event, {}, {}}, [&] { return upstream().create_event(); });
    }
    [[nodiscard]] status destroy_event(event_type event) noexcept {
        return through({verb::destroy_event, {}, {}}, [&] { return upstream().destroy_event(event); });
    }
    [[nodiscard]] status record(event_type event, stream_type stream) noexcept {
        return through({verb::record, {}, {}}, [&] { return upstream().record(event, stream); });
    }
    [[nodiscard]] result<bool> query(event_type event) noexcept {
        return through({verb::query, {}, {}}, [&] { return upstream().query(event); });
    }
    [[nodiscard]] status wait(event_type event) noexcept {
        return through({verb::wait, {}, {}}, [&] { return upstream().wait(event); });
    }
    [[nodiscard]] status wait(stream_type stream, event_type event) noexcept {
        return through({verb::wait, {}, {}}, [&] { return upstream().wait(stream, event); });
    }
    [[nodiscard]] status copy(address to, address from, bytes size, stream_type stream) noexcept {
        return through({verb::copy, to, size}, [&] { return upstream().copy(to, from, size, stream); });
    }
    [[nodiscard]] status fill(address to, std::byte value, bytes size, stream_type stream) noexcept {
        return through({verb::fill, to, size}, [&] { return upstream().fill(to, value, size, stream); });
    }

  private:
    [[nodiscard]] Adaptor& self() noexcept { return static_cast<Adaptor&>(*this); }
    [[nodiscard]] Upstream& upstream() noexcept { return self().upstream(); }
    template <class Next>
    auto through(const call& seen, Next next) noexcept {
        return around_access::around(self(), seen, next);
    }
};

template <class Upstream, class Adaptor>
class export_verbs {};

template <exportable_backend Upstream, class Adaptor>
class export_verbs<Upstream, Adaptor> {
  public:
    using os_handle_type = typename Upstream::os_handle_type;

    [[nodiscard]] bool can_export() const noexcept {
        return static_cast<const Adaptor&>(*this).upstream().can_export();
    }
    [[nodiscard]] result<os_handle_type> export_chunk(typename Upstream::chunk_type chunk) noexcept {
        return self().through(self().with_chunk(verb::export_chunk, {}, chunk),
                              [&] { return self().upstream().export_chunk(chunk); });
    }
    [[nodiscard]] result<typename Upstream::chunk_type> import_chunk(os_handle_type handle,
                                                                     bytes size) noexcept {
        call seen{verb::import_chunk, {}, size};
        return self().through(seen, [&] {
            const std::lock_guard lock{self().mutex_};
            return self().remember(self().upstream().import_chunk(std::move(handle), size), seen);
        });
    }

  private:
    /// The base that knows the sizes of chunks. Its members are private to it; it is a friend.
    [[nodiscard]] auto& self() noexcept { return as_forwarding(static_cast<Adaptor&>(*this)); }
    static forwarding<Upstream, Adaptor>& as_forwarding(forwarding<Upstream, Adaptor>& base) noexcept {
        return base;
    }
};

template <class Upstream, class Adaptor>
class peer_verbs {};

template <peer_access_backend Upstream, class Adaptor>
class peer_verbs<Upstream, Adaptor> {
  public:
    using device_type = typename Upstream::device_type;

    [[nodiscard]] bool can_reach(device_type device) const noexcept {
        return static_cast<const Adaptor&>(*this).upstream().can_reach(device);
    }
    [[nodiscard]] status set_peer_access(address where, bytes size, access_mode allowed,
                                         device_type device) noexcept {
        const auto next = [&] {
            return static_cast<Adaptor&>(*this).upstream().set_peer_access(where, size, allowed, device);
        };
        return around_access::around(static_cast<Adaptor&>(*this),
                                     {verb::set_peer_access, where, size, 0, allowed}, next);
    }
};

} // namespace vtensor::adaptors::detail
