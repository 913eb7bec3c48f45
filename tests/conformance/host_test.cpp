// SPDX-License-Identifier: Apache-2.0
#include <conformance/fixtures.hpp>

#include <tuple>

namespace vtensor::conformance {
using conformance_fixtures = std::tuple<host_fixture<4096>, host_fixture<2 * 1024 * 1024>,
                                        host_fixture<4096, true>, host_fixture<2 * 1024 * 1024, true>>;
}

#include <conformance/conformance.hpp>
