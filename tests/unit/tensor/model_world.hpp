// SPDX-License-Identifier: Apache-2.0
//
// What the tensors of the model-based test share: backends that fail now and then, pools with limits, a
// mapper thread, the random numbers, and the place where a broken expectation is reported with its seed.
#pragma once

#include "support/catch.hpp"
#include "support/error_codes.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/memory/mapper.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace vtensor::testing {

using failing_host = adaptors::failing<host_backend>;
using model_pool = chunk_pool<failing_host, std::mutex>;

/// Uniform numbers from one seed.
class dice {
  public:
    explicit dice(std::uint64_t seed) : engine_{seed} {}

    [[nodiscard]] std::uint64_t bits() { return engine_(); }
    /// 0 … count − 1; 0 where count is 0.
    [[nodiscard]] std::size_t below(std::size_t count) { return count == 0 ? 0 : engine_() % count; }
    [[nodiscard]] bool one_in(std::size_t count) { return below(count) == 0; }

  private:
    std::mt19937_64 engine_;
};

/// A host backend with a capacity, and failures in front of it.
struct faulty_machine {
    explicit faulty_machine(bytes capacity) : host{{.capacity = capacity}} {}

    host_backend host;
    failing_host backend{host};
};

/// How a test's tensors are reported when something is wrong with them, and what happens to all of them.
class model_world {
  public:
    explicit model_world(std::uint64_t seed) : random{seed}, seed_{seed} {}

    dice random;
    std::size_t operation = 0;

    // A machine of its own for the tensors that look ahead: their mapper thread takes memory at any time, and
    // what the others may have must be predictable to the page.
    faulty_machine machine{4_MiB};
    faulty_machine ahead_machine{1_MiB};
    model_pool small{machine.backend, {.limit = 96 * 4_KiB}};
    model_pool large{machine.backend, {.chunk_size = 64_KiB, .limit = 40 * 64_KiB}};
    model_pool scrubbed{machine.backend,
                        {.chunk_size = 12_KiB, .limit = 40 * 12_KiB, .scrub = scrub_policy::between_owners}};
    model_pool ahead{ahead_machine.backend, {.limit = 64 * 4_KiB}};
    mapper thread;

    [[nodiscard]] std::array<model_pool*, 4> pools() { return {&small, &large, &scrubbed, &ahead}; }
    [[nodiscard]] faulty_machine& machine_of(const model_pool& pool) {
        return &pool == &ahead ? ahead_machine : machine;
    }
    /// Whether a mapper thread takes chunks from the pool at any time.
    [[nodiscard]] bool is_predictable(const model_pool& pool) const { return &pool != &ahead; }

    /// Reports where and when an expectation is broken. Cheaper than an assertion of Catch's a million times.
    void expect(bool holds, const char* what, const char* whose) const {
        if (!holds)
            FAIL(what << " (" << whose << ", operation " << operation << ", VTENSOR_TEST_SEED=" << seed_
                      << ")");
    }

    /// Now and then makes one of the next calls of the pool's backend fail, with `longest` 2 also the one
    /// after it, which may be the undo. Most operations make fewer calls: about one in a hundred meets a
    /// failure.
    void maybe_arm(const model_pool& pool, std::size_t longest = 2) {
        if (!random.one_in(10))
            return;
        const std::size_t chosen = random.below(codes_.size());
        machine_of(pool).backend.fail_calls(1 + random.below(4), 1 + random.below(longest), codes_[chosen]);
        armed_ = true;
    }
    /// Whether a call was made to fail since `maybe_arm`.
    [[nodiscard]] bool disarm(const model_pool& pool) {
        if (!armed_)
            return false;
        armed_ = false;
        failing_host& backend = machine_of(pool).backend;
        const bool failed = backend.failures() != 0;
        backend.disarm();
        injected += failed ? 1u : 0u;
        return failed;
    }

    /// Why `extra` more chunks cannot be had from the pool; ok where they can.
    [[nodiscard]] errc refusal_of(const model_pool& pool, std::size_t extra) {
        const chunk_pool_stats stats = pool.stats();
        const std::size_t in_use = stats.in_use / stats.chunk_size;
        const std::size_t free = stats.free / stats.chunk_size;
        if (extra <= free)
            return errc::ok;
        if (stats.limit != bytes{0} && in_use + extra > stats.limit / stats.chunk_size)
            return errc::limit_exceeded;
        const host_backend& host = machine_of(pool).host;
        const bool room = host.physical_bytes() + (extra - free) * stats.chunk_size <= host.capacity();
        return room ? errc::ok : errc::out_of_memory;
    }

    std::size_t injected = 0; ///< operations that met a failure made by us
    std::size_t refused = 0;  ///< operations refused for want of memory, as predicted

  private:
    std::uint64_t seed_;
    std::vector<errc> codes_ = every_error_code();
    bool armed_ = false;
};

} // namespace vtensor::testing
