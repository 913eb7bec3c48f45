// SPDX-License-Identifier: Apache-2.0
#include <conformance/fixtures.hpp>

#include <tuple>

namespace vtensor::conformance {
using conformance_fixtures = std::tuple<reference_fixture>;
}

#include <conformance/conformance.hpp>
