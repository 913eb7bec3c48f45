// SPDX-License-Identifier: Apache-2.0
//
// Growing while memory is short and pages retire: what is done is reclaimed before a shortage is reported,
// and where the pool says so, what is not done is waited for.
#include "retire_scene.hpp"

using namespace vtensor;
using namespace vtensor::testing;

TEST_CASE("chunks of pages whose retirement is over are used before new ones are created") {
    retire_scene scene;
    retire_tensor<> one{scene.pool, {page_words}, 8};
    retire_tensor<> other{scene.pool, {page_words}, 8};
    one.append(4);
    one.retire(scene.first);
    scene.device.run_all();
    other.append(3);
    CHECK(scene.calls(verb::create) == 4);
    CHECK(one.retiring_bytes() == 0_B);
    CHECK(scene.pool.stats().free == retire_page);
    REQUIRE(scene.pool.prefill(3));
    CHECK(scene.calls(verb::create) == 6);
}

TEST_CASE("what is not done does not keep a growth from creating chunks") {
    retire_scene scene;
    retire_tensor<> one{scene.pool, {page_words}, 8};
    retire_tensor<> other{scene.pool, {page_words}, 8};
    one.append(4);
    scene.device.launch(scene.first, address{one.data()}, 4 * retire_page);
    one.retire(scene.first);
    other.append(3);
    CHECK(scene.calls(verb::create) == 7);
    CHECK(scene.device.host_waits() == 0);
    scene.device.run_all();
}

TEST_CASE("a shortage is reported when nothing is left that is done") {
    const auto short_of = GENERATE(errc::limit_exceeded, errc::out_of_memory, errc::too_many_mappings);
    chunk_pool_options options;
    host_options machine;
    if (short_of == errc::limit_exceeded)
        options.limit = 6 * retire_page;
    if (short_of == errc::out_of_memory)
        machine.capacity = 6 * retire_page;
    if (short_of == errc::too_many_mappings)
        machine.max_mappings = 6;
    CAPTURE(name(short_of));

    SECTION("without waiting") {
        retire_scene scene{options, machine};
        retire_tensor<> one{scene.pool, {page_words}, 8};
        retire_tensor<> other{scene.pool, {page_words}, 8};
        one.append(4);
        scene.device.launch(scene.first, address{one.data()} + 2 * retire_page, 2 * retire_page);
        one.resize(2, scene.first);
        scene.device.launch(scene.second, address{one.data()}, 2 * retire_page);
        one.retire(scene.second);

        other.append(2);
        CHECK(other.try_append(1).code() == short_of);
        scene.device.run(scene.second);
        other.append(2);
        CHECK(other.try_append(1).code() == short_of);
        CHECK(other.rows() == 4);
        CHECK(one.retiring_bytes() == 2 * retire_page);
        scene.device.run_all();
        other.append(2);
        CHECK(one.retiring_bytes() == 0_B);
        CHECK(other.try_append(1).code() == short_of);
        CHECK(scene.device.host_waits() == 0);
        CHECK(other.verify());
    }
    SECTION("waiting, the oldest first, for as much as is needed") {
        options.wait_for_retiring = true;
        retire_scene scene{options, machine};
        retire_tensor<> one{scene.pool, {page_words}, 8};
        retire_tensor<> other{scene.pool, {page_words}, 8};
        one.append(5);
        for (const std::size_t rows : {4u, 2u, 0u}) {
            scene.device.launch(scene.first, address{one.data()}, retire_page);
            one.resize(rows, scene.first);
        }
        other.append(3);
        CHECK(scene.device.host_waits() == 2);
        CHECK(one.retiring_bytes() == 2 * retire_page);
        CHECK(scene.device.queued() == 2);
        other.append(3);
        CHECK(scene.device.host_waits() == 3);
        CHECK(other.try_append(1).code() == short_of);
        CHECK(other.rows() == 6);
        CHECK(other.verify());
    }
    SECTION("waiting for nothing that a failed wait keeps") {
        options.wait_for_retiring = true;
        retire_scene scene{options, machine};
        retire_tensor<> one{scene.pool, {page_words}, 8};
        retire_tensor<> other{scene.pool, {page_words}, 8};
        one.append(5);
        scene.device.launch(scene.first, address{one.data()}, retire_page);
        one.retire(scene.first);
        scene.backend.fail_from(1, errc::native_failure, {verb::wait});
        CHECK(other.try_append(3).code() == short_of);
        scene.backend.disarm();
        CHECK(other.rows() == 0);
        CHECK(one.retiring_bytes() == 5 * retire_page);
        other.append(3);
    }
}

TEST_CASE(
    "mappings of pages whose retirement is over are given up where mappings are short and chunks are not") {
    retire_scene scene{{}, {.max_mappings = 6}};
    REQUIRE(scene.pool.prefill(8));
    retire_tensor<> one{scene.pool, {page_words}, 8};
    retire_tensor<> other{scene.pool, {page_words}, 8};
    one.append(4);
    scene.device.launch(scene.first, address{one.data()}, 4 * retire_page);
    one.retire(scene.first);
    CHECK(other.try_append(3).code() == errc::too_many_mappings);
    CHECK(one.retiring_bytes() == 4 * retire_page);
    scene.device.run_all();
    other.append(3);
    CHECK(one.retiring_bytes() == 0_B);
}

TEST_CASE("a limit may be lowered below chunks whose retirement is over") {
    retire_scene scene;
    retire_tensor<> tensor{scene.pool, {page_words}, 8};
    tensor.append(5);
    scene.device.launch(scene.first, address{tensor.data()}, 5 * retire_page);
    tensor.resize(2, scene.first);
    CHECK(scene.pool.resize_limit(3 * retire_page).code() == errc::limit_exceeded);
    scene.device.run_all();
    REQUIRE(scene.pool.resize_limit(3 * retire_page));
    CHECK(scene.pool.stats().created == 3 * retire_page);
    CHECK(tensor.retiring_bytes() == 0_B);
}

TEST_CASE("a wish of the growth policy is not waited for") {
    retire_scene scene{{.limit = 6 * retire_page, .wait_for_retiring = true}};
    retire_tensor<> one{scene.pool, {page_words}, 8};
    retire_tensor<growth::fixed<4>> other{scene.pool, {page_words}, 8};
    one.append(4);
    scene.device.launch(scene.first, address{one.data()}, 4 * retire_page);
    one.retire(scene.first);
    other.append(2);
    CHECK(scene.device.host_waits() == 0);
    CHECK(other.mapped_bytes() == 2 * retire_page);
    other.append(1);
    CHECK(scene.device.host_waits() == 1);
    CHECK(other.rows() == 3);
}

TEST_CASE("a growth that takes pages back and is short of others lets them retire again") {
    retire_scene scene{{.limit = 6 * retire_page}};
    retire_tensor<> one{scene.pool, {page_words}, 12};
    one.append(6);
    scene.device.launch(scene.first, address{one.data()}, 6 * retire_page);
    one.resize(2, scene.first);
    CHECK(one.try_resize(7).code() == errc::limit_exceeded);
    CHECK(one.rows() == 2);
    CHECK(one.mapped_bytes() == 2 * retire_page);
    CHECK(one.retiring_bytes() == 4 * retire_page);
    CHECK(one.verify());
    one.resize(6);
    CHECK(one.retiring_bytes() == 0_B);
    CHECK(scene.queue().stats().revived == 4);
    scene.device.run_all();
    CHECK(one.try_resize(7).code() == errc::limit_exceeded);
}

TEST_CASE("a growth is fed by its own pages that retired beyond it") {
    retire_scene scene{{.limit = 8 * retire_page}};
    auto range = *retire_range::create(scene.pool, 12_pages, owner_id{});
    REQUIRE(range.grow_to(8_pages));
    scene.device.launch(scene.first, range.start(), 8 * retire_page);
    REQUIRE(range.retire_to(6_pages, scene.second));
    REQUIRE(range.retire_to(4_pages, scene.first));
    REQUIRE(range.retire_to(1_pages, scene.second));
    scene.device.run_all();
    // Reclaim the lowest three, hand them to another, and leave the upper ones retired and due.
    auto other = *retire_range::create(scene.pool, 12_pages, owner_id{});
    REQUIRE(scene.queue().reclaim(2_pages));
    check_states(range, "arrrrr......");
    REQUIRE(other.grow_to(2_pages));
    REQUIRE(range.grow_to(6_pages));
    check_states(range, "aaaaaa......");
    CHECK(range.grow_to(7_pages).code() == errc::limit_exceeded);
    check_states(range, "aaaaaa......");
    REQUIRE(other.retire_to(0_pages, scene.first));
    scene.device.run_all();
    REQUIRE(range.grow_to(8_pages));
}
