// SPDX-License-Identifier: Apache-2.0
//
// Random operations over tensors that retire pages on several streams, with failures now and then, against a
// plain model of rows and readers. VTENSOR_TEST_SEED repeats a run, VTENSOR_TEST_OPERATIONS sets its length.
#include "model_subject.hpp"

#include "support/catch.hpp"
#include "support/sanitizers.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// What the device and its user do besides.
void touch_world(model_world& world) {
    retire_pool& pool = world.one_in(2) ? world.failing_pool : world.waiting_pool;
    switch (world.below(8)) {
    case 0:
        world.maybe_arm();
        static_cast<void>(pool.retiring().wait_oldest());
        static_cast<void>(world.disarm());
        break;
    case 1:
    case 2: {
        world.maybe_arm();
        const status outcome = pool.retiring().reclaim();
        world.expect(world.disarm() || outcome.ok(), "reclaiming failed without a reason", "pool");
        break;
    }
    case 3:
        world.maybe_arm();
        static_cast<void>(pool.trim(world.below(20)));
        static_cast<void>(world.disarm());
        break;
    case 4:
        world.device.run(world.names[world.any_stream()]);
        break;
    default:
        for (std::size_t left = world.below(4); left > 0; --left)
            world.device.step(world.names[world.any_stream()]);
    }
}

void check_sums(model_world& world, const std::vector<std::unique_ptr<subject>>& subjects) {
    bytes everywhere{0};
    for (retire_pool* const pool : {&world.failing_pool, &world.waiting_pool}) {
        const retire_stats stats = pool->retiring().stats();
        bytes mapped = stats.retiring * retire_page;
        for (const auto& one : subjects)
            mapped += &one->pool() == pool ? one->mapped_bytes() : bytes{0};
        world.expect(mapped == pool->stats().in_use, "chunks in use do not add up", "sums");
        world.expect(stats.retired == stats.revived + stats.reclaimed + stats.retiring,
                     "retired pages do not add up", "sums");
        everywhere += mapped;
    }
    world.expect(everywhere == world.host.mapped_bytes(), "mapped bytes do not add up", "sums");
}

} // namespace

TEST_CASE("tensors that retire pages on several streams agree with a model") {
    const std::uint64_t seed = number_from_environment("VTENSOR_TEST_SEED", std::random_device{}());
    const std::size_t operations =
        number_from_environment("VTENSOR_TEST_OPERATIONS", any_sanitizer ? 20'000 : 150'000);
    std::printf("VTENSOR_TEST_SEED=%llu, %zu operations\n", static_cast<unsigned long long>(seed),
                operations);
    std::fflush(stdout);

    model_world world{seed};
    std::vector<std::unique_ptr<subject>> subjects;
    const auto add = [&]<class Growth>(Growth, const char* name, retire_pool& pool, std::size_t row) {
        subjects.push_back(std::make_unique<subject_of<Growth>>(name, world, pool, row));
    };
    add(growth::exact{}, "exact", world.failing_pool, 200);
    add(growth::fixed<3>{}, "fixed", world.failing_pool, 256);
    add(growth::geometric<3, 2>{}, "geometric", world.failing_pool, 77);
    add(growth::exact{}, "exact, waiting", world.waiting_pool, 256);
    add(growth::geometric<2, 1>{}, "geometric, waiting", world.waiting_pool, 130);

    retire_stats totals;
    for (world.operation = 1; world.operation <= operations; ++world.operation) {
        if (world.one_in(3))
            touch_world(world);
        else
            subjects[world.below(subjects.size())]->step();
        if (world.operation % 100 == 0) {
            for (const auto& one : subjects)
                one->check_whole();
            check_sums(world, subjects);
        }
    }
    for (retire_pool* const pool : {&world.failing_pool, &world.waiting_pool}) {
        totals.revived += pool->retiring().stats().revived;
        totals.reclaimed += pool->retiring().stats().reclaimed;
    }
    std::printf("%zu operations met a failure, %zu were refused, %zu kernels ran, %zu pages revived, %zu "
                "reclaimed\n",
                world.injected, world.refused, world.reads, totals.revived, totals.reclaimed);
    CHECK(world.injected > operations / 200);
    CHECK(world.refused > operations / 1000);
    CHECK(world.reads > operations / 20);
    CHECK(totals.revived > operations / 50);
    CHECK(totals.reclaimed > operations / 50);

    world.device.run_all();
    subjects.clear();
    for (retire_pool* const pool : {&world.failing_pool, &world.waiting_pool}) {
        CHECK(pool->retiring().drain());
        CHECK(pool->trim());
    }
    CHECK(world.wrong_reads == 0);
    CHECK(world.device.violations().empty());
    CHECK(world.host.physical_bytes() == 0_B);
}
