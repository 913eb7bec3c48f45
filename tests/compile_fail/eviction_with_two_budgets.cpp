// SPDX-License-Identifier: Apache-2.0
// A policy has one budget; which of two would count?
// expect: static.assert
// expect: one budget a policy
#include <vtensor/policy/eviction/methods.hpp>

using namespace vtensor::eviction;

#ifdef RIGHT
using policy = with<snapkv<>, budget::layer_flat>; // exchanges the budget that snapkv has
#else
using policy = compose<indicator::key_norm, budget::layer_flat, budget::uniform<100>>;
#endif

std::size_t size = sizeof(policy);
