// SPDX-License-Identifier: Apache-2.0
//
// How the library says that something went wrong: a code, the verb that failed, the number the operating
// system or the driver gave, and the size that was asked for. `status` and `result<T>` carry it without
// exceptions. Nothing here throws, prints or aborts, except `result::value()`, which is the bridge to
// exceptions.
#pragma once

#include <vtensor/core/exception.hpp>

#include <optional>
#include <type_traits>
#include <utility>

namespace vtensor {

/// Success, or an `error`. What every operation without a value returns.
class [[nodiscard]] status {
  public:
    constexpr status() noexcept = default;
    constexpr status(const vtensor::error& failure) noexcept
        : error_{failure} {} // NOLINT: a failure is a status

    [[nodiscard]] constexpr bool ok() const noexcept { return error_.code == errc::ok; }
    explicit constexpr operator bool() const noexcept { return ok(); }
    /// `errc::ok` on success.
    [[nodiscard]] constexpr errc code() const noexcept { return error_.code; }
    [[nodiscard]] constexpr const vtensor::error& error() const noexcept { return error_; }

  private:
    vtensor::error error_{};
};

/// Throws what `failure` stands for where it is a failure; see exception.hpp for the types.
inline void throw_if_failed(const status& outcome) {
    if (!outcome)
        throw_error(outcome.error());
}

/// A value, or the `error` that kept it from being. `T` may be move-only.
template <class T>
class [[nodiscard]] result {
    static constexpr bool moves = std::is_nothrow_move_constructible_v<T>;
    static constexpr bool copies = std::is_nothrow_copy_constructible_v<T>;
    static constexpr bool copyable = std::is_copy_constructible_v<T>;

  public:
    using value_type = T;

    // Two constructors, so that compilers of kernels too move from a local variable that is returned.
    constexpr result(T&& value) noexcept(moves) // NOLINT: a value is a result
        : value_{std::move(value)} {}
    constexpr result(const T& value) noexcept(copies) requires copyable // NOLINT: so is this one
        : value_{value} {}
    constexpr result(const vtensor::error& failure) noexcept : error_{failure} { // NOLINT: so is a failure
        VTENSOR_ASSERT(failure.code != errc::ok);
    }
    constexpr result(const status& failure) noexcept : result{failure.error()} {} // NOLINT

    [[nodiscard]] constexpr bool ok() const noexcept { return value_.has_value(); }
    explicit constexpr operator bool() const noexcept { return ok(); }
    /// `errc::ok` where there is a value.
    [[nodiscard]] constexpr errc code() const noexcept { return error_.code; }
    [[nodiscard]] constexpr const vtensor::error& error() const noexcept { return error_; }
    [[nodiscard]] constexpr vtensor::status status() const noexcept { return error_; }

    /// The value, unchecked: only where `ok()`.
    [[nodiscard]] constexpr T& operator*() & noexcept { return *value_; }
    [[nodiscard]] constexpr const T& operator*() const& noexcept { return *value_; }
    [[nodiscard]] constexpr T&& operator*() && noexcept { return *std::move(value_); }
    [[nodiscard]] constexpr T* operator->() noexcept { return &*value_; }
    [[nodiscard]] constexpr const T* operator->() const noexcept { return &*value_; }

    /// The value, or an exception of the type that exception.hpp names for the code.
    [[nodiscard]] T value() && {
        throw_if_failed(error_);
        return *std::move(value_);
    }
    [[nodiscard]] const T& value() const& {
        throw_if_failed(error_);
        return *value_;
    }

  private:
    std::optional<T> value_;
    vtensor::error error_{};
};

} // namespace vtensor
