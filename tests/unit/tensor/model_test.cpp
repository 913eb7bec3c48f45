// SPDX-License-Identifier: Apache-2.0
//
// A million random operations over tensors of several types, shapes, page sizes and growth policies on shared
// pools with limits, with failures now and then, against a plain std::vector. VTENSOR_TEST_SEED repeats a run
// (but for the timing of the mapper thread), VTENSOR_TEST_OPERATIONS sets its length.
#include "model_subject.hpp"

#include "support/catch.hpp"
#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

struct record {
    std::int32_t token;
    std::int16_t layer;
    std::int16_t head;
    float score;
};

#ifdef NDEBUG
constexpr bool optimised = true;
#else
constexpr bool optimised = false;
#endif
constexpr std::size_t full_run = 1'000'000;
constexpr std::size_t default_operations = any_sanitizer ? full_run / 25
                                           : optimised   ? full_run
                                                         : full_run / 5;

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

template <element T, growth_policy Growth>
std::unique_ptr<subject> make(const char* name, model_world& world, model_pool& pool, row_shape shape,
                              std::size_t most_pages) {
    return std::make_unique<subject_of<T, Growth>>(name, world, pool, shape, most_pages);
}

std::vector<std::unique_ptr<subject>> make_subjects(model_world& world) {
    std::vector<std::unique_ptr<subject>> all;
    const auto add = [&](std::unique_ptr<subject> one) { all.push_back(std::move(one)); };
    add(make<float, growth::exact>("float exact", world, world.small, {16}, 40));
    add(make<unsigned char, growth::fixed<4>>("byte fixed", world, world.small, {3, 5}, 12));
    add(make<record, growth::geometric<3, 2>>("record geometric", world, world.small, {7}, 60));
    add(make<double, growth::exact>("long double rows", world, world.small, {700}, 30));
    add(make<double, growth::fixed<2>>("double fixed, 64 KiB", world, world.large, {32}, 12));
    add(make<bfloat16, growth::geometric<2, 1>>("bfloat16 geometric, 64 KiB", world, world.large, {8, 64},
                                                30));
    add(make<std::uint32_t, growth::exact>("scrubbed exact", world, world.scrubbed, {100}, 20));
    add(make<std::uint32_t, growth::geometric<3, 2>>("scrubbed geometric", world, world.scrubbed, {33}, 25));
    add(make<float, growth::look_ahead<2>>("float look-ahead", world, world.ahead, {64}, 24));
    add(make<record, growth::look_ahead<5>>("record look-ahead", world, world.ahead, {3, 3}, 30));
    add(make<float16, growth::exact>("float16 beside look-ahead", world, world.ahead, {128}, 24));
    return all;
}

/// Trims, prefills or moves the limit of a pool, as predicted.
void touch_pool(model_world& world, model_pool& pool) {
    const auto expect = [&](bool holds, const char* what) { world.expect(holds, what, "pool"); };
    const chunk_pool_stats before = pool.stats();
    const std::size_t in_use = before.in_use / before.chunk_size;
    const std::size_t free = before.free / before.chunk_size;
    const std::size_t count = world.random.below(12);
    const bool predictable = world.is_predictable(pool);
    const std::size_t action = world.random.below(3);
    const errc refusal = action == 1 ? world.refusal_of(pool, count) : errc::ok;
    const std::size_t limit = std::max<std::size_t>(1, 20 + world.random.below(60));

    world.maybe_arm(pool);
    const status outcome = action == 0   ? pool.trim(count)
                           : action == 1 ? pool.prefill(count)
                                         : pool.resize_limit(limit * before.chunk_size);
    const bool failed = world.disarm(pool);
    expect(pool.verify(), "the book-keeping is wrong");
    if (failed || !predictable)
        return;
    const chunk_pool_stats after = pool.stats();
    expect(after.in_use == before.in_use, "chunks in use came or went");
    if (action == 0)
        expect(outcome.ok() && after.free / after.chunk_size == std::min(free, count),
               "trim did something else");
    if (action == 1)
        expect(outcome.code() == refusal &&
                   after.free == (outcome ? std::max(free, count) : free) * after.chunk_size,
               "prefill did something else");
    if (action == 2) {
        expect(outcome.ok() == (in_use <= limit), "resize_limit did something else");
        expect(after.limit == (outcome ? limit * after.chunk_size : before.limit), "another limit was set");
    }
}

/// The sums over everything, after the mapper thread came to rest.
void check_sums(model_world& world, const std::vector<std::unique_ptr<subject>>& subjects) {
    world.thread.drain();
    for (faulty_machine* const machine : {&world.machine, &world.ahead_machine}) {
        bytes mapped{0};
        bytes created{0};
        for (const auto& one : subjects) {
            if (&world.machine_of(one->pool()) == machine)
                mapped += one->mapped_bytes();
        }
        for (const model_pool* const pool : world.pools()) {
            if (&world.machine_of(*pool) == machine)
                created += pool->stats().created;
        }
        world.expect(mapped == machine->host.mapped_bytes(), "mapped bytes do not add up", "sums");
        world.expect(created == machine->host.physical_bytes(), "created bytes do not add up", "sums");
        world.expect(created == machine->host.kernel_physical_bytes(), "the kernel counts otherwise", "sums");
    }
    for (const model_pool* const pool : world.pools()) {
        bytes mapped{0};
        for (const auto& one : subjects)
            mapped += &one->pool() == pool ? one->mapped_bytes() : bytes{0};
        world.expect(mapped == pool->stats().in_use, "chunks in use do not add up", "sums");
    }
}

} // namespace

TEST_CASE("tensors agree with a vector over a million random operations and failures") {
    const std::uint64_t seed = number_from_environment("VTENSOR_TEST_SEED", std::random_device{}());
    const std::size_t operations = number_from_environment("VTENSOR_TEST_OPERATIONS", default_operations);
    std::printf("VTENSOR_TEST_SEED=%llu, %zu operations\n", static_cast<unsigned long long>(seed),
                operations);
    std::fflush(stdout);

    const std::size_t descriptors = open_descriptors();
    {
        model_world world{seed};
        auto subjects = make_subjects(world);
        for (world.operation = 1; world.operation <= operations; ++world.operation) {
            if (world.random.one_in(20))
                touch_pool(world, *world.pools()[world.random.below(4)]);
            else
                subjects[world.random.below(subjects.size())]->step();
            if (world.operation % 1000 == 0) {
                for (const auto& one : subjects)
                    one->check_whole();
                check_sums(world, subjects);
            }
        }
        CHECK(world.injected > operations / 200);
        CHECK(world.refused > operations / 200);
        std::printf("%zu operations met a failure, %zu were refused\n", world.injected, world.refused);

        subjects.clear();
        check_sums(world, subjects);
        for (model_pool* const pool : world.pools())
            CHECK(pool->trim());
        CHECK(world.machine.host.kernel_physical_bytes() == 0_B);
        CHECK(world.ahead_machine.host.kernel_physical_bytes() == 0_B);
        CHECK(world.machine.host.reserved_bytes() == 0_B);
        CHECK(world.ahead_machine.host.reserved_bytes() == 0_B);
    }
    CHECK(open_descriptors() == descriptors);
    CHECK(memory_file_lines() == 0);
}
