// SPDX-License-Identifier: Apache-2.0
//
// What the random test of retiring pages shares: a device that fails now and then, streams, a pool with a
// limit, and the place where a broken expectation is reported with its seed.
#pragma once

#include "retire_scene.hpp"

#include "support/error_codes.hpp"

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace vtensor::testing {

class model_world {
  public:
    static constexpr std::size_t streams = 3;

    explicit model_world(std::uint64_t seed) : engine_{seed}, seed_{seed} {
        for (std::size_t stream = 0; stream < streams; ++stream) {
            names.push_back(device.make_stream());
            joins_.push_back(*device.create_event());
        }
    }

    std::size_t operation = 0;
    host_backend host;
    stream_model<host_backend> device{host};
    adaptors::counting<stream_model<host_backend>> counted{device};
    retire_backend backend{counted};
    retire_pool failing_pool{backend, {.limit = 40 * retire_page, .scrub = scrub_policy::between_owners}};
    retire_pool waiting_pool{backend, {.limit = 24 * retire_page, .wait_for_retiring = true}};
    std::vector<model_stream> names;
    std::size_t wrong_reads = 0;
    std::size_t reads = 0; ///< kernels that ran

    std::size_t injected = 0; ///< operations that met a failure made by us
    std::size_t refused = 0;  ///< operations refused for want of memory

    /// 0 … count − 1; 0 where count is 0.
    [[nodiscard]] std::size_t below(std::size_t count) { return count == 0 ? 0 : engine_() % count; }
    [[nodiscard]] bool one_in(std::size_t count) { return below(count) == 0; }
    [[nodiscard]] std::size_t any_stream() { return below(streams); }

    void expect(bool holds, const char* what, const std::string& whose) const {
        if (!holds)
            FAIL(what << " (" << whose << ", operation " << operation << ", VTENSOR_TEST_SEED=" << seed_
                      << ")");
    }

    /// Now and then one of the next calls of the backend fails, with `longest` 2 perhaps also the one after
    /// it.
    void maybe_arm(std::size_t longest = 2) {
        if (one_in(8))
            backend.fail_calls(1 + below(6), 1 + below(longest), codes_[below(codes_.size())]);
    }
    /// Whether one did.
    [[nodiscard]] bool disarm() {
        const bool failed = backend.failures() != 0;
        backend.disarm();
        injected += failed ? 1 : 0;
        return failed;
    }

    /// What is queued on `on` from now on comes after what is queued on `after`.
    void join(std::size_t on, std::size_t after) {
        expect(device.record(joins_[after], names[after]).ok() && device.wait(names[on], joins_[after]).ok(),
               "streams cannot be joined", "world");
    }

  private:
    std::mt19937_64 engine_;
    std::uint64_t seed_;
    std::vector<model_event> joins_;
    std::vector<errc> codes_ = every_error_code();
};

} // namespace vtensor::testing
