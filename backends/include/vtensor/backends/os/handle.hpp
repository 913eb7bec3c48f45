// SPDX-License-Identifier: Apache-2.0
//
// What an exported chunk is to the operating system: a file descriptor, or the 64 bytes by which machines of
// one fabric name memory. The one handle type of all backends here, so that whatever passes handles between
// processes is written once.
#pragma once

#include <vtensor/backends/os/file_descriptor.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

namespace vtensor {

/// Names memory on every machine of one fabric. Plain bytes: it owns nothing, and passing it on needs no
/// help of the system.
struct fabric_handle {
    std::array<std::byte, 64> data{};

    friend bool operator==(const fabric_handle&, const fabric_handle&) noexcept = default;
};
static_assert(sizeof(fabric_handle) == 64 && std::is_trivially_copyable_v<fabric_handle>);

/// The numbers are part of the messages that processes exchange.
enum class os_handle_kind : std::uint8_t {
    none = 0,
    descriptor = 1, ///< of a memory file (host) or of device memory (POSIX descriptor)
    fabric = 2,
};

/// A handle of either kind, or none. Moved, not copied, because it may own a descriptor.
class os_handle {
  public:
    os_handle() noexcept = default;
    os_handle(file_descriptor owned) noexcept { // NOLINT: a descriptor is a handle
        if (owned)
            value_.emplace<file_descriptor>(std::move(owned));
    }
    os_handle(const fabric_handle& name) noexcept : value_{name} {} // NOLINT: so is a fabric handle

    [[nodiscard]] os_handle_kind kind() const noexcept {
        if (fabric() != nullptr)
            return os_handle_kind::fabric;
        return descriptor() >= 0 ? os_handle_kind::descriptor : os_handle_kind::none;
    }
    /// -1 where it is none.
    [[nodiscard]] int descriptor() const noexcept {
        const auto* const owned = std::get_if<file_descriptor>(&value_);
        return owned != nullptr ? owned->number() : -1;
    }
    /// Null where it is none.
    [[nodiscard]] const fabric_handle* fabric() const noexcept { return std::get_if<fabric_handle>(&value_); }
    /// Gives the descriptor up to the caller and is no handle afterwards; none where it is of another kind.
    [[nodiscard]] file_descriptor take_descriptor() noexcept {
        file_descriptor taken;
        if (auto* const owned = std::get_if<file_descriptor>(&value_)) {
            taken = std::move(*owned);
            value_.emplace<std::monostate>();
        }
        return taken;
    }

  private:
    std::variant<std::monostate, file_descriptor, fabric_handle> value_;
};
static_assert(std::movable<os_handle>);

} // namespace vtensor
