// SPDX-License-Identifier: Apache-2.0
//
// When retiring pages are unmapped: behind which event, in which order, by which call, at what cost.
#include "retire_scene.hpp"

#include <optional>
#include <type_traits>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

template <class Scene>
auto make_range(Scene& scene, page_count limit = 8_pages, owner_id owner = owner_id{}) {
    using pool_type = std::remove_reference_t<decltype(scene.pool)>;
    return *retiring_range<pool_type>::create(scene.pool, limit, owner);
}

} // namespace

// Without streams there is nothing of it.
static_assert(std::is_same_v<page_range<chunk_pool<host_backend>>, mapped_range<chunk_pool<host_backend>>>);
static_assert(std::is_empty_v<chunk_pool<host_backend>::retire_queue_type>);
template <class Pool>
concept has_queue = requires(Pool& pool) {
    pool.retiring();
};
template <class Tensor>
concept retires = requires(Tensor& tensor, typename Tensor::stream_type stream) {
    tensor.retire(stream);
};
static_assert(has_queue<retire_pool> && !has_queue<chunk_pool<host_backend>>);
static_assert(retires<retire_tensor<>> && !retires<virtual_tensor<int, host_backend>>);

TEST_CASE("pages stay mapped until the work that was queued on them is done") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(4_pages));
    scene.write(range.start(), 0, 4 * page_words, 5);
    scene.read(scene.first, range.start(), 0, 4 * page_words, 5);
    const auto unmaps = scene.calls(verb::unmap);

    REQUIRE(range.retire_to(1_pages, scene.first));
    check_states(range, "arrr....");
    CHECK(range.accessible() == 1_pages);
    CHECK(range.mapped() == 1_pages);
    CHECK(range.retiring() == 3_pages);
    CHECK(scene.pages_in_use() == 4);

    REQUIRE(scene.queue().reclaim()); // the work has not begun
    check_states(range, "arrr....");
    CHECK(scene.device.step(scene.first)); // it is done, the event behind it is not
    REQUIRE(scene.queue().reclaim());
    check_states(range, "arrr....");
    CHECK(scene.calls(verb::unmap) == unmaps);
    scene.device.run(scene.first);
    check_states(range, "arrr...."); // nobody asked
    REQUIRE(scene.queue().reclaim());
    check_states(range, "a.......");
    CHECK(scene.calls(verb::unmap) == unmaps + 1); // one call for the run
    CHECK(scene.pages_in_use() == 1);
    CHECK(scene.pool.stats().free == 3 * retire_page);
    CHECK(scene.device.host_waits() == 0);
}

TEST_CASE("what is queued after the retirement does not hold the pages") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(4_pages));
    scene.device.launch(scene.first, range.start(), 16_KiB);
    REQUIRE(range.retire_to(2_pages, scene.first));
    scene.device.launch(scene.first, range.start(), 8_KiB);
    scene.device.step(scene.first);
    scene.device.step(scene.first);
    CHECK(scene.device.queued() == 1);
    REQUIRE(scene.queue().reclaim());
    check_states(range, "aa......");
    scene.device.run_all();
}

TEST_CASE("retiring nothing records no event") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(2_pages));
    REQUIRE(range.retire_to(2_pages, scene.first));
    REQUIRE(range.retire_to(5_pages, scene.first));
    CHECK(scene.calls(verb::record) == 0);
    CHECK(scene.calls(verb::create_event) == 0);
    CHECK(scene.queue().stats().retired == 0);
    check_states(range, "aa......");
}

TEST_CASE("pages of one stream leave in the order in which they retired, with one question each") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(6_pages));
    for (const std::size_t kept : {4u, 2u, 0u}) {
        scene.device.launch(scene.first, range.start(), kept * retire_page + retire_page);
        REQUIRE(range.retire_to(page_count{kept}, scene.first));
    }
    CHECK(scene.queue().stats().pending == 3);
    auto queries = scene.calls(verb::query);
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.calls(verb::query) == queries + 1); // the first is not done, so the others are not asked
    check_states(range, "rrrrrr..");

    scene.device.step(scene.first);
    scene.device.step(scene.first);
    queries = scene.calls(verb::query);
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.calls(verb::query) == queries + 2);
    check_states(range, "rrrr....");
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    check_states(range, "........");
    CHECK(scene.queue().stats().pending == 0);
}

TEST_CASE("streams are done in any order, and hold only their own pages") {
    retire_scene scene;
    auto one = make_range(scene);
    auto other = make_range(scene);
    REQUIRE(one.grow_to(4_pages));
    REQUIRE(other.grow_to(4_pages));
    scene.device.launch(scene.first, one.start() + 2 * retire_page, 8_KiB);
    REQUIRE(one.retire_to(2_pages, scene.first));
    scene.device.launch(scene.second, other.start(), 16_KiB);
    REQUIRE(other.retire_to(1_pages, scene.second));
    scene.device.launch(scene.second, one.start(), 8_KiB);
    REQUIRE(one.retire_to(0_pages, scene.second));

    scene.device.run(scene.second);
    REQUIRE(scene.queue().reclaim());
    check_states(other, "a.......");
    check_states(one, "..rr....");
    scene.device.run(scene.first);
    REQUIRE(scene.queue().reclaim());
    check_states(one, "........");
}

TEST_CASE("streams that cannot be compared hold only their own pages too") {
    retire_scene_of<opaque_stream> scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(6_pages));
    scene.device.launch(scene.first, range.start() + 4 * retire_page, 8_KiB);
    REQUIRE(range.retire_to(4_pages, scene.first));
    REQUIRE(range.retire_to(3_pages, scene.second));
    REQUIRE(range.retire_to(1_pages, scene.first));
    scene.device.run(scene.second);
    REQUIRE(scene.queue().reclaim());
    check_states(range, "arr.rr..");
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    check_states(range, "a.......");
    CHECK(scene.queue().stats().events == 3);
}

TEST_CASE("in steady state events are used again, and nothing is created") {
    retire_scene scene{{}, {}};
    auto range = make_range(scene, 64_pages);
    for (int round = 0; round < 50; ++round) {
        REQUIRE(range.grow_to(64_pages));
        for (std::size_t kept = 60; kept > 0; kept -= 20) {
            scene.device.launch(scene.first, range.start(), 64 * retire_page);
            REQUIRE(range.retire_to(page_count{kept - 20}, scene.first));
        }
        scene.device.run_all();
        REQUIRE(scene.queue().reclaim());
    }
    CHECK(scene.calls(verb::record) == 150);
    CHECK(scene.calls(verb::create_event) == 3);
    CHECK(scene.calls(verb::create) == 64);
    CHECK(scene.calls(verb::query) == 150);
    CHECK(scene.device.events() == 3);
    CHECK(scene.queue().stats().events == 3);
}

TEST_CASE("reclaiming can stop when enough is back, and goes on later") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(8_pages));
    for (const std::size_t kept : {6u, 3u, 0u})
        REQUIRE(range.retire_to(page_count{kept}, scene.first));
    scene.device.run_all();
    page_count reclaimed{};
    REQUIRE(scene.queue().reclaim(1_pages, reclaimed));
    CHECK(reclaimed == 2_pages); // a run goes as a whole
    check_states(range, "rrrrrr..");
    CHECK(scene.queue().stats().due == 6);
    const auto queries = scene.calls(verb::query);
    reclaimed = {};
    REQUIRE(scene.queue().reclaim(4_pages, reclaimed));
    CHECK(reclaimed == 6_pages);
    CHECK(scene.calls(verb::query) == queries); // what is due is not asked again
    check_states(range, "........");
}

TEST_CASE("waiting for the oldest waits for it alone") {
    retire_scene scene;
    auto range = make_range(scene);
    CHECK_FALSE(*scene.queue().wait_oldest());
    REQUIRE(range.grow_to(6_pages));
    scene.device.launch(scene.first, range.start(), 24_KiB);
    REQUIRE(range.retire_to(4_pages, scene.first));
    scene.device.launch(scene.second, range.start(), 16_KiB);
    REQUIRE(range.retire_to(2_pages, scene.second));
    CHECK(*scene.queue().wait_oldest());
    check_states(range, "aarr....");
    CHECK(scene.device.host_waits() == 1);
    CHECK(scene.device.queued() == 2);
    CHECK(*scene.queue().wait_oldest());
    check_states(range, "aa......");
    CHECK_FALSE(*scene.queue().wait_oldest());
    CHECK(scene.device.host_waits() == 2);
}

TEST_CASE("nobody waits for work that keeps only pages which were taken back") {
    retire_scene scene;
    auto range = make_range(scene);
    auto other = make_range(scene);
    REQUIRE(range.grow_to(4_pages));
    REQUIRE(other.grow_to(2_pages));
    scene.device.launch(scene.first, range.start(), 16_KiB);
    REQUIRE(range.retire_to(2_pages, scene.first));
    REQUIRE(range.grow_to(4_pages));
    CHECK_FALSE(*scene.queue().wait_oldest());
    REQUIRE(scene.queue().drain());
    CHECK(scene.device.host_waits() == 0);
    scene.device.launch(scene.second, other.start(), 8_KiB);
    REQUIRE(other.retire_to(0_pages, scene.second));
    CHECK(*scene.queue().wait_oldest());
    check_states(other, "........");
    CHECK(scene.device.queued() == 2); // the first stream's work and its event
    scene.device.run_all();
}

TEST_CASE("draining waits for all that is queued") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(scene.queue().drain());
    REQUIRE(range.grow_to(6_pages));
    scene.device.launch(scene.first, range.start(), 24_KiB);
    REQUIRE(range.retire_to(4_pages, scene.first));
    scene.device.launch(scene.second, range.start(), 16_KiB);
    REQUIRE(range.retire_to(1_pages, scene.second));
    scene.device.launch(scene.second, range.start(), 4_KiB);
    REQUIRE(scene.queue().drain());
    check_states(range, "a.......");
    CHECK(scene.device.queued() == 1); // it reads what is still there
    scene.device.run_all();
}

TEST_CASE("a backend that fails to answer or to unmap loses nothing") {
    retire_scene scene;
    auto range = make_range(scene);
    auto other = make_range(scene);
    REQUIRE(range.grow_to(4_pages));
    REQUIRE(other.grow_to(2_pages));
    REQUIRE(range.retire_to(2_pages, scene.first));
    REQUIRE(other.retire_to(0_pages, scene.second));
    scene.device.run_all();
    SECTION("a query, while the other stream is asked all the same") {
        scene.backend.fail_call(1, errc::native_failure, {verb::query});
        CHECK(scene.queue().reclaim().code() == errc::native_failure);
        check_states(range, "aarr....");
        check_states(other, "........");
    }
    SECTION("an unmap, while the other run is unmapped all the same") {
        scene.backend.fail_call(1, errc::native_failure, {verb::unmap});
        const status outcome = scene.queue().reclaim();
        CHECK(outcome.code() == errc::native_failure);
        CHECK(outcome.error().where == verb::unmap);
        check_states(range, "aarr....");
        check_states(other, "........");
        CHECK(scene.queue().stats().due == 2);
    }
    SECTION("a wait") {
        REQUIRE(range.retire_to(0_pages, scene.first));
        scene.backend.fail_call(1, errc::native_failure, {verb::wait});
        CHECK(scene.queue().wait_oldest().code() == errc::native_failure);
        CHECK(range.retiring() == 4_pages);
        scene.backend.fail_call(1, errc::native_failure, {verb::wait});
        CHECK(scene.queue().drain().code() == errc::native_failure);
        CHECK(range.retiring() == 4_pages);
        scene.backend.disarm();
        REQUIRE(scene.queue().drain());
        REQUIRE(range.grow_to(2_pages));
    }
    scene.backend.disarm();
    scene.check_sound();
    REQUIRE(scene.queue().reclaim());
    check_states(range, "aa......");
    check_states(other, "........");
}
