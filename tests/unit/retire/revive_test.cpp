// SPDX-License-Identifier: Apache-2.0
//
// Growing over pages that retire: they come back as they are, and whatever becomes of them afterwards, they
// are not unmapped before the work that was queued on them is done.
#include "retire_scene.hpp"

#include <algorithm>
#include <cstring>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

retire_range make_range(retire_scene& scene, page_count limit = 12_pages, owner_id owner = owner_id{}) {
    return *retire_range::create(scene.pool, limit, owner);
}

/// Six pages, four of which retire behind a kernel on the first stream that reads those four.
struct shrunk : retire_scene {
    explicit shrunk(const chunk_pool_options& options = {}) : retire_scene{options} {
        REQUIRE(range.grow_to(6_pages));
        write(range.start(), 0, 6 * page_words, 9);
        read(first, range.start(), 2 * page_words, 6 * page_words, 9);
        REQUIRE(range.retire_to(2_pages, first));
        check_states(range, "aarrrr......");
        before = counted.snapshot();
    }
    [[nodiscard]] std::size_t new_calls(verb what) const { return calls(what) - before[what].calls; }

    retire_range range = make_range(*this);
    adaptors::call_counts before;
};

} // namespace

TEST_CASE("a page that retires is taken back without a call of the backend") {
    shrunk scene;
    REQUIRE(scene.range.grow_to(4_pages));
    check_states(scene.range, "aaaarr......");
    CHECK(scene.counted.snapshot() == scene.before);
    CHECK(scene.wrong_words(scene.range.start(), 0, 4 * page_words, 9) == 0);
    REQUIRE(scene.range.grow_to(6_pages));
    check_states(scene.range, "aaaaaa......");
    CHECK(scene.counted.snapshot() == scene.before);
    CHECK(scene.queue().stats().revived == 4);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    check_states(scene.range, "aaaaaa......");
    CHECK(scene.queue().stats().pending == 0);
    CHECK(scene.queue().stats().reclaimed == 0);
}

TEST_CASE("growing beyond the retiring pages maps what comes after them") {
    shrunk scene;
    REQUIRE(scene.range.grow_to(9_pages));
    check_states(scene.range, "aaaaaaaaa...");
    CHECK(scene.new_calls(verb::map) == 3);
    CHECK(scene.new_calls(verb::set_access) == 1); // for the new pages alone
    scene.write(scene.range.start(), 6 * page_words, 9 * page_words, 9);
    scene.read(scene.second, scene.range.start(), 0, 9 * page_words, 9);
    scene.device.run_all();
}

TEST_CASE("growing over a hole between retiring pages fills it") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(8_pages));
    scene.write(range.start(), 0, 8 * page_words, 3);
    scene.read(scene.first, range.start(), 0, 8 * page_words, 3);
    REQUIRE(range.retire_to(6_pages, scene.first)); // 6, 7
    const address start = range.start();
    // Work that reads pages 4 and 5 on both streams is joined on the second.
    const model_event joined = *scene.device.create_event();
    REQUIRE(scene.device.record(joined, scene.first));
    REQUIRE(scene.device.wait(scene.second, joined));
    scene.read(scene.second, start, 0, 6 * page_words, 3);
    REQUIRE(range.retire_to(4_pages, scene.second)); // 4, 5
    scene.read(scene.first, start, 0, 4 * page_words, 3);
    REQUIRE(range.retire_to(2_pages, scene.first)); // 2, 3
    SECTION("which is the upper one") {
        scene.device.run(scene.first);
        scene.device.run(scene.second);
        REQUIRE(scene.queue().reclaim(6_pages));
        check_states(range, "aa..........");
        REQUIRE(range.grow_to(12_pages));
    }
    SECTION("which is in the middle") {
        scene.device.step(scene.first); // the kernel, the event, and what the second stream waits for
        scene.device.step(scene.first);
        scene.device.step(scene.first);
        CHECK(range.retiring() == 6_pages);
        REQUIRE(scene.queue().reclaim());
        check_states(range, "aarrrr......");
        REQUIRE(range.grow_to(5_pages)); // 4 is revived, 5 still waits for the second stream
        check_states(range, "aaaaar......");
        scene.device.run(scene.second);
        REQUIRE(scene.queue().reclaim());
        check_states(range, "aaaaa.......");
    }
    SECTION("below the upper ones") {
        scene.device.run_all();
        REQUIRE(range.grow_to(9_pages)); // all of it is done, and none of it unmapped
        check_states(range, "aaaaaaaaa...");
        CHECK(scene.queue().stats().revived == 6);
    }
    REQUIRE(range.verify());
    scene.device.run_all();
    REQUIRE(scene.device.destroy_event(joined));
}

TEST_CASE("holes below and above retiring pages are filled in one growth") {
    retire_scene scene;
    auto range = make_range(scene);
    REQUIRE(range.grow_to(8_pages));
    scene.device.launch(scene.first, range.start() + 4 * retire_page, 8_KiB); // reads 4 and 5
    REQUIRE(range.retire_to(6_pages, scene.second));                          // 6 and 7: free at once
    REQUIRE(range.retire_to(4_pages, scene.first));
    REQUIRE(range.retire_to(1_pages, scene.second)); // 1 to 3: free at once
    scene.device.run(scene.second);
    REQUIRE(scene.queue().reclaim());
    check_states(range, "a...rr......");
    const auto before = scene.counted.snapshot();
    REQUIRE(range.grow_to(9_pages));
    check_states(range, "aaaaaaaaa...");
    CHECK(scene.calls(verb::map) == before[verb::map].calls + 6);
    CHECK(scene.calls(verb::set_access) == before[verb::set_access].calls + 2);
    scene.write(range.start(), 0, 9 * page_words, 1);
    CHECK(scene.wrong_words(range.start(), 0, 9 * page_words, 1) == 0);
    scene.device.run_all();
}

TEST_CASE("a revived page that is given up again still waits for its first reader") {
    shrunk scene;
    REQUIRE(scene.range.grow_to(8_pages));
    SECTION("by a stream that does not know of it") {
        scene.device.launch(scene.second, scene.range.start(), 32_KiB);
        REQUIRE(scene.range.retire_to(1_pages, scene.second));
        CHECK(scene.new_calls(verb::wait) == 1); // of the stream, not of the host
        check_states(scene.range, "arrrrrrr....");
        scene.device.run(scene.second);
        REQUIRE(scene.queue().reclaim());
        check_states(scene.range, "arrrrrrr....");
        scene.device.run(scene.first);
        REQUIRE(scene.queue().reclaim());
        check_states(scene.range, "arrrrrrr...."); // the second stream has not gone on yet
        scene.device.run(scene.second);
    }
    SECTION("by its own stream") {
        REQUIRE(scene.range.retire_to(1_pages, scene.first));
        check_states(scene.range, "arrrrrrr....");
        REQUIRE(scene.queue().reclaim());
        CHECK(scene.queue().stats().pending == 1);
    }
    SECTION("by no stream at all") {
        REQUIRE(scene.range.shrink_to(1_pages));
        check_states(scene.range, "a.rrrr......"); // what nobody reads is gone
        REQUIRE(scene.queue().reclaim());
        check_states(scene.range, "a.rrrr......");
        CHECK(scene.pages_in_use() == 5);
    }
    SECTION("by no stream, when its reader is done") {
        scene.device.run_all();
        REQUIRE(scene.range.shrink_to(1_pages));
        check_states(scene.range, "a...........");
        CHECK(scene.new_calls(verb::unmap) == 1);
    }
    SECTION("by no stream, where nothing of it is given up") {
        REQUIRE(scene.range.shrink_to(6_pages));
        check_states(scene.range, "aaaaaa......");
        CHECK(scene.pages_in_use() == 6);
        REQUIRE(scene.range.shrink_to(1_pages));
        check_states(scene.range, "a.rrrr......");
    }
    CHECK(scene.device.host_waits() == 0);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    check_states(scene.range, "a...........");
}

TEST_CASE("pages may retire and come back any number of times while one kernel reads them") {
    shrunk scene;
    for (std::size_t round = 0; round < 20; ++round) {
        REQUIRE(scene.range.grow_to(3_pages + page_count{round % 5}));
        REQUIRE(scene.range.retire_to(page_count{round % 3}, round % 2 == 0 ? scene.first : scene.second));
        REQUIRE(scene.queue().reclaim());
        REQUIRE(scene.range.verify());
        REQUIRE(scene.queue().verify());
    }
    CHECK(scene.queue().stats().events < 8); // those that nothing waits for any more are used again
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.range.retiring() == 0_pages);
    CHECK(scene.queue().stats().pending == 0);
}

TEST_CASE("a page whose retirement is over but that is not unmapped yet comes back too") {
    shrunk scene;
    scene.device.run_all();
    scene.backend.fail_from(1, errc::native_failure, {verb::unmap});
    CHECK_FALSE(scene.queue().reclaim());
    CHECK(scene.queue().stats().due == 4);
    REQUIRE(scene.range.grow_to(5_pages));
    check_states(scene.range, "aaaaar......");
    REQUIRE(scene.range.verify());
    scene.backend.disarm();
    REQUIRE(scene.queue().reclaim());
    check_states(scene.range, "aaaaa.......");
}

TEST_CASE("a revived page is its owner's and is not scrubbed, a new one of another's is") {
    retire_scene scene{{.scrub = scrub_policy::between_owners}};
    {
        auto stranger = make_range(scene, 8_pages, owner_id{1});
        REQUIRE(stranger.grow_to(8_pages));
        scene.write(stranger.start(), 0, 8 * page_words, 77);
        REQUIRE(stranger.retire_to(0_pages, scene.second));
    }
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());

    auto range = make_range(scene, 8_pages, owner_id{2});
    REQUIRE(range.grow_to(3_pages));
    CHECK(scene.pool.stats().scrubbed == 3);
    scene.write(range.start(), 0, 3 * page_words, 5);
    scene.read(scene.first, range.start(), 0, 3 * page_words, 5);
    REQUIRE(range.retire_to(1_pages, scene.first));
    REQUIRE(range.grow_to(5_pages));
    CHECK(scene.pool.stats().scrubbed == 5);
    CHECK(scene.wrong_words(range.start(), 0, 3 * page_words, 5) == 0);
    const auto* const fresh = (range.start() + 3 * retire_page).to_pointer<const unsigned char>();
    CHECK(std::all_of(fresh, fresh + 2 * retire_page.count(), [](unsigned char byte) { return byte == 0; }));
    scene.device.run_all();
}

TEST_CASE("a chunk that retired passes to another owner scrubbed") {
    retire_scene scene{{.limit = 2 * retire_page, .scrub = scrub_policy::between_owners}};
    auto range = make_range(scene, 8_pages, owner_id{1});
    REQUIRE(range.grow_to(2_pages));
    scene.write(range.start(), 0, 2 * page_words, 5);
    scene.read(scene.first, range.start(), 0, 2 * page_words, 5);
    REQUIRE(range.retire_to(0_pages, scene.first));
    auto next = make_range(scene, 8_pages, owner_id{2});
    CHECK(next.grow_to(2_pages).code() == errc::limit_exceeded);
    scene.device.run_all();
    REQUIRE(next.grow_to(2_pages));
    CHECK(scene.pool.stats().scrubbed == 2);
    CHECK(*next.start().to_pointer<std::uint32_t>() == 0);
}

TEST_CASE("tensors retire rows and take them back") {
    retire_scene scene;
    retire_tensor<> tensor{scene.pool, {page_words}, 10};
    const auto* const data = tensor.append(6).data;
    scene.write(address{data}, 0, 6 * page_words, 4);
    scene.read(scene.first, address{data}, 0, 6 * page_words, 4);

    tensor.resize(2, scene.first);
    CHECK(tensor.rows() == 2);
    CHECK(tensor.mapped_bytes() == 2 * retire_page);
    CHECK(tensor.retiring_bytes() == 4 * retire_page);
    CHECK(tensor.verify());
    tensor.resize(5, scene.first); // growing is growing
    CHECK(tensor.rows() == 5);
    CHECK(tensor.data() == data);
    CHECK(tensor.retiring_bytes() == retire_page);
    tensor.resize(5, scene.first);
    CHECK(scene.calls(verb::record) == 1);
    CHECK(tensor.try_resize(11, scene.first).code() == errc::limit_exceeded);

    tensor.retire(scene.first);
    CHECK(tensor.rows() == 0);
    CHECK(tensor.mapped_bytes() == 0_B);
    CHECK(tensor.retiring_bytes() == 6 * retire_page);
    tensor.append(1);
    CHECK(tensor.data() == data);
    CHECK(scene.wrong_words(address{data}, 0, page_words, 4) == 0);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    CHECK(tensor.retiring_bytes() == 0_B);
    CHECK(scene.pages_in_use() == 1);
    CHECK(tensor.verify());

    retire_tensor<> moved{std::move(tensor)};
    CHECK(tensor.try_retire(scene.first).code() == errc::invalid_argument); // NOLINT: what is tested
    CHECK(tensor.try_trim(scene.first).code() == errc::invalid_argument);   // NOLINT
    CHECK(tensor.try_resize(0, scene.first).code() == errc::invalid_argument);
    CHECK(tensor.retiring_bytes() == 0_B);
}

TEST_CASE("a growth policy keeps pages from retiring, and trimming retires them") {
    retire_scene scene;
    retire_tensor<growth::fixed<4>> tensor{scene.pool, {page_words}, 12};
    tensor.append(9);
    scene.device.launch(scene.first, address{tensor.data()}, 9 * retire_page);
    tensor.resize(2, scene.first);
    CHECK(tensor.mapped_bytes() == 4 * retire_page);
    CHECK(tensor.retiring_bytes() == 8 * retire_page);
    tensor.trim(scene.first);
    CHECK(tensor.mapped_bytes() == 2 * retire_page);
    CHECK(tensor.retiring_bytes() == 10 * retire_page);
    tensor.append(1);
    CHECK(tensor.mapped_bytes() == 4 * retire_page);
    CHECK(tensor.verify());
    scene.device.run_all();
}
