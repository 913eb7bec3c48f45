// SPDX-License-Identifier: Apache-2.0
//
// Sharing and tenants by the kernel's own figures and by the bytes themselves.
#include "engine.hpp"

#include <support/kernel_figures.hpp>

#include <algorithm>
#include <cstring>
#include <memory_resource>

using namespace vtensor;
using namespace vtensor::testing;
using engine_type = engine<>;
using pool_type = engine_type::pool_type;

TEST_CASE("Two sequences with 10,000 tokens in common hold them once") {
    host_backend memory;
    pool_type pool{memory, {}};
    engine_type now{pool, 16'384};
    constexpr std::size_t common = 10'000;
    const auto first = now.create(text(common)).value().id;
    REQUIRE(now.manager->try_record(first));
    const bytes alone = kernel_memory_file_bytes();
    const auto second = now.create(joined(text(common), text(16, 2))).value();
    CHECK(second.matched == common);
    const bytes page = pool.chunk_size() * engine_type::pages_together;
    CHECK(kernel_memory_file_bytes() - alone <= page * 2);
    CHECK(kernel_memory_file_bytes() == pool.stats().created);
    REQUIRE(now.overwrite(second.id, 0, 1, 5));
    CHECK(kernel_memory_file_bytes() - alone <= page * 3);
    now.require_same();
    REQUIRE(now.release(first));
    now.require_same();
}

TEST_CASE("A page that passes to another tenant shows nothing of the first") {
    host_backend memory;
    pool_type pool{
        memory, {.limit = 4_KiB * (8 * engine_type::pages_together), .scrub = scrub_policy::between_owners}};
    engine_type now{pool};
    const kv::sequence_options tenants[] = {{.salt = kv::salt_id{1}}, {.salt = kv::salt_id{2}}};
    for (int round = 0; round < 6; ++round) {
        const auto made = now.create(text(5 * engine_type::tokens_a_page, 1), tenants[round % 2]).value();
        CHECK(made.matched == 0);
        // A page more, as it comes from the pool.
        REQUIRE(
            now.manager->try_extend(std::vector<kv::extension>{{made.id, text(engine_type::tokens_a_page)}}));
        auto& cache = *now.manager->cache(made.id);
        const auto keys = cache.keys(1, 0);
        std::size_t foreign = 0;
        for (std::size_t token = 5 * engine_type::tokens_a_page; token < cache.tokens(); ++token)
            for (std::size_t at = 0; at < engine_type::width; ++at)
                foreign += keys(token, at) != 0.0f ? 1u : 0u;
        CHECK(foreign == 0);
        now.sequences.erase(made.id);
        REQUIRE(now.manager->try_release(made.id));
        CHECK(now.manager->verify());
    }
    CHECK(pool.stats().scrubbed > 0);
    CHECK(pool.stats().created <= pool.stats().limit);
}

TEST_CASE("Every page goes back to where it came from") {
    const bytes before = kernel_memory_file_bytes();
    host_backend memory;
    {
        pool_type pool{memory, {}};
        {
            engine_type now{pool};
            for (std::uint64_t seed = 0; seed < 20; ++seed) {
                const auto made = now.create(text(100 + 7 * seed, seed % 3)).value();
                REQUIRE(now.manager->try_record(made.id));
                if (seed % 4 != 0)
                    REQUIRE(now.release(made.id));
            }
        }
        CHECK(pool.stats().in_use == bytes{0});
        CHECK(pool.stats().aliases == 0);
        CHECK(pool.verify());
    }
    CHECK(kernel_memory_file_bytes() == before);
}

TEST_CASE("The records of sequences and their tokens lie where the caller says, and go back there") {
    class counting_memory : public std::pmr::memory_resource {
      public:
        std::size_t blocks = 0, held = 0;

      private:
        void* do_allocate(std::size_t size, std::size_t alignment) override {
            ++blocks;
            held += size;
            return std::pmr::new_delete_resource()->allocate(size, alignment);
        }
        void do_deallocate(void* block, std::size_t size, std::size_t alignment) override {
            held -= size;
            std::pmr::new_delete_resource()->deallocate(block, size, alignment);
        }
        [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
            return this == &other;
        }
    };
    constexpr std::size_t most = 2048;
    counting_memory records;
    {
        host_backend memory;
        pool_type pool{memory, {}};
        auto options = engine_type::plain();
        options.records = &records;
        engine_type now{pool, most, options};
        std::vector<kv::sequence_id> running;
        for (std::uint32_t round = 0; round < 3; ++round) { // records are used again
            for (std::uint32_t each = 0; each < 40; ++each)
                running.push_back(now.create(text(70, each)).value().id);
            now.require_same();
            for (const kv::sequence_id one : running)
                REQUIRE(now.release(one));
            running.clear();
        }
        CHECK(records.blocks == 2); // of 32 each
        CHECK(records.held >= 2 * 32 * most * sizeof(kv::token_id));
    }
    CHECK(records.held == 0);
}
