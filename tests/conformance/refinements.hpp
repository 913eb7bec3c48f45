// SPDX-License-Identifier: Apache-2.0
//
// What a backend does that has a refinement: aliasing, exporting, memory that the CPU sees. A backend without
// it passes. Part of conformance.hpp.
#pragma once

#include <conformance/scene.hpp>
#include <support/catch.hpp>

#include <concepts>
#include <cstddef>
#include <utility>

namespace vtensor::conformance {

TEMPLATE_LIST_TEST_CASE("a chunk mapped at two addresses shows the same bytes at both", "[conformance]",
                        conformance_fixtures) {
    if constexpr (aliasing_backend<typename TestType::backend_type>) {
        scene<TestType> s;
        if (!s.backend().can_alias())
            return;
        REQUIRE(ended(s.backend().map(s.at(12), s.pair)) == "ok");
        REQUIRE(ended(s.backend().set_access(s.at(12), s.units(2), access_mode::read_write)) == "ok");
        CHECK(s.holds(s.at(12), 2, 2));
        s.fill(s.at(12), 2, 99);
        CHECK(s.holds(s.at(2), 2, 99));
        s.fill(s.at(2), 2, 2);
        CHECK(s.holds(s.at(12), 2, 2));

        // Each mapping has an access of its own, and goes alone.
        REQUIRE(ended(s.backend().set_access(s.at(12), s.units(2), access_mode::read)) == "ok");
        CHECK(s.faults(s.at(12), access_mode::read_write));
        CHECK(s.may_touch(s.at(2), access_mode::read_write));
        CHECK(ended(s.backend().unmap(s.at(12), s.units(2))) == "ok");
        s.check_unchanged();
        s.dismantle();
    } else {
        SUCCEED("the backend does not alias");
    }
}

TEMPLATE_LIST_TEST_CASE("an aliased chunk that is destroyed lives until its last mapping goes",
                        "[conformance]", conformance_fixtures) {
    if constexpr (aliasing_backend<typename TestType::backend_type>) {
        scene<TestType> s;
        if (!s.backend().can_alias())
            return;
        const auto chunk = s.create(1);
        const auto with_chunk = s.physical_bytes();
        for (const std::size_t unit : {12u, 13u, 15u}) {
            REQUIRE(ended(s.backend().map(s.at(unit), chunk)) == "ok");
            REQUIRE(ended(s.backend().set_access(s.at(unit), s.units(1), access_mode::read_write)) == "ok");
        }
        s.fill(s.at(13), 1, 5);
        CHECK(ended(s.backend().destroy(chunk)) == "ok");
        CHECK(ended(s.backend().unmap(s.at(12), s.units(2))) == "ok");
        CHECK(s.holds(s.at(15), 1, 5));
        CHECK(s.physical_bytes() == with_chunk);
        CHECK(ended(s.backend().unmap(s.at(15), s.units(1))) == "ok");
        s.check_unchanged();
        s.dismantle();
    } else {
        SUCCEED("the backend does not alias");
    }
}

TEMPLATE_LIST_TEST_CASE(
    "an exported chunk that is imported again is the same memory, and lives as long as either",
    "[conformance]", conformance_fixtures) {
    if constexpr (exportable_backend<typename TestType::backend_type>) {
        scene<TestType> s;
        if (!s.backend().can_export())
            return;
        const auto chunk = s.create(2);
        REQUIRE(ended(s.backend().map(s.at(12), chunk)) == "ok");
        REQUIRE(ended(s.backend().set_access(s.at(12), s.units(2), access_mode::read_write)) == "ok");
        s.fill(s.at(12), 2, 31);
        const auto with_chunk = s.physical_bytes();

        auto handle = s.backend().export_chunk(chunk);
        REQUIRE(ended(handle) == "ok");
        const auto imported = s.backend().import_chunk(*std::move(handle), s.units(2));
        REQUIRE(ended(imported) == "ok");
        CHECK_FALSE(*imported == chunk);
        CHECK(s.physical_bytes() == with_chunk);
        REQUIRE(ended(s.backend().map(s.at(14), *imported)) == "ok");
        REQUIRE(ended(s.backend().set_access(s.at(14), s.units(2), access_mode::read_write)) == "ok");
        CHECK(s.holds(s.at(14), 2, 31));
        s.fill(s.at(14), 2, 32);
        CHECK(s.holds(s.at(12), 2, 32));

        CHECK(ended(s.backend().unmap(s.at(12), s.units(2))) == "ok");
        CHECK(ended(s.backend().destroy(chunk)) == "ok");
        CHECK(ended(s.backend().export_chunk(chunk)) == ended(verb::export_chunk, errc::unknown_chunk));
        CHECK(s.holds(s.at(14), 2, 32));
        CHECK(s.physical_bytes() == with_chunk);
        CHECK(ended(s.backend().destroy(*imported)) == "ok");
        CHECK(s.holds(s.at(14), 2, 32));
        CHECK(ended(s.backend().unmap(s.at(14), s.units(2))) == "ok");
        s.check_unchanged();
        s.dismantle();
    } else {
        SUCCEED("the backend does not export");
    }
}

TEMPLATE_LIST_TEST_CASE("exporting and importing refuse what cannot be", "[conformance]",
                        conformance_fixtures) {
    if constexpr (exportable_backend<typename TestType::backend_type>) {
        scene<TestType> s;
        auto& backend = s.backend();
        using handle_type = typename TestType::backend_type::os_handle_type;
        CHECK(ended(backend.export_chunk({})) == ended(verb::export_chunk, errc::unknown_chunk));
        CHECK(ended(backend.export_chunk(s.gone)) == ended(verb::export_chunk, errc::unknown_chunk));
        if (!backend.can_export()) {
            CHECK(ended(backend.export_chunk(s.pair)) == ended(verb::export_chunk, errc::unsupported));
            return;
        }
        const auto importing = [&](bytes size) {
            auto handle = backend.export_chunk(s.pair);
            REQUIRE(ended(handle) == "ok");
            return ended(backend.import_chunk(*std::move(handle), size));
        };
        CHECK(importing(bytes{0}) == ended(verb::import_chunk, errc::invalid_argument));
        CHECK(importing(s.half_unit()) == ended(verb::import_chunk, errc::misaligned));
        CHECK(importing(s.units(1) + s.half_unit()) == ended(verb::import_chunk, errc::misaligned));
        CHECK(importing(s.units(1)) == ended(verb::import_chunk, errc::size_mismatch));
        CHECK(importing(s.units(3)) == ended(verb::import_chunk, errc::size_mismatch));
        if constexpr (std::default_initializable<handle_type>)
            CHECK(ended(backend.import_chunk(handle_type{}, s.units(1))) ==
                  ended(verb::import_chunk, errc::foreign_handle));
        s.check_unchanged();
        s.dismantle();
    } else {
        SUCCEED("the backend does not export");
    }
}

TEMPLATE_LIST_TEST_CASE("a host-visible backend's addresses are the CPU's", "[conformance]",
                        conformance_fixtures) {
    if constexpr (host_visible_backend<typename TestType::backend_type>) {
        scene<TestType> s;
        if (!s.backend().host_visible())
            return;
        auto* const seen = s.at(4).template to_pointer<unsigned char>();
        const unsigned char before = *seen;
        *seen = static_cast<unsigned char>(before + 1);
        CHECK_FALSE(s.holds(s.at(4), 1, 4));
        *seen = before;
        s.check_unchanged();
        s.dismantle();
    } else {
        SUCCEED("the CPU does not reach the backend's memory");
    }
}

} // namespace vtensor::conformance
