// SPDX-License-Identifier: Apache-2.0
//
// The policies under test, each with every storage type: what one of them must do, all must.
#pragma once

#include <vtensor/attention/host.hpp>
#include <vtensor/attention/reference.hpp>

#include <tuple>

namespace vtensor::testing {

/// A policy, what the cache is stored as, and what the queries are.
template <class Policy, class Stored, class Asking = float>
struct attention_kind {
    using policy = Policy;
    using stored = Stored;
    using query = Asking;
};

/// For TEMPLATE_LIST_TEST_CASE.
using all_kinds =
    std::tuple<attention_kind<attention::reference, float>, attention_kind<attention::reference, float16>,
               attention_kind<attention::reference, bfloat16>,
               attention_kind<attention::reference, float, float16>, attention_kind<attention::host, float>,
               attention_kind<attention::host, float16>, attention_kind<attention::host, bfloat16>,
               attention_kind<attention::host, float16, float16>,
               attention_kind<attention::host, bfloat16, bfloat16>>;

} // namespace vtensor::testing
