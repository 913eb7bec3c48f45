// SPDX-License-Identifier: Apache-2.0
//
// The life of sequences: what is matched, shared, adopted, and what is refused.
#include "engine.hpp"

#include <support/kernel_figures.hpp>

using namespace vtensor;
using namespace vtensor::testing;
using engine_type = engine<>;
using pool_type = engine_type::pool_type;

namespace {

struct scene {
    explicit scene(bytes limit = bytes{0}, const engine_type::options_type& options = engine_type::plain())
        : pool{memory, {.limit = limit}}, now{pool, 2048, options} {}
    ~scene() { CHECK(now.manager->verify()); }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    [[nodiscard]] std::size_t pages() const { return pool.stats().in_use / pool.chunk_size(); }

    host_backend memory;
    pool_type pool;
    engine_type now;
};
constexpr std::size_t together = engine_type::pages_together;
constexpr std::size_t a_page = engine_type::tokens_a_page;

} // namespace

TEST_CASE("A sequence grows and goes, and its rows stay where they are written") {
    scene s;
    const auto made = s.now.create(text(40)).value();
    CHECK(made.matched == 0);
    CHECK(s.pages() == 2 * together);
    float* const first = s.now.manager->cache(made.id)->keys(0, 0).data;
    for (int step = 0; step < 200; ++step)
        REQUIRE(s.now.extend(made.id, {step}));
    CHECK(s.now.manager->cache(made.id)->keys(0, 0).data == first);
    s.now.require_same();
    CHECK(s.now.manager->stats().tokens == 240);
    CHECK(s.now.manager->stats().running == 1);
    REQUIRE(s.now.release(made.id));
    CHECK(s.now.manager->stats().running == 0);
    CHECK(s.now.manager->stats().tokens == 0);
    CHECK(s.now.manager->stats().lazily_held == s.pool.stats().in_use);
}

TEST_CASE("A recorded prefix is matched to the token, and its whole pages are in memory once") {
    scene s;
    const auto first = s.now.create(text(5 * a_page + 7)).value();
    REQUIRE(s.now.manager->try_record(first.id));
    const std::size_t before = s.pages();
    CHECK(before == 6 * together);

    const auto second = s.now.create(joined(text(4 * a_page + 3), text(10, 2))).value();
    CHECK(second.matched == 4 * a_page + 3);
    CHECK(s.pages() == before + together); // the part page
    const auto third = s.now.create(text(5 * a_page + 7)).value();
    CHECK(third.matched == 5 * a_page + 6); // the last token is computed for its output
    CHECK(s.pages() == before + 2 * together);
    CHECK(s.now.manager->stats().shared == 9 * together * s.pool.chunk_size());
    CHECK(kernel_memory_file_bytes() == s.pool.stats().created);
    s.now.require_same();

    REQUIRE(s.now.extend(first.id, text(100, 3)));
    REQUIRE(s.now.extend(second.id, text(100, 4)));
    REQUIRE(s.now.extend(third.id, text(100, 5)));
    s.now.require_same();
    REQUIRE(s.now.release(first.id));
    s.now.require_same();
}

TEST_CASE("A sequence that continues a released one takes its cache as it is") {
    scene s;
    auto said = text(100);
    auto last = s.now.create(said).value();
    for (int turn = 0; turn < 5; ++turn) {
        const float* const rows = s.now.manager->cache(last.id)->keys(1, 1).data;
        REQUIRE(s.now.manager->try_record(last.id));
        REQUIRE(s.now.release(last.id));
        const std::size_t pages = s.pages();
        const std::size_t known = said.size();
        said = joined(said, text(50, static_cast<std::uint64_t>(turn) + 10));
        last = s.now.create(said).value();
        CHECK(last.matched == known);
        CHECK(s.now.manager->cache(last.id)->keys(1, 1).data == rows);
        CHECK(s.pages() <= pages + 2 * together);
        s.now.require_same();
    }
}

TEST_CASE("The pages of a released sequence serve the next one without a mapping call") {
    scene s;
    const auto first = s.now.create(text(300)).value();
    REQUIRE(s.now.release(first.id));
    const auto acquired = s.pool.stats().acquired;
    const auto second = s.now.create(text(280, 2)).value();
    CHECK(s.pool.stats().acquired == acquired);
    s.now.require_same();
    CHECK(s.now.manager->stats().adopted_tokens >= 280);
    REQUIRE(s.now.release(second.id));

    auto eager = engine_type::plain();
    eager.releases_lazily = false;
    scene other{bytes{0}, eager};
    REQUIRE(other.now.release(other.now.create(text(300)).value().id));
    CHECK(other.pages() == 0);
}

TEST_CASE("A fork shares all rows until one of the two writes") {
    scene s;
    const auto parent = s.now.create(text(3 * a_page + 5)).value().id;
    const std::size_t before = s.pages();
    const auto child = s.now.fork(parent).value();
    CHECK(s.pages() == before + together);
    REQUIRE(s.now.extend(child, text(4, 2)));
    REQUIRE(s.now.extend(parent, text(4, 3)));
    s.now.require_same();
    REQUIRE(s.now.overwrite(child, a_page, 2, 77));
    CHECK(s.pages() == before + 2 * together);
    s.now.require_same();
    REQUIRE(s.now.overwrite(parent, 0, 3 * a_page, 78));
    s.now.require_same();
    REQUIRE(s.now.release(parent));
    s.now.require_same();
}

TEST_CASE("Tokens that were taken back can be written anew, shared pages or not") {
    scene s;
    const auto parent = s.now.create(text(4 * a_page)).value().id;
    const auto child = s.now.fork(parent).value();
    REQUIRE(s.now.truncate(child, a_page + 3));
    REQUIRE(s.now.extend(child, text(3 * a_page, 9)));
    s.now.require_same();
    CHECK(s.now.truncate(child, 0).code() == errc::invalid_argument);
    REQUIRE(s.now.truncate(child, 100'000));
    REQUIRE(s.now.manager->try_record(parent));
    CHECK(s.now.truncate(parent, 5).code() == errc::busy);
    CHECK(s.now.overwrite(parent, 5, 1, 1).code() == errc::busy);
    s.now.require_same();
}

TEST_CASE("Sequences of different salts share nothing") {
    scene s;
    const kv::sequence_options tenant{.salt = kv::salt_id{7}};
    const auto first = s.now.create(text(200)).value().id;
    REQUIRE(s.now.manager->try_record(first));
    const auto second = s.now.create(text(200), tenant).value();
    CHECK(second.matched == 0);
    CHECK(s.now.manager->stats().shared == bytes{0});
    CHECK(s.now.create(text(200)).value().matched == 199);
    REQUIRE(s.now.manager->try_record(second.id));
    CHECK(s.now.create(text(150), tenant).value().matched == 149);
    s.now.require_same();
}

TEST_CASE("What cannot be is refused, and nothing changes") {
    scene s;
    const auto one = s.now.create(text(10)).value().id;
    const auto gone = s.now.create(text(10)).value().id;
    REQUIRE(s.now.release(gone));
    const auto refused = [&](const status& outcome, errc code) {
        CHECK(outcome.code() == code);
        CHECK(s.now.manager->verify());
    };
    refused(s.now.create({}).status(), errc::invalid_argument);
    refused(s.now.create(text(2049)).status(), errc::limit_exceeded);
    refused(s.now.extend(gone, {1}), errc::not_found);
    refused(s.now.extend(kv::sequence_id{}, {1}), errc::not_found);
    refused(s.now.extend(one, text(2039)), errc::limit_exceeded);
    refused(s.now.release(gone), errc::not_found);
    refused(s.now.fork(gone).status(), errc::not_found);
    refused(s.now.manager->try_record(gone), errc::not_found);
    refused(s.now.manager->try_preempt(gone), errc::not_found);
    refused(s.now.manager->try_resume(gone).status(), errc::not_found);
    refused(s.now.manager->try_resume(one).status(), errc::invalid_argument);
    refused(s.now.manager->state(gone).status(), errc::not_found);
    CHECK(s.now.manager->cache(gone) == nullptr);
    const std::vector<kv::token_id> token{1};
    const std::vector<kv::extension> twice{{one, token}, {one, token}};
    refused(s.now.extend(twice), errc::invalid_argument);
    const std::vector<kv::extension> half{{one, token}, {gone, token}};
    refused(s.now.extend(half), errc::not_found);
    CHECK(s.now.manager->tokens(one).size() == 10);

    REQUIRE(s.now.manager->try_preempt(one));
    refused(s.now.manager->try_preempt(one), errc::busy);
    refused(s.now.fork(one).status(), errc::busy);
    refused(s.now.extend(one, {1}), errc::busy);
    refused(s.now.manager->try_record(one), errc::busy);
    refused(s.now.truncate(one, 3), errc::busy);
    CHECK(s.now.manager->cache(one) == nullptr);
    REQUIRE(s.now.release(one));
    refused(s.now.release(one), errc::not_found);

    using manager_type = engine_type::manager_type;
    CHECK(manager_type::try_create(s.pool, {}).status().code() == errc::invalid_argument);
}
