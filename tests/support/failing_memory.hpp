// SPDX-License-Identifier: Apache-2.0
//
// Memory whose calls can be made to fail, as such and behind streams, so that one fault loop serves both.
#pragma once

#include <support/catch.hpp>
#include <support/stream_model.hpp>

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>

#include <string>

namespace vtensor::testing {

/// Host memory, used as such.
struct on_host {
    using backend_type = adaptors::failing<host_backend>;

    host_backend host;
    backend_type backend{host};

    /// With the stream, where there is one.
    template <class Operation>
    auto behind(Operation operation) {
        return operation();
    }
    void finish() {}
    void check_sound() {}
};

/// Host memory behind streams: copies are queued, pages retire.
struct on_stream {
    using device_type = stream_model<host_backend>;
    using backend_type = adaptors::failing<device_type>;

    host_backend host;
    device_type device{host};
    backend_type backend{device};
    model_stream stream = device.make_stream();

    template <class Operation>
    auto behind(Operation operation) {
        return operation(stream);
    }
    void finish() { device.run_all(); }
    void check_sound() {
        for (const std::string& violation : device.violations())
            FAIL_CHECK(violation);
    }
};

} // namespace vtensor::testing
