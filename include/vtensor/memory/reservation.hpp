// SPDX-License-Identifier: Apache-2.0
//
// Owns a range of addresses. It has no memory behind it and never maps: that is mapped_range.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <utility>

namespace vtensor {

/// A reserved range, released when it goes. Movable, not copyable; an empty one holds nothing.
template <backend Backend>
class reservation {
  public:
    reservation() noexcept = default;

    /// Reserves `size` bytes, aligned to `align` (0: to the granularity). Refuses as `Backend::reserve`.
    [[nodiscard]] static result<reservation> create(Backend& backend, bytes size,
                                                    bytes align = bytes{0}) noexcept {
        const auto where = backend.reserve(size, align);
        if (!where)
            return where.error();
        return reservation{backend, *where, size};
    }

    reservation(reservation&& other) noexcept
        : backend_{std::exchange(other.backend_, nullptr)},
          start_{std::exchange(other.start_, address{})},
          size_{std::exchange(other.size_, bytes{0})} {}
    reservation& operator=(reservation&& other) noexcept {
        if (this != &other) {
            reset();
            backend_ = std::exchange(other.backend_, nullptr);
            start_ = std::exchange(other.start_, address{});
            size_ = std::exchange(other.size_, bytes{0});
        }
        return *this;
    }
    ~reservation() { reset(); }

    [[nodiscard]] address start() const noexcept { return start_; }
    [[nodiscard]] bytes size() const noexcept { return size_; }
    explicit operator bool() const noexcept { return backend_ != nullptr; }

    /// Gives the addresses back. On failure (something is still mapped) the reservation is kept as it is.
    [[nodiscard]] status release() noexcept {
        if (backend_ == nullptr)
            return {};
        const status outcome = backend_->release(start_, size_);
        if (outcome)
            forget();
        return outcome;
    }

    /// Lets go of the addresses without releasing them: what is left to do when they cannot be unmapped.
    void forget() noexcept {
        backend_ = nullptr;
        start_ = address{};
        size_ = bytes{0};
    }

  private:
    reservation(Backend& backend, address start, bytes size) noexcept
        : backend_{&backend}, start_{start}, size_{size} {}

    /// A passing failure is met by a second try; after that the addresses are lost, but nothing else.
    void reset() noexcept {
        if (!release() && !release())
            forget();
    }

    Backend* backend_ = nullptr;
    address start_{};
    bytes size_{};
};

} // namespace vtensor
