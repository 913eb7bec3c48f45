// SPDX-License-Identifier: Apache-2.0
//
// The loop that every fault test is made of: fail the first backend call of an operation, then the second,
// and so on until the operation meets no failure any more, and look at the state after each.
#pragma once

#include <support/catch.hpp>

#include <vtensor/adaptors/failing.hpp>

#include <cstddef>

namespace vtensor::testing {

/// How many calls in a row fail: with two, the call after the failed one, which is the undo, fails once too.
enum class fault_length : std::size_t { one = 1, with_undo = 2 };

/// Runs `operation` with its backend call 1, 2, 3, ... failing with `code` until it runs without meeting the
/// failure. The operation returns something that converts to bool: true where it succeeded.
///
/// After each failed run `check(k)` is called, with nothing armed. Where the operation succeeded although a
/// call failed (it can do without), `undo()` is called, so that the next run starts from the same state.
/// After the last run, which is a success, neither is called. Returns how many runs met a failure, which the
/// caller requires to be as many as he expects, or at least not 0.
template <class Failing, class Operation, class Check, class Undo>
std::size_t for_each_failing_call(Failing& failing, Operation operation, Check check, Undo undo,
                                  errc code = errc::out_of_memory, fault_length length = fault_length::one) {
    constexpr std::size_t far_too_many = 1'000'000;
    for (std::size_t k = 1; k < far_too_many; ++k) {
        failing.fail_calls(k, static_cast<std::size_t>(length), code);
        const bool succeeded = static_cast<bool>(operation());
        const std::size_t failures = failing.failures();
        failing.disarm();
        INFO("backend call " << k << " failed with " << name(code));
        if (failures == 0) {
            REQUIRE(succeeded); // nothing was made to fail, so nothing may have failed
            return k - 1;
        }
        if (succeeded)
            undo();
        else
            check(k);
    }
    FAIL("the operation never stops calling the backend");
    return 0;
}

/// The same for an operation that can do without no call: it succeeds only where no call failed.
template <class Failing, class Operation, class Check>
std::size_t for_each_failing_call(Failing& failing, Operation operation, Check check,
                                  errc code = errc::out_of_memory, fault_length length = fault_length::one) {
    const auto undo = [] { FAIL("the operation reported success although a backend call failed"); };
    return for_each_failing_call(failing, operation, check, undo, code, length);
}

} // namespace vtensor::testing
