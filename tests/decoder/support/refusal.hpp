// SPDX-License-Identifier: Apache-2.0
//
// What every refusal must be: an `input_error` whose text is one line, names what is wrong, and ends with
// what to do.
#pragma once

#include "io/input_error.hpp"

#include <string>

namespace decoder_test {

/// The sentence with which `action` refuses, or "" where it does not.
template <class Action>
std::string refusal_of(Action action) {
    try {
        action();
    } catch (const decoder::input_error& refused) {
        return refused.what();
    }
    return {};
}

inline bool is_one_line(const std::string& text) {
    return !text.empty() && text.find_first_of("\n\r") == std::string::npos;
}

} // namespace decoder_test
