// SPDX-License-Identifier: Apache-2.0
//
// The message that carries the handles of chunks to another process, as bytes. Descriptors travel beside it,
// fabric handles in it. It neither sends nor imports, and believes nothing that it reads.
#pragma once

#include <vtensor/backends/os/handle.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace vtensor::interop {

/// Handles of `count` chunks, the first of which is number `first` of the `total` that are sent together.
///
/// As bytes, numbers with the least significant byte first: "vtchunks", version (2 bytes), kind (1), zero
/// (1), count (4), first (4), total (4), chunk size (8), then 64 bytes for each fabric handle.
struct chunk_message {
    static constexpr std::string_view magic = "vtchunks";
    static constexpr std::uint16_t version = 1;
    static constexpr std::size_t header_size = 32;
    /// The most handles of one message: the most descriptors that the kernel passes at once.
    static constexpr std::size_t max_count = 253;
    static constexpr std::size_t max_size = header_size + max_count * sizeof(fabric_handle);

    using header_bytes = std::array<std::byte, header_size>;

    os_handle_kind kind = os_handle_kind::none;
    std::uint32_t count = 0;
    std::uint32_t first = 0;
    std::uint32_t total = 0;
    bytes chunk_size{};

    friend bool operator==(const chunk_message&, const chunk_message&) noexcept = default;

    /// What follows the header, in bytes.
    [[nodiscard]] std::size_t payload_size() const noexcept {
        return kind == os_handle_kind::fabric ? count * sizeof(fabric_handle) : 0;
    }

    /// A message that may be sent, and that `parse` takes.
    [[nodiscard]] bool sound() const noexcept {
        return (kind == os_handle_kind::descriptor || kind == os_handle_kind::fabric) && count >= 1 &&
               count <= max_count && first < total && count <= total - first && chunk_size != bytes{0};
    }

    [[nodiscard]] header_bytes encode() const noexcept {
        header_bytes made{};
        std::byte* at = std::transform(magic.begin(), magic.end(), made.data(),
                                       [](char letter) { return static_cast<std::byte>(letter); });
        put(at, version, 2);
        put(at, static_cast<std::uint64_t>(kind), 1);
        put(at, 0, 1);
        put(at, count, 4);
        put(at, first, 4);
        put(at, total, 4);
        put(at, chunk_size.count(), 8);
        return made;
    }

    /// Reads a message that came with that many descriptors. `malformed_message` where any part of it is not
    /// as it must be: length, version, kind, counts that do not fit together, descriptors too few or too
    /// many.
    [[nodiscard]] static result<chunk_message> parse(std::span<const std::byte> content,
                                                     std::size_t descriptors) noexcept {
        const error malformed{errc::malformed_message, verb::receive, 0, bytes{content.size()}};
        if (content.size() < header_size ||
            !std::equal(magic.begin(), magic.end(), content.begin(),
                        [](char letter, std::byte seen) { return static_cast<std::byte>(letter) == seen; }))
            return malformed;
        const std::byte* at = content.data() + magic.size();
        const std::uint64_t seen_version = take(at, 2);
        const std::uint64_t kind = take(at, 1);
        const std::uint64_t zero = take(at, 1);
        chunk_message seen;
        seen.kind = static_cast<os_handle_kind>(kind);
        seen.count = static_cast<std::uint32_t>(take(at, 4));
        seen.first = static_cast<std::uint32_t>(take(at, 4));
        seen.total = static_cast<std::uint32_t>(take(at, 4));
        seen.chunk_size = bytes{static_cast<std::size_t>(take(at, 8))};
        const std::size_t promised = seen.kind == os_handle_kind::descriptor ? seen.count : 0;
        if (seen_version != version || zero != 0 || !seen.sound() ||
            content.size() != header_size + seen.payload_size() || descriptors != promised)
            return malformed;
        return seen;
    }

    /// Number `index` of the fabric handles in a message that `parse` took.
    [[nodiscard]] static fabric_handle fabric_at(std::span<const std::byte> content,
                                                 std::size_t index) noexcept {
        fabric_handle found;
        const auto from = content.subspan(header_size + index * sizeof found, sizeof found);
        std::copy(from.begin(), from.end(), found.data.begin());
        return found;
    }

  private:
    static void put(std::byte*& at, std::uint64_t value, unsigned size) noexcept {
        for (unsigned index = 0; index < size; ++index)
            *at++ = static_cast<std::byte>(value >> (8 * index));
    }
    static std::uint64_t take(const std::byte*& at, unsigned size) noexcept {
        std::uint64_t value = 0;
        for (unsigned index = 0; index < size; ++index)
            value |= std::to_integer<std::uint64_t>(*at++) << (8 * index);
        return value;
    }
};

} // namespace vtensor::interop
