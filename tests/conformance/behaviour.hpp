// SPDX-License-Identifier: Apache-2.0
//
// What every backend does, one test case a sentence. Part of conformance.hpp.
#pragma once

#include <conformance/scene.hpp>
#include <support/catch.hpp>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace vtensor::conformance {

TEMPLATE_LIST_TEST_CASE("the granularity is a power of two and does not change", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    const std::size_t unit = s.units(1).count();
    CHECK(unit != 0);
    CHECK((unit & (unit - 1)) == 0);
    s.dismantle();
    CHECK(s.backend().granularity() == bytes{unit});
}

TEMPLATE_LIST_TEST_CASE("what is reserved is aligned, takes no memory, and faults when touched",
                        "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    const auto before = s.physical_bytes();
    for (const std::size_t align : {0u, 1u, 2u, 8u, 64u}) {
        const bytes size = s.units(1000);
        const auto where = s.backend().reserve(size, s.units(align));
        REQUIRE(ended(where) == "ok");
        CHECK_FALSE(where->is_null());
        CHECK(where->is_multiple_of(s.units(align == 0 ? 1 : align)));
        CHECK(s.faults(*where, access_mode::read));
        CHECK(s.faults(*where + (size - bytes{1}), access_mode::read));
        CHECK(s.physical_bytes() == before);
        CHECK(ended(s.backend().release(*where, size)) == "ok");
    }
    const auto tiny_alignment = s.backend().reserve(s.units(1), bytes{1});
    REQUIRE(ended(tiny_alignment) == "ok");
    CHECK(tiny_alignment->is_multiple_of(s.units(1)));
    CHECK(ended(s.backend().release(*tiny_alignment, s.units(1))) == "ok");
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("reservations do not overlap", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    std::vector<address> starts{s.at(0)};
    for (int count = 0; count < 20; ++count) {
        const auto where = s.backend().reserve(s.units(s.length), bytes{0});
        REQUIRE(ended(where) == "ok");
        for (const address other : starts)
            CHECK((other + s.units(s.length) <= *where || *where + s.units(s.length) <= other));
        starts.push_back(*where);
    }
    for (std::size_t index = 1; index < starts.size(); ++index)
        CHECK(ended(s.backend().release(starts[index], s.units(s.length))) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("mapped memory faults until access is set, and again when it is taken away",
                        "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    REQUIRE(ended(s.backend().map(s.at(12), s.loose)) == "ok");
    CHECK(s.faults(s.at(12), access_mode::read));
    CHECK(s.faults(s.at(12), access_mode::read_write));

    CHECK(ended(s.backend().set_access(s.at(12), s.units(1), access_mode::read_write)) == "ok");
    CHECK(s.may_touch(s.at(12), access_mode::read_write));
    s.fill(s.at(12), 1, 77);
    CHECK(s.holds(s.at(12), 1, 77));

    CHECK(ended(s.backend().set_access(s.at(12), s.units(1), access_mode::read)) == "ok");
    CHECK(s.may_touch(s.at(12), access_mode::read));
    CHECK(s.faults(s.at(12), access_mode::read_write));
    CHECK(s.holds(s.at(12), 1, 77));

    CHECK(ended(s.backend().set_access(s.at(12), s.units(1), access_mode::none)) == "ok");
    CHECK(s.faults(s.at(12), access_mode::read));
    CHECK(ended(s.backend().set_access(s.at(12), s.units(1), access_mode::read)) == "ok");
    CHECK(s.holds(s.at(12), 1, 77));

    CHECK(ended(s.backend().unmap(s.at(12), s.units(1))) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("set_access spans many mappings and whatever access each had", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    CHECK(ended(s.backend().set_access(s.at(2), s.units(4), access_mode::read)) == "ok");
    for (const std::size_t unit : {2u, 3u, 4u, 5u}) {
        CHECK(s.may_touch(s.at(unit), access_mode::read));
        CHECK(s.faults(s.at(unit), access_mode::read_write));
    }
    CHECK(ended(s.backend().set_access(s.at(2), s.units(3), access_mode::read_write)) == "ok");
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::none)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("access can be taken away where there was none, and given afterwards",
                        "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::none)) == "ok");
    CHECK(s.faults(s.at(5), access_mode::read));
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::read_write)) == "ok");
    s.fill(s.at(5), 1, 5);
    CHECK(s.holds(s.at(5), 1, 5));
    CHECK(ended(s.backend().unmap(s.at(5), s.units(1))) == "ok"); // the bytes are the chunk's
    CHECK(ended(s.backend().map(s.at(5), s.closed)) == "ok");
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::read)) == "ok");
    CHECK(s.holds(s.at(5), 1, 5));
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::none)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("access is not inherited: a page mapped again has none", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    CHECK(ended(s.backend().unmap(s.at(4), s.units(1))) == "ok");
    CHECK(s.faults(s.at(4), access_mode::read)); // reserved again
    CHECK(ended(s.backend().map(s.at(4), s.one)) == "ok");
    CHECK(s.faults(s.at(4), access_mode::read)); // mapped, not accessible
    CHECK(ended(s.backend().set_access(s.at(4), s.units(1), access_mode::read_write)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("what was written follows the chunk to another address", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    CHECK(ended(s.backend().unmap(s.at(2), s.units(2))) == "ok");
    CHECK(ended(s.backend().map(s.at(12), s.pair)) == "ok");
    CHECK(ended(s.backend().set_access(s.at(12), s.units(2), access_mode::read)) == "ok");
    CHECK(s.holds(s.at(12), 2, 2));
    CHECK(ended(s.backend().unmap(s.at(12), s.units(2))) == "ok");
    CHECK(ended(s.backend().map(s.at(2), s.pair)) == "ok");
    CHECK(ended(s.backend().set_access(s.at(2), s.units(2), access_mode::read_write)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("unmap takes several neighbours at once and leaves the others", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    CHECK(ended(s.backend().unmap(s.at(2), s.units(3))) == "ok"); // pair and one, not closed
    CHECK(s.faults(s.at(2), access_mode::read));
    CHECK(s.faults(s.at(4), access_mode::read));
    CHECK(ended(s.backend().unmap(s.at(2), s.units(1))) == ended(verb::unmap, errc::not_mapped));
    CHECK(ended(s.backend().set_access(s.at(5), s.units(1), access_mode::read)) == "ok"); // still mapped
    CHECK(ended(s.backend().unmap(s.at(5), s.units(1))) == "ok");
    CHECK(s.holds(s.at(8), 2, 8));
    CHECK(ended(s.backend().map(s.at(4), s.one)) == "ok"); // put it back, in another order
    CHECK(ended(s.backend().map(s.at(5), s.closed)) == "ok");
    CHECK(ended(s.backend().map(s.at(2), s.pair)) == "ok");
    CHECK(ended(s.backend().set_access(s.at(2), s.units(3), access_mode::read_write)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("a chunk destroyed while mapped keeps its memory until it is unmapped",
                        "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    const auto before = s.physical_bytes();
    const auto chunk = s.create(2);
    const auto with_chunk = s.physical_bytes();
    if (before)
        CHECK(*with_chunk == *before + s.units(2));
    REQUIRE(ended(s.backend().map(s.at(12), chunk)) == "ok");
    REQUIRE(ended(s.backend().set_access(s.at(12), s.units(2), access_mode::read_write)) == "ok");
    s.fill(s.at(12), 2, 12);

    CHECK(ended(s.backend().destroy(chunk)) == "ok");
    CHECK(s.holds(s.at(12), 2, 12));
    CHECK(s.physical_bytes() == with_chunk);
    const auto other = s.create(2); // new memory, not the one that is still in use
    REQUIRE(ended(s.backend().map(s.at(14), other)) == "ok");
    REQUIRE(ended(s.backend().set_access(s.at(14), s.units(2), access_mode::read_write)) == "ok");
    s.fill(s.at(14), 2, 14);
    CHECK(s.holds(s.at(12), 2, 12));

    CHECK(ended(s.backend().unmap(s.at(12), s.units(4))) == "ok");
    CHECK(ended(s.backend().destroy(other)) == "ok");
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("freed memory can be created again, as often as one likes", "[conformance]",
                        conformance_fixtures) {
    scene<TestType> s;
    for (int round = 0; round < 20; ++round) {
        std::vector<typename scene<TestType>::chunk_type> chunks;
        for (std::size_t size = 1; size <= 4; ++size)
            chunks.push_back(s.create(size));
        for (const auto& chunk : chunks)
            CHECK(ended(s.backend().destroy(chunk)) == "ok");
    }
    s.check_unchanged();
    s.dismantle();
}

TEMPLATE_LIST_TEST_CASE("two backends do not know each other", "[conformance]", conformance_fixtures) {
    scene<TestType> first;
    TestType second;
    auto& other = second.backend();
    CHECK(ended(other.release(first.at(0), first.units(16))) == ended(verb::release, errc::not_reserved));
    CHECK(ended(other.unmap(first.at(2), first.units(2))) == ended(verb::unmap, errc::not_reserved));
    CHECK(ended(other.set_access(first.at(2), first.units(2), access_mode::none)) ==
          ended(verb::set_access, errc::not_reserved));
    first.check_unchanged();
    first.dismantle();
}

TEMPLATE_LIST_TEST_CASE("verbs may be called from any thread", "[conformance]", conformance_fixtures) {
    scene<TestType> s;
    constexpr std::size_t threads = 4;
    std::atomic<int> failures{0};
    {
        std::vector<std::thread> running;
        for (std::size_t index = 0; index < threads; ++index) {
            running.emplace_back([&s, &failures, index] {
                auto& backend = s.backend();
                for (int round = 0; round < 100; ++round) {
                    const auto where = backend.reserve(s.units(4), bytes{0});
                    const auto chunk = backend.create(s.units(2));
                    const auto wide = where && chunk;
                    const bool worked =
                        wide && backend.map(*where + s.units(1), *chunk) &&
                        backend.set_access(*where + s.units(1), s.units(2), access_mode::read_write) &&
                        backend.destroy(*chunk) && backend.unmap(*where + s.units(1), s.units(2)) &&
                        backend.release(*where, s.units(4)) &&
                        // the shared scene refuses everyone alike
                        backend.map(s.at(2 + index), s.loose).code() == errc::already_mapped;
                    failures += worked ? 0 : 1;
                }
            });
        }
        for (std::thread& thread : running)
            thread.join();
    }
    CHECK(failures == 0);
    s.check_unchanged();
    s.dismantle();
}

} // namespace vtensor::conformance
