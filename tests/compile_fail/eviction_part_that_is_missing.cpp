// SPDX-License-Identifier: Apache-2.0
// Only parts that a policy has can be set.
// expect: static.assert
// expect: the policy has no such part
#include <vtensor/policy/eviction/methods.hpp>

using namespace vtensor::eviction;

void set(snapkv<>& policy) {
#ifdef RIGHT
    policy.get<guard::recent<32>>().tokens = 8;
#else
    policy.get<guard::sinks<4>>().tokens = 8;
#endif
}
