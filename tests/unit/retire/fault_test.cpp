// SPDX-License-Identifier: Apache-2.0
//
// Every operation on retiring pages with its backend calls failing, one after another, alone and with the
// call after it. After each failure the pages are in the states they were in, nothing was taken from under
// queued work, and the next attempt works.
#include "retire_scene.hpp"

#include "support/error_codes.hpp"
#include "support/fault_loop.hpp"
#include "support/sanitizers.hpp"

#include <algorithm>
#include <string>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

struct faulty_scene : retire_scene {
    retire_range range = *retire_range::create(pool, 12_pages, owner_id{});

    /// Nothing is mapped, queued or kept.
    void clear() {
        device.run_all();
        REQUIRE(range.shrink_to(0_pages));
        REQUIRE(queue().drain());
        REQUIRE(pool.trim());
    }
    /// `a`, then three pages reserved, then two that retire behind a kernel, then nothing.
    void make_holes() {
        clear();
        REQUIRE(range.grow_to(8_pages));
        write(range.start(), 0, 8 * page_words, 6);
        read(first, range.start(), 4 * page_words, 6 * page_words, 6);
        REQUIRE(range.retire_to(6_pages, second));
        REQUIRE(range.retire_to(4_pages, first));
        REQUIRE(range.retire_to(1_pages, second));
        device.run(second);
        REQUIRE(queue().reclaim());
        REQUIRE(pool.trim());
        check_states(range, "a...rr......");
    }
    /// Eight pages, of which 2 to 5 were revived and are still read on the first stream.
    void make_revived() {
        clear();
        REQUIRE(range.grow_to(6_pages));
        write(range.start(), 0, 6 * page_words, 6);
        read(first, range.start(), 2 * page_words, 6 * page_words, 6);
        REQUIRE(range.retire_to(2_pages, first));
        REQUIRE(range.grow_to(8_pages));
        check_states(range, "aaaaaaaa....");
    }
};

struct figures {
    std::string pages;
    bytes in_use;
    bytes created;
    bytes mapped;
    std::size_t retiring;
    std::size_t queued;
    friend bool operator==(const figures&, const figures&) = default;
};
figures figures_of(faulty_scene& scene) {
    return {states(scene.range),       scene.pool.stats().in_use,      scene.pool.stats().created,
            scene.host.mapped_bytes(), scene.queue().stats().retiring, scene.device.queued()};
}

std::vector<errc> codes() {
    if (any_sanitizer)
        return {errc::out_of_memory, errc::native_failure};
    return every_error_code();
}

/// The fault loop for one operation from one state, with every code. `expected`: what the operation leads to.
/// How many calls were made to fail, at the least.
template <class Prepare, class Operate>
std::size_t loop(Prepare prepare, Operate operate, const std::string& expected) {
    std::size_t fewest = ~std::size_t{0};
    for (const errc code : codes()) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            faulty_scene scene;
            prepare(scene);
            const figures before = figures_of(scene);
            status last;
            const auto run = [&] {
                last = operate(scene);
                return last.ok();
            };
            const std::size_t met = for_each_failing_call(
                scene.backend, run,
                [&](std::size_t) {
                    CHECK(last.code() == code);
                    CHECK(figures_of(scene).pages == before.pages);
                    CHECK(figures_of(scene) == before);
                    check_states(scene.range, before.pages);
                    scene.check_sound();
                    REQUIRE(run());
                    check_states(scene.range, expected);
                    prepare(scene);
                },
                [&] {
                    check_states(scene.range, expected);
                    scene.check_sound();
                    prepare(scene);
                },
                code, length);
            check_states(scene.range, expected);
            fewest = std::min(fewest, met);
            scene.device.run_all();
        }
    }
    return fewest;
}

} // namespace

TEST_CASE("retiring is all or nothing whichever backend call fails") {
    // The first time an event is created; it is kept where recording it fails.
    for (const errc code : codes()) {
        retire_scene scene;
        auto range = *retire_range::create(scene.pool, 4_pages, owner_id{});
        REQUIRE(range.grow_to(3_pages));
        scene.device.launch(scene.first, range.start(), 3 * retire_page);
        status last;
        const std::size_t met = for_each_failing_call(
            scene.backend,
            [&] {
                last = range.retire_to(1_pages, scene.first);
                return last.ok();
            },
            [&](std::size_t) {
                CHECK(last.code() == code);
                check_states(range, "aaa.");
                CHECK(scene.queue().stats().pending == 0);
            },
            code);
        CHECK(met == 2);
        CHECK(scene.calls(verb::create_event) == 1);
        check_states(range, "arr.");
        scene.device.run_all();
    }
}

TEST_CASE("retiring what was revived is all or nothing whichever backend call fails") {
    const auto retire = [](faulty_scene& scene) {
        // What its readers' stream was asked to wait for may be queued by an attempt that fails later.
        scene.device.run(scene.second);
        return scene.range.retire_to(1_pages, scene.second);
    };
    const auto prepare = [](faulty_scene& scene) { scene.make_revived(); };
    for (const errc code : codes()) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            faulty_scene scene;
            prepare(scene);
            status last;
            const std::size_t met = for_each_failing_call(
                scene.backend,
                [&] {
                    last = retire(scene);
                    return last.ok();
                },
                [&](std::size_t) {
                    CHECK(last.code() == code);
                    check_states(scene.range, "aaaaaaaa....");
                    scene.check_sound();
                },
                [&] { prepare(scene); }, // a question about earlier events may fail: then they are waited for
                code, length);
            CHECK(met >= 3);
            check_states(scene.range, "arrrrrrr....");
            scene.device.run_all();
            REQUIRE(scene.queue().reclaim());
            check_states(scene.range, "a...........");
        }
    }
}

TEST_CASE("growing over retiring pages is all or nothing whichever backend call fails") {
    const auto prepare = [](faulty_scene& scene) { scene.make_holes(); };
    const auto grow = [](faulty_scene& scene) { return scene.range.grow_to(9_pages); };
    // Two gaps of three pages: six creates, six maps, two set_access.
    CHECK(loop(prepare, grow, "aaaaaaaaa...") >= 14);
}

TEST_CASE("growing over retiring pages alone calls nothing that could fail") {
    const auto prepare = [](faulty_scene& scene) {
        scene.make_revived();
        REQUIRE(scene.range.shrink_to(2_pages));
        check_states(scene.range, "aarrrr......");
    };
    const auto grow = [](faulty_scene& scene) { return scene.range.grow_to(6_pages); };
    CHECK(loop(prepare, grow, "aaaaaa......") == 0);
}

TEST_CASE("shrinking over revived pages fails only where it cannot even be queued") {
    const auto prepare = [](faulty_scene& scene) { scene.make_revived(); };
    for (const errc code : codes()) {
        faulty_scene scene;
        prepare(scene);
        const std::size_t met = for_each_failing_call(
            scene.backend, [&] { return scene.range.shrink_to(1_pages).ok(); },
            [&](std::size_t) { FAIL("it failed"); },
            [&] {
                // Asking the event, or unmapping one of the two runs that nobody reads.
                CHECK(scene.range.mapped() == 1_pages);
                CHECK(scene.range.verify());
                scene.check_sound();
                CHECK(scene.range.retiring() >= 4_pages);
                REQUIRE(scene.queue().reclaim());
                check_states(scene.range, "a.rrrr......");
                prepare(scene);
            },
            code);
        CHECK(met == 3);
        check_states(scene.range, "a.rrrr......");
        scene.device.run_all();
    }
}

TEST_CASE("reclaiming and draining lose nothing whichever backend call fails") {
    const auto prepare = [](faulty_scene& scene) {
        scene.clear();
        REQUIRE(scene.range.grow_to(8_pages));
        scene.device.launch(scene.first, scene.range.start() + 6 * retire_page, 2 * retire_page);
        REQUIRE(scene.range.retire_to(6_pages, scene.first));
        scene.device.launch(scene.second, scene.range.start() + 4 * retire_page, 2 * retire_page);
        REQUIRE(scene.range.retire_to(4_pages, scene.second));
        scene.device.launch(scene.first, scene.range.start() + 2 * retire_page, 2 * retire_page);
        REQUIRE(scene.range.retire_to(2_pages, scene.first));
    };
    const bool drains = GENERATE(false, true);
    for (const errc code : codes()) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            faulty_scene scene;
            prepare(scene);
            const std::size_t met = for_each_failing_call(
                scene.backend,
                [&] {
                    if (!drains)
                        scene.device.run_all();
                    return (drains ? scene.queue().drain() : scene.queue().reclaim()).ok();
                },
                [&](std::size_t) {
                    CHECK(scene.range.verify());
                    scene.check_sound();
                    if (!drains)
                        scene.device.run_all();
                    REQUIRE((drains ? scene.queue().drain() : scene.queue().reclaim()));
                    check_states(scene.range, "aa..........");
                    prepare(scene);
                },
                code, length);
            CHECK(met >= 4); // two or three questions or waits, and the unmapping
            check_states(scene.range, "aa..........");
        }
    }
}

TEST_CASE("pages that a growth over retiring ones cannot give back stay mapped, and the readers' safe") {
    faulty_scene scene;
    scene.make_holes();
    std::size_t maps = 0;
    scene.backend.fail_if([&maps](const adaptors::call& seen) {
        return seen.what == verb::unmap || (seen.what == verb::map && ++maps == 5);
    });
    CHECK(scene.range.grow_to(9_pages).code() == errc::out_of_memory);
    scene.backend.disarm();
    // 6 was mapped last and cannot be unmapped: what lies below it stays, 4 and 5 among it.
    CHECK(states(scene.range) == "ammmmmm.....");
    CHECK(scene.range.verify());
    scene.check_sound();
    SECTION("the next growth opens them") {
        REQUIRE(scene.range.grow_to(8_pages));
        check_states(scene.range, "aaaaaaaa....");
        REQUIRE(scene.range.shrink_to(1_pages));
        check_states(scene.range, "a...rr......");
    }
    SECTION("the next growth fails too, and unmaps what nobody reads") {
        scene.backend.fail_call(1, errc::out_of_memory, {verb::set_access});
        CHECK_FALSE(scene.range.grow_to(3_pages));
        scene.backend.disarm();
        check_states(scene.range, "a...rr......");
    }
    SECTION("shrinking unmaps what nobody reads") {
        REQUIRE(scene.range.shrink_to(1_pages));
        check_states(scene.range, "a...rr......");
    }
    SECTION("they retire, and come back accessible") {
        REQUIRE(scene.range.retire_to(0_pages, scene.second));
        CHECK(states(scene.range) == "rrrrrrr.....");
        REQUIRE(scene.range.grow_to(7_pages));
        check_states(scene.range, "aaaaaaa.....");
        scene.write(scene.range.start(), 6 * page_words, 7 * page_words, 3); // the one that never was open
        REQUIRE(scene.range.retire_to(6_pages, scene.second));
        scene.device.run_all();
        REQUIRE(scene.queue().reclaim());
        check_states(scene.range, "aaaaaa......");
    }
    SECTION("the range goes") { auto gone = std::move(scene.range); }
    scene.device.run_all();
}
