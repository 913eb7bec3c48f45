// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite: every row of the contract in docs/concepts.md as a test case, for every fixture in a
// list. Declare the list before including this:
//
//     namespace vtensor::conformance {
//     using conformance_fixtures = std::tuple<my_fixture>;
//     }
//     #include <conformance/conformance.hpp>
#pragma once

#include <conformance/behaviour.hpp>
#include <conformance/refinements.hpp>
#include <conformance/refusals.hpp>
