// SPDX-License-Identifier: Apache-2.0
// Simulated streams leave the contract of the backend below them as it is.
#include <conformance/fixtures.hpp>
#include <support/stream_model.hpp>

#include <tuple>

namespace vtensor::conformance {

struct streaming_host_fixture : private host_fixture<4096> {
    using backend_type = testing::stream_model<host_backend>;
    using host_fixture<4096>::write;
    using host_fixture<4096>::read;
    using host_fixture<4096>::faults;
    using host_fixture<4096>::physical_bytes;

    [[nodiscard]] backend_type& backend() noexcept { return device; }

    backend_type device{this->host};
};

using conformance_fixtures = std::tuple<streaming_host_fixture>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>
