// SPDX-License-Identifier: Apache-2.0
// The same cases on simulated devices, which say what a real one would not: with work done at once, and by a
// thread in its own time where a context must be current for everything.
#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>

#include <support/catch.hpp>

#include <tuple>

namespace vtensor::testing {

struct simulated_world {
    explicit simulated_world(const simulated::machine_options& options = {}) : machine{options} {}
    ~simulated_world() {
        CHECK(to_string(machine.leaks()) == "nothing");
        CHECK(machine.violations().empty());
    }
    [[nodiscard]] cuda_driver driver() const { return machine.driver(); }
    [[nodiscard]] cuda_options options() const { return {.driver = machine.driver()}; }

    simulated_cuda machine;
};
struct slow_world : simulated_world {
    slow_world()
        : simulated_world{
              {.contexts = simulated::context_rule::everywhere, .streams = simulated::execution::worker}} {}
};
using worlds = std::tuple<simulated_world, slow_world>;

} // namespace vtensor::testing

#include "behaviour.hpp"
