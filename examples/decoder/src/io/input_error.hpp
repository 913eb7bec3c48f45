// SPDX-License-Identifier: Apache-2.0
//
// The one exception of the decoder: something the user handed in cannot be used. Its text is a whole sentence
// that says what was found and what to do next; main() prints it as one line and exits with code 2. Failures
// of the library travel as `vtensor::status` until somebody knows what to tell the user.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace decoder {

/// The user's input cannot be used; `what()` says why and what to do.
class input_error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Throws `input_error` with the given sentence.
[[noreturn]] inline void refuse(const std::string& sentence) { throw input_error{sentence}; }

/// `text` as it may be shown inside a line: control bytes become '?', and what exceeds `longest` bytes is cut
/// with an ellipsis. Names read from files go through here before they reach a terminal.
[[nodiscard]] std::string printable(std::string_view text, std::size_t longest = 80);

} // namespace decoder
