// SPDX-License-Identifier: Apache-2.0
//
// What every backend refuses, one test case a row of the table in docs/concepts.md: the code is the same
// everywhere, and nothing has changed afterwards. Part of conformance.hpp.
#pragma once

#include <conformance/scene.hpp>
#include <support/catch.hpp>

#include <cstddef>
#include <limits>

namespace vtensor::conformance {

/// The call ended with `code`, and the scene is as it was.
template <class Scene, class Outcome>
void check_refused(Scene& scene, verb where, errc code, const Outcome& outcome) {
    CHECK(ended(outcome) == ended(where, code));
    scene.check_unchanged();
}

/// The largest multiple of the granularity that is at most `wanted`.
[[nodiscard]] inline bytes whole(bytes wanted, bytes unit) noexcept { return wanted - wanted % unit; }

// ---- reserve ----

TEMPLATE_LIST_TEST_CASE("reserve refuses a size of zero", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::reserve, errc::invalid_argument, s.backend().reserve(bytes{0}, bytes{0}));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("reserve refuses an alignment that is no power of two", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::reserve, errc::invalid_argument, s.backend().reserve(s.units(1), s.units(3)));
    check_refused(s, verb::reserve, errc::invalid_argument, s.backend().reserve(s.units(1), bytes{3}));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("reserve refuses a size that is no multiple of the granularity", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::reserve, errc::misaligned, s.backend().reserve(s.half_unit(), bytes{0}));
    check_refused(s, verb::reserve, errc::misaligned, s.backend().reserve(s.units(3) + bytes{1}, s.units(1)));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("reserve refuses more addresses than there are", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const bytes everything{std::numeric_limits<std::size_t>::max()};
    const bytes half{std::size_t{1} << (std::numeric_limits<std::size_t>::digits - 1)};
    for (const bytes impossible : {everything, half, bytes{half.count() / 2}}) {
        const bytes size = whole(impossible, s.units(1));
        check_refused(s, verb::reserve, errc::out_of_addresses, s.backend().reserve(size, bytes{0}));
    }
    check_refused(s, verb::reserve, errc::out_of_addresses, s.backend().reserve(half, half));
    s.dismantle();
}

// ---- release ----

TEMPLATE_LIST_TEST_CASE("release refuses what is not exactly one reservation", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const auto refuse = [&](address where, bytes size) {
        check_refused(s, verb::release, errc::not_reserved, s.backend().release(where, size));
    };
    refuse(s.at(1), s.units(15));            // starts inside
    refuse(s.at(0), s.units(15));            // ends inside
    refuse(s.at(0), s.units(17));            // ends beyond
    refuse(s.at(0), bytes{0});               // nothing
    refuse(s.at(0), s.units(16) - bytes{1}); // no multiple of the granularity
    refuse(address{}, s.units(16));          // nowhere
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("release refuses a reservation in which something is mapped", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::release, errc::still_mapped, s.backend().release(s.at(0), s.units(s.length)));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("release refuses the same reservation a second time", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const auto other = s.backend().reserve(s.units(2), bytes{0});
    REQUIRE(ended(other) == "ok");
    CHECK(ended(s.backend().release(*other, s.units(2))) == "ok");
    check_refused(s, verb::release, errc::not_reserved, s.backend().release(*other, s.units(2)));
    s.dismantle();
}

// ---- create and destroy ----

TEMPLATE_LIST_TEST_CASE("create refuses a size of zero", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::create, errc::invalid_argument, s.backend().create(bytes{0}));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("create refuses a size that is no multiple of the granularity", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::create, errc::misaligned, s.backend().create(s.half_unit()));
    check_refused(s, verb::create, errc::misaligned, s.backend().create(s.units(2) + bytes{1}));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("create refuses more memory than there is", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    bytes too_much = whole(1024_TiB, s.units(1));
    if constexpr (bounded_fixture<TestType>)
        too_much = s.made().too_much();
    check_refused(s, verb::create, errc::out_of_memory, s.backend().create(too_much));
    const bytes everything{std::numeric_limits<std::size_t>::max() / 2};
    check_refused(s, verb::create, errc::out_of_memory, s.backend().create(whole(everything, s.units(1))));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("destroy refuses the default chunk and one that is destroyed", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::destroy, errc::unknown_chunk,
                  s.backend().destroy(typename scene<TestType>::chunk_type{}));
    check_refused(s, verb::destroy, errc::unknown_chunk, s.backend().destroy(s.gone));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("destroy refuses a chunk whose handle was given up while it was mapped",
                        "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    const auto chunk = s.create(1);
    REQUIRE(ended(s.backend().map(s.at(12), chunk)) == "ok");
    CHECK(ended(s.backend().destroy(chunk)) == "ok");
    CHECK(ended(s.backend().destroy(chunk)) == ended(verb::destroy, errc::unknown_chunk));
    CHECK(ended(s.backend().map(s.at(13), chunk)) == ended(verb::map, errc::unknown_chunk));
    CHECK(ended(s.backend().unmap(s.at(12), s.units(1))) == "ok");
    check_refused(s, verb::destroy, errc::unknown_chunk, s.backend().destroy(chunk));
    s.dismantle();
}

// ---- map ----

TEMPLATE_LIST_TEST_CASE("map refuses a chunk that it does not know, whatever the address", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const typename scene<TestType>::chunk_type none{};
    for (const address where : {s.at(12), s.at(12) + bytes{1}, s.at(2), address{}}) {
        check_refused(s, verb::map, errc::unknown_chunk, s.backend().map(where, none));
        check_refused(s, verb::map, errc::unknown_chunk, s.backend().map(where, s.gone));
    }
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("map refuses an address that is no multiple of the granularity", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::map, errc::misaligned, s.backend().map(s.at(12) + bytes{1}, s.loose));
    check_refused(s, verb::map, errc::misaligned, s.backend().map(s.at(4) + s.half_unit(), s.loose));
    check_refused(s, verb::map, errc::misaligned, s.backend().map(address{} + bytes{1}, s.loose));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("map refuses a range that is not wholly inside one reservation", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const auto wide = s.create(2);
    const auto refuse = [&](address where) {
        CHECK(ended(s.backend().map(where, wide)) == ended(verb::map, errc::not_reserved));
    };
    refuse(s.at(15));                                      // its second unit lies beyond the end
    refuse(s.at(s.length));                                // just behind
    refuse(address{s.at(0).value() - s.units(1).count()}); // its first unit lies before the start
    refuse(address{});
    CHECK(ended(s.backend().destroy(wide)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("map refuses a range that overlaps a mapping", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const auto wide = s.create(2);
    for (const std::size_t unit :
         {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u}) // from before, exactly, from the middle, ...
        CHECK(ended(s.backend().map(s.at(unit), wide)) == ended(verb::map, errc::already_mapped));
    CHECK(ended(s.backend().destroy(wide)) == "ok");
    check_refused(s, verb::map, errc::already_mapped, s.backend().map(s.at(5), s.loose));
    check_refused(s, verb::map, errc::already_mapped, s.backend().map(s.at(4), s.one));
    s.dismantle();
}

// ---- set_access ----

TEMPLATE_LIST_TEST_CASE("set_access refuses a size of zero and an access that there is not", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::set_access, errc::invalid_argument,
                  s.backend().set_access(s.at(2), bytes{0}, access_mode::read));
    for (const int unknown : {3, 7, 255})
        check_refused(s, verb::set_access, errc::invalid_argument,
                      s.backend().set_access(s.at(2), s.units(2), static_cast<access_mode>(unknown)));
    s.dismantle();
}

// ---- set_access and unmap: what they have in common ----

/// Calls `check(range refused with code)` for both verbs.
template <class Scene>
void check_both_refuse(Scene& s, errc code, address where, bytes size) {
    for (const access_mode allowed : {access_mode::none, access_mode::read, access_mode::read_write})
        CHECK(ended(s.backend().set_access(where, size, allowed)) == ended(verb::set_access, code));
    CHECK(ended(s.backend().unmap(where, size)) == ended(verb::unmap, code));
    s.check_unchanged();
}

TEMPLATE_LIST_TEST_CASE("unmap refuses a size of zero", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    check_refused(s, verb::unmap, errc::invalid_argument, s.backend().unmap(s.at(2), bytes{0}));
    check_refused(s, verb::unmap, errc::invalid_argument, s.backend().unmap(address{}, bytes{0}));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("set_access and unmap refuse what is no multiple of the granularity", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_both_refuse(s, errc::misaligned, s.at(2) + bytes{1}, s.units(1));
    check_both_refuse(s, errc::misaligned, s.at(2), s.units(1) + bytes{1});
    check_both_refuse(s, errc::misaligned, s.at(2), s.half_unit());
    check_both_refuse(s, errc::misaligned, address{} + bytes{1}, s.units(1));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("set_access and unmap refuse a range that is not wholly reserved", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_both_refuse(s, errc::not_reserved, s.at(8), s.units(9));
    check_both_refuse(s, errc::not_reserved, s.at(s.length), s.units(1));
    check_both_refuse(s, errc::not_reserved, address{s.at(0).value() - s.units(1).count()}, s.units(6));
    check_both_refuse(s, errc::not_reserved, address{}, s.units(1));
    const bytes everything{std::numeric_limits<std::size_t>::max()};
    check_both_refuse(s, errc::not_reserved, s.at(2), whole(everything, s.units(1)));
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("set_access and unmap refuse a range with a hole", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_both_refuse(s, errc::not_mapped, s.at(0), s.units(1));
    check_both_refuse(s, errc::not_mapped, s.at(1), s.units(3));  // begins with one
    check_both_refuse(s, errc::not_mapped, s.at(2), s.units(8));  // one in the middle
    check_both_refuse(s, errc::not_mapped, s.at(4), s.units(3));  // ends with one
    check_both_refuse(s, errc::not_mapped, s.at(0), s.units(16)); // the whole reservation
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("set_access and unmap refuse to cut a mapping", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    check_both_refuse(s, errc::partial_mapping, s.at(2), s.units(1)); // its first half
    check_both_refuse(s, errc::partial_mapping, s.at(3), s.units(1)); // its second half
    check_both_refuse(s, errc::partial_mapping, s.at(3), s.units(2)); // its end and the next
    check_both_refuse(s, errc::partial_mapping, s.at(9), s.units(1));
    s.dismantle();
}

} // namespace vtensor::conformance
