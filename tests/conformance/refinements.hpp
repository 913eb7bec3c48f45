// SPDX-License-Identifier: Apache-2.0
//
// What a backend does that has a refinement: aliasing, memory that the CPU sees. A backend without it passes.
// Part of conformance.hpp.
#pragma once

#include <conformance/scene.hpp>
#include <support/catch.hpp>

#include <cstddef>

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
