// SPDX-License-Identifier: Apache-2.0
//
// The exceptions that the throwing operations raise, one type for each thing a caller may want to catch, all
// carrying the `error`. Backend verbs and the `try_` operations never throw them.
#pragma once

#include <vtensor/core/errc.hpp>

#include <new>
#include <stdexcept>
#include <string>

namespace vtensor {

/// Mixed into every exception of the library, so that `catch (const vtensor::failure&)` gets them all.
class failure {
  public:
    explicit failure(const vtensor::error& cause) noexcept : error_{cause} {}
    virtual ~failure() = default;
    failure(const failure&) = default;
    failure& operator=(const failure&) = default;

    [[nodiscard]] const vtensor::error& error() const noexcept { return error_; }

  private:
    vtensor::error error_;
};

/// No physical memory, no addresses, or a limit in the way: `errc::out_of_memory`, `out_of_addresses`,
/// `limit_exceeded`, `too_many_mappings`.
class out_of_memory : public std::bad_alloc, public failure {
  public:
    explicit out_of_memory(const vtensor::error& cause) : failure{cause}, text_{to_string(cause)} {}
    [[nodiscard]] const char* what() const noexcept override { return text_.what(); }

  private:
    std::runtime_error text_; // a string whose copies cannot throw
};

/// The caller asked for something that cannot be: `errc::invalid_argument`, `misaligned`.
class bad_argument : public std::invalid_argument, public failure {
  public:
    explicit bad_argument(const vtensor::error& cause)
        : std::invalid_argument{to_string(cause)}, failure{cause} {}
};

/// Everything else a backend can say: `errc::no_device`, `unsupported`, `native_failure`, ...
class backend_failure : public std::runtime_error, public failure {
  public:
    explicit backend_failure(const vtensor::error& cause)
        : std::runtime_error{to_string(cause)}, failure{cause} {}
};

/// Throws the exception that stands for `cause.code`.
[[noreturn]] inline void throw_error(const error& cause) {
    switch (cause.code) {
    case errc::out_of_memory:
    case errc::out_of_addresses:
    case errc::limit_exceeded:
    case errc::too_many_mappings:
        throw out_of_memory{cause};
    case errc::invalid_argument:
    case errc::misaligned:
        throw bad_argument{cause};
    default:
        throw backend_failure{cause};
    }
}

} // namespace vtensor
