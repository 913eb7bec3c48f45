// SPDX-License-Identifier: Apache-2.0
//
// A small arrangement of reservations, chunks and mappings on a fresh backend, and the check that a refused
// call left all of it as it was.
#pragma once

#include <conformance/fixture.hpp>
#include <support/catch.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace vtensor::conformance {

/// Sixteen units (granularities) of addresses. By unit:
///
///     0 1 | 2 3  | 4    | 5      | 6 7 | 8 9  | 10 … 15
///     -   | pair | one  | closed | -   | read | -
///
/// `pair` and `one` may be read and written, `closed` is mapped without access, `read` may be read only, and
/// `-` is reserved. `loose` is a chunk of one unit that is not mapped; `gone` was one and is destroyed.
template <fixture Fixture>
class scene {
  public:
    using backend_type = typename Fixture::backend_type;
    using chunk_type = typename backend_type::chunk_type;

    static constexpr std::size_t length = 16;

    scene() : unit_{backend().granularity()}, physical_before_{physical_bytes()} {
        const auto made = backend().reserve(unit_ * length, bytes{0});
        REQUIRE(ended(made) == "ok");
        start_ = *made;
        pair = put(2, 2, access_mode::read_write);
        one = put(4, 1, access_mode::read_write);
        closed = put(5, 1, access_mode::none);
        read = put(8, 2, access_mode::read_write);
        REQUIRE(ended(backend().set_access(at(8), units(2), access_mode::read)) == "ok");
        loose = create(1);
        gone = create(1);
        REQUIRE(ended(backend().destroy(gone)) == "ok");
        physical_ = physical_bytes();
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    [[nodiscard]] Fixture& made() noexcept { return made_; }
    [[nodiscard]] backend_type& backend() noexcept { return made_.backend(); }
    [[nodiscard]] address at(std::size_t unit) const noexcept { return start_ + unit_ * unit; }
    [[nodiscard]] bytes units(std::size_t count) const noexcept { return unit_ * count; }
    [[nodiscard]] bytes half_unit() const noexcept { return bytes{unit_.count() / 2}; }

    [[nodiscard]] chunk_type create(std::size_t count) {
        const auto chunk = backend().create(units(count));
        REQUIRE(ended(chunk) == "ok");
        return *chunk;
    }

    /// Writes the bytes that belong to `seed` at the start and at the end of each unit, or compares them.
    void fill(address where, std::size_t count, unsigned seed) {
        for (std::size_t index = 0; index < count; ++index) {
            const auto wanted = pattern(seed, index);
            made_.write(where + units(index), wanted);
            made_.write(where + (units(index + 1) - bytes{wanted.size()}), wanted);
        }
    }
    [[nodiscard]] bool holds(address where, std::size_t count, unsigned seed) {
        for (std::size_t index = 0; index < count; ++index) {
            const auto wanted = pattern(seed, index);
            auto seen = wanted;
            made_.read(where + units(index), seen);
            if (seen != wanted)
                return false;
            made_.read(where + (units(index + 1) - bytes{wanted.size()}), seen);
            if (seen != wanted)
                return false;
        }
        return true;
    }

    /// Nothing where the fixture cannot tell.
    [[nodiscard]] std::optional<bytes> physical_bytes() {
        if constexpr (measuring_fixture<Fixture>)
            return made_.physical_bytes();
        return std::nullopt;
    }
    [[nodiscard]] bool may_touch(address where, access_mode how) {
        if constexpr (touching_fixture<Fixture>)
            return !made_.faults(where, how);
        return true;
    }
    [[nodiscard]] bool faults(address where, access_mode how) {
        if constexpr (touching_fixture<Fixture>)
            return made_.faults(where, how);
        return true;
    }

    /// Everything is as the constructor left it: contents, access, mappings, chunks, memory.
    void check_unchanged() {
        CHECK(holds(at(2), 2, 2));
        CHECK(holds(at(4), 1, 4));
        CHECK(holds(at(8), 2, 8));
        CHECK(may_touch(at(3), access_mode::read_write));
        CHECK(faults(at(5), access_mode::read));
        CHECK(faults(at(6), access_mode::read));
        CHECK(faults(at(8), access_mode::read_write));
        for (const std::size_t hole : {0u, 1u, 6u, 7u, 10u, 15u})
            CHECK(ended(backend().unmap(at(hole), units(1))) == ended(verb::unmap, errc::not_mapped));
        for (const std::size_t half_of_pair : {2u, 3u})
            CHECK(ended(backend().unmap(at(half_of_pair), units(1))) ==
                  ended(verb::unmap, errc::partial_mapping));
        CHECK(ended(backend().release(at(0), units(length))) == ended(verb::release, errc::still_mapped));
        CHECK(ended(backend().map(at(0), gone)) == ended(verb::map, errc::unknown_chunk));
        CHECK(physical_bytes() == physical_);
    }

    /// Takes everything down by the verbs, in the order a device wants it; nothing is left.
    void dismantle() {
        CHECK(ended(backend().unmap(at(2), units(4))) == "ok"); // pair, one and closed: three mappings
        CHECK(ended(backend().unmap(at(8), units(2))) == "ok");
        for (const chunk_type chunk : {pair, one, closed, read, loose})
            CHECK(ended(backend().destroy(chunk)) == "ok");
        CHECK(ended(backend().release(at(0), units(length))) == "ok");
        CHECK(physical_bytes() == physical_before_);
    }

    chunk_type pair{};
    chunk_type one{};
    chunk_type closed{};
    chunk_type read{};
    chunk_type loose{};
    chunk_type gone{};

  private:
    static std::array<std::byte, 32> pattern(unsigned seed, std::size_t index) {
        std::array<std::byte, 32> wanted{};
        auto state = static_cast<std::uint32_t>(seed * 1000 + index + 1);
        for (std::byte& each : wanted) {
            state = state * 1664525u + 1013904223u;
            each = static_cast<std::byte>(state >> 24);
        }
        return wanted;
    }

    chunk_type put(std::size_t unit, std::size_t count, access_mode allowed) {
        const chunk_type chunk = create(count);
        REQUIRE(ended(backend().map(at(unit), chunk)) == "ok");
        if (allowed != access_mode::none) {
            REQUIRE(ended(backend().set_access(at(unit), units(count), allowed)) == "ok");
            fill(at(unit), count, static_cast<unsigned>(unit));
        }
        return chunk;
    }

    Fixture made_;
    bytes unit_;
    std::optional<bytes> physical_before_;
    std::optional<bytes> physical_;
    address start_{};
};

} // namespace vtensor::conformance
