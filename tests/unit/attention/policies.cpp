// SPDX-License-Identifier: Apache-2.0
#include "policies.hpp"

#include <vtensor/attention/host.hpp>
#include <vtensor/attention/reference.hpp>

namespace vtensor::testing {

template <class Policy, class Stored, class Asking>
status attend(const attention::problem<Stored, Asking>& asked, const any_executor& run) {
    using policy =
        std::conditional_t<std::is_same_v<Policy, host_policy>, attention::host, attention::reference>;
    return policy{}(asked, run);
}

template status attend<reference_policy>(const attention::problem<float>&, const any_executor&);
template status attend<reference_policy>(const attention::problem<float16>&, const any_executor&);
template status attend<reference_policy>(const attention::problem<bfloat16>&, const any_executor&);
template status attend<reference_policy>(const attention::problem<float, float16>&, const any_executor&);
template status attend<host_policy>(const attention::problem<float>&, const any_executor&);
template status attend<host_policy>(const attention::problem<float16>&, const any_executor&);
template status attend<host_policy>(const attention::problem<bfloat16>&, const any_executor&);
template status attend<host_policy>(const attention::problem<float16, float16>&, const any_executor&);
template status attend<host_policy>(const attention::problem<bfloat16, bfloat16>&, const any_executor&);

} // namespace vtensor::testing
