// SPDX-License-Identifier: Apache-2.0
// Does a manager stay whole when everything happens to it for a long time?
//
// A random engine (tests/unit/manager/random_engine.hpp) creates, extends, forks, evicts, preempts, resumes
// and releases sequences at a limit that changes, while a thread maps ahead and another reads the statistics,
// and one backend call in a hundred fails, though never two in a row on one thread. Rows are compared with
// what must be in them, the book-keeping is checked, and at the end every byte must be back: by the pool's
// count and by the kernel's.
//
//     soak [--seconds N] [--seed N]
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "../unit/manager/random_engine.hpp"

#include <support/catch.hpp>
#include <support/kernel_figures.hpp>

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/kv/stats_text.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

double seconds = 5;
std::uint64_t seed = 1;

using failing_backend = adaptors::failing<host_backend>;
using engine_type = engine<shared_layer<failing_backend>, reclaim::cheapest_first, preemption::swap_out>;
using steady = std::chrono::steady_clock;

/// One call in a hundred, never two in a row on one thread: what undoes a failure tries twice.
auto one_in_a_hundred() {
    return [chance = std::mt19937_64{seed}](const adaptors::call&) mutable {
        static thread_local bool last = false;
        last = !last && chance() % 100 == 0;
        return last;
    };
}

struct totals {
    std::size_t steps = 0;
    std::size_t refusals = 0;
    std::size_t failures = 0;
};

/// Everything from nothing to nothing.
void live(steady::time_point until, std::uint64_t round, totals& sum) {
    host_backend memory;
    failing_backend backend{memory};
    {
        mapper thread;
        engine_type::pool_type pool{backend, {.limit = bytes{300 * 4096}}};
        auto options = engine_type::plain();
        options.thread = &thread;
        options.cache.tokens_a_growth = round % 2 == 0 ? 0 : 64;
        engine_type now{pool, 400, options};
        random_engine<engine_type> chance{
            now, seed + round, {.changes_limit = true, .failures_are_allowed = true, .evicts = true}};
        std::atomic<bool> done{false};
        std::atomic<std::uint64_t> seen{0};
        std::thread reader{[&] {
            while (!done.load()) {
                seen += kv::to_prometheus(now.manager->stats()).size();
                std::this_thread::sleep_for(std::chrono::milliseconds{1});
            }
        }};
        backend.fail_if(one_in_a_hundred());
        for (std::size_t step = 0; step < 20'000 && steady::now() < until; ++step, ++sum.steps) {
            chance.step();
            if (step % 16 == 0)
                chance.check_one();
            if (step % 256 == 0)
                REQUIRE(now.manager->verify());
        }
        sum.refusals += chance.refusals();
        sum.failures += backend.failures();
        backend.disarm();
        done = true;
        reader.join();
        CHECK(seen.load() > 0);
        now.require_same();
        while (!now.sequences.empty())
            REQUIRE(now.release(now.sequences.begin()->first));
        REQUIRE(now.manager->verify());
        REQUIRE(now.manager->resize_limit(bytes{4096}));
        CHECK(pool.stats().in_use == bytes{0});
        CHECK(pool.stats().aliases == 0);
        CHECK(kernel_memory_file_bytes() <= bytes{4096});
    }
    CHECK(kernel_memory_file_bytes() == bytes{0});
}

} // namespace

TEST_CASE("A long life at a limit, with a backend that fails now and then") {
    const auto start = steady::now();
    const auto until =
        start + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>{seconds});
    auto shown = start;
    totals sum;
    for (std::uint64_t round = 0; round == 0 || steady::now() < until; ++round) {
        live(until, round, sum);
        if (steady::now() - shown > std::chrono::seconds{10}) {
            shown = steady::now();
            std::fprintf(stderr, "%4.0f s: %zu steps, %zu refused, %zu backend calls failed\n",
                         std::chrono::duration<double>(shown - start).count(), sum.steps, sum.refusals,
                         sum.failures);
        }
    }
    CHECK(sum.failures > 0);
    CHECK(sum.refusals > 0);
    std::printf("%zu steps, %zu refused, %zu backend calls failed\n", sum.steps, sum.refusals, sum.failures);
}

int main(int count, char** arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        if (std::strcmp(arguments[index], "--seconds") == 0)
            seconds = std::atof(arguments[index + 1]);
        else if (std::strcmp(arguments[index], "--seed") == 0)
            seed = std::strtoull(arguments[index + 1], nullptr, 10);
    }
    return Catch::Session{}.run();
}
