// SPDX-License-Identifier: Apache-2.0
//
// The names of tokens and of the spaces that keep them apart. Plain values.
#pragma once

#include <cstdint>

namespace vtensor::kv {

/// One entry of a vocabulary. Any value is allowed: the library compares tokens and never looks them up.
using token_id = std::int32_t;

/// What must be equal, beside the tokens, for two prefixes to be the same: a tenant, an adapter's weights, a
/// picture that the tokens stand for. Any number of the caller's choosing; 0 where he does not care.
enum class salt_id : std::uint64_t {};

} // namespace vtensor::kv
