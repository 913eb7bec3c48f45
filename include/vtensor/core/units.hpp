// SPDX-License-Identifier: Apache-2.0
//
// The quantities of the library as types: bytes, addresses, page indices and page counts cannot be mixed up
// or passed in the wrong order. Plain values the size of one integer; no operation here allocates, throws or
// wraps silently in debug builds.
#pragma once

#include <vtensor/core/config.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vtensor {

namespace detail {

/// What all counting types share: an explicit construction from an integer, an order, sums, and whole
/// multiples.
template <class Derived>
class counted {
  public:
    constexpr counted() noexcept = default;
    explicit constexpr counted(std::size_t count) noexcept : count_{count} {}

    /// The plain number, for arithmetic with the outside world.
    [[nodiscard]] constexpr std::size_t count() const noexcept { return count_; }

    constexpr Derived& operator+=(Derived other) noexcept {
        VTENSOR_ASSERT(count_ + other.count() >= count_);
        count_ += other.count();
        return static_cast<Derived&>(*this);
    }
    constexpr Derived& operator-=(Derived other) noexcept {
        VTENSOR_ASSERT(count_ >= other.count());
        count_ -= other.count();
        return static_cast<Derived&>(*this);
    }

    friend constexpr Derived operator+(Derived left, Derived right) noexcept { return left += right; }
    friend constexpr Derived operator-(Derived left, Derived right) noexcept { return left -= right; }
    friend constexpr Derived operator*(Derived left, std::size_t times) noexcept {
        return Derived{left.count() * times};
    }
    friend constexpr Derived operator*(std::size_t times, Derived right) noexcept { return right * times; }
    /// How often `right` fits into `left`, rounded down.
    friend constexpr std::size_t operator/(Derived left, Derived right) noexcept {
        return left.count() / right.count();
    }
    friend constexpr Derived operator%(Derived left, Derived right) noexcept {
        return Derived{left.count() % right.count()};
    }
    friend constexpr bool operator==(Derived left, Derived right) noexcept {
        return left.count() == right.count();
    }
    friend constexpr std::strong_ordering operator<=>(Derived left, Derived right) noexcept {
        return left.count() <=> right.count();
    }

  private:
    std::size_t count_ = 0;
};

} // namespace detail

/// A number of bytes, of addresses or of memory.
class bytes : public detail::counted<bytes> {
    using detail::counted<bytes>::counted;
};

/// A number of pages. A *page* is one mappable slot of a tensor; its size is the chunk size of the tensor's
/// pool.
class page_count : public detail::counted<page_count> {
    using detail::counted<page_count>::counted;
};

/// The bytes that `count` pages of `page_size` each occupy.
[[nodiscard]] constexpr bytes operator*(page_count count, bytes page_size) noexcept {
    return bytes{count.count() * page_size.count()};
}

/// The position of one page in its tensor, from 0.
class page_index {
  public:
    constexpr page_index() noexcept = default;
    explicit constexpr page_index(std::size_t index) noexcept : index_{index} {}

    [[nodiscard]] constexpr std::size_t index() const noexcept { return index_; }

    constexpr page_index& operator++() noexcept {
        ++index_;
        return *this;
    }
    friend constexpr page_index operator+(page_index from, page_count by) noexcept {
        return page_index{from.index_ + by.count()};
    }
    friend constexpr page_count operator-(page_index last, page_index first) noexcept {
        VTENSOR_ASSERT(last.index_ >= first.index_);
        return page_count{last.index_ - first.index_};
    }
    friend constexpr bool operator==(page_index, page_index) noexcept = default;
    friend constexpr std::strong_ordering operator<=>(page_index, page_index) noexcept = default;

  private:
    std::size_t index_ = 0;
};

/// An address in the space that a backend reserves from: the process's own on the host, the device's on a
/// GPU. It is not dereferenced by the library; `to_pointer` is where a caller says that he knows what lies
/// behind it.
class address {
  public:
    constexpr address() noexcept = default;
    explicit constexpr address(std::uintptr_t value) noexcept : value_{value} {}
    explicit address(const void* pointer) noexcept : value_{reinterpret_cast<std::uintptr_t>(pointer)} {}

    [[nodiscard]] constexpr std::uintptr_t value() const noexcept { return value_; }

    /// The same address as a pointer to `T`. Whether the CPU may follow it depends on the backend.
    template <class T = void>
    [[nodiscard]] T* to_pointer() const noexcept {
        return reinterpret_cast<T*>(value_); // NOLINT(performance-no-int-to-ptr): this is the one place
    }

    /// True for the default value, which no backend ever hands out.
    [[nodiscard]] constexpr bool is_null() const noexcept { return value_ == 0; }

    /// True where the address is a multiple of `unit`.
    [[nodiscard]] constexpr bool is_multiple_of(bytes unit) const noexcept {
        return value_ % unit.count() == 0;
    }

    friend constexpr address operator+(address from, bytes by) noexcept {
        return address{from.value_ + by.count()};
    }
    friend constexpr bytes operator-(address last, address first) noexcept {
        VTENSOR_ASSERT(last.value_ >= first.value_);
        return bytes{last.value_ - first.value_};
    }
    friend constexpr bool operator==(address, address) noexcept = default;
    friend constexpr std::strong_ordering operator<=>(address, address) noexcept = default;

  private:
    std::uintptr_t value_ = 0;
};

/// How many pages of `page_size` cover `size`, rounded up.
[[nodiscard]] constexpr page_count pages_for(bytes size, bytes page_size) noexcept {
    return page_count{size.count() / page_size.count() + (size.count() % page_size.count() != 0 ? 1 : 0)};
}

/// `size` rounded up to a multiple of `unit`.
[[nodiscard]] constexpr bytes round_up(bytes size, bytes unit) noexcept {
    return pages_for(size, unit) * unit;
}

/// "2 MiB", "1.5 GiB", "640 B": the largest binary unit that leaves at least 1, with at most two decimals.
[[nodiscard]] inline std::string to_string(bytes size) {
    static constexpr const char* names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    std::size_t scale = 1;
    while (unit + 1 < std::size(names) && size.count() / scale >= 1024) {
        scale *= 1024;
        ++unit;
    }
    const std::size_t whole = size.count() / scale;
    const std::size_t rest = size.count() % scale;
    const std::size_t hundredths = scale == 1 ? 0 : rest / (scale / 1024) * 100 / 1024;
    std::string text = std::to_string(whole);
    if (hundredths != 0) {
        text += hundredths < 10 ? ".0" : ".";
        text += hundredths % 10 == 0 ? std::to_string(hundredths / 10) : std::to_string(hundredths);
    }
    return text + " " + names[unit];
}

inline namespace literals {

constexpr bytes operator""_B(unsigned long long count) noexcept { return bytes{std::size_t{count}}; }
constexpr bytes operator""_KiB(unsigned long long count) noexcept { return bytes{std::size_t{count} << 10}; }
constexpr bytes operator""_MiB(unsigned long long count) noexcept { return bytes{std::size_t{count} << 20}; }
constexpr bytes operator""_GiB(unsigned long long count) noexcept { return bytes{std::size_t{count} << 30}; }
constexpr bytes operator""_TiB(unsigned long long count) noexcept { return bytes{std::size_t{count} << 40}; }
constexpr page_count operator""_pages(unsigned long long count) noexcept {
    return page_count{std::size_t{count}};
}

} // namespace literals

} // namespace vtensor
