// SPDX-License-Identifier: Apache-2.0
//
// The smallest types that satisfy each backend concept. Malformed ones are made from them by getting exactly
// one thing wrong.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <memory>

namespace vtensor::testing {

struct minimal_backend {
    using chunk_type = int;

    bytes granularity() const noexcept { return bytes{1}; }
    result<address> reserve(bytes, bytes) noexcept { return address{}; }
    status release(address, bytes) noexcept { return {}; }
    result<int> create(bytes) noexcept { return 0; }
    status destroy(int) noexcept { return {}; }
    status map(address, int) noexcept { return {}; }
    status set_access(address, bytes, access_mode) noexcept { return {}; }
    status unmap(address, bytes) noexcept { return {}; }
};

struct minimal_aliasing : minimal_backend {
    bool can_alias() const noexcept { return true; }
};

struct minimal_host_visible : minimal_backend {
    bool host_visible() const noexcept { return true; }
};

struct minimal_streams : minimal_backend {
    struct stream_type {};
    struct event_type {};

    result<event_type> create_event() noexcept { return event_type{}; }
    status destroy_event(event_type) noexcept { return {}; }
    status record(event_type, stream_type) noexcept { return {}; }
    result<bool> query(event_type) noexcept { return true; }
    status wait(event_type) noexcept { return {}; }
    status wait(stream_type, event_type) noexcept { return {}; }
    status copy(address, address, bytes, stream_type) noexcept { return {}; }
    status fill(address, std::byte, bytes, stream_type) noexcept { return {}; }
};

struct minimal_export : minimal_backend {
    using os_handle_type = std::unique_ptr<int>; // movable is enough

    bool can_export() const noexcept { return true; }
    result<os_handle_type> export_chunk(int) noexcept { return os_handle_type{}; }
    result<int> import_chunk(os_handle_type, bytes) noexcept { return 0; }
};

struct minimal_peers : minimal_backend {
    using device_type = int;

    bool can_reach(int) const noexcept { return true; }
    status set_peer_access(address, bytes, access_mode, int) noexcept { return {}; }
};

} // namespace vtensor::testing
