// SPDX-License-Identifier: Apache-2.0
// The CUDA backend over a simulated driver keeps the contract: with the primary context and with the caller's
// own, with a driver that wants a context everywhere, with work done in its own time, with peers.
#include <conformance/device_fixtures.hpp>
#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>

#include <tuple>

namespace vtensor::conformance {

using testing::simulated_cuda;
using testing::simulated::machine_options;

struct cuda_setup {
    using machine_type = simulated_cuda;
    using backend_type = cuda_backend;

    static machine_options machine() { return {}; }
    static cuda_options backend(simulated_cuda& on) { return {.driver = on.driver()}; }
};

struct strict_contexts : cuda_setup {
    static machine_options machine() { return {.contexts = testing::simulated::context_rule::everywhere}; }
};
struct context_of_the_caller : strict_contexts {
    static cuda_options backend(simulated_cuda& on) {
        return {.context = on.make_engine_context(), .driver = on.driver()};
    }
};
struct work_in_its_own_time : cuda_setup {
    static machine_options machine() { return {.streams = testing::simulated::execution::worker}; }
};
struct recommended_granularity : cuda_setup {
    static machine_options machine() {
        return {.minimum_granularity = std::size_t{64} << 10,
                .recommended_granularity = std::size_t{2} << 20};
    }
    static cuda_options backend(simulated_cuda& on) {
        return {.granularity = granularity_choice::recommended, .driver = on.driver()};
    }
};
struct second_device_with_a_peer : cuda_setup {
    static machine_options machine() {
        return {.devices = 2, .contexts = testing::simulated::context_rule::everywhere};
    }
    static cuda_options backend(simulated_cuda& on) {
        return {.device = 1, .peers = {0}, .driver = on.driver()};
    }
};
struct exportable_and_rdma : cuda_setup {
    static machine_options machine() { return {.sharing = {.rdma_supported = true}}; }
    static cuda_options backend(simulated_cuda& on) {
        return {.sharing = sharing_wish::descriptor, .gpu_direct_rdma = true, .driver = on.driver()};
    }
};

static_assert(touching_fixture<simulated_fixture<cuda_setup>> &&
              measuring_fixture<simulated_fixture<cuda_setup>>);

using conformance_fixtures =
    std::tuple<simulated_fixture<cuda_setup>, simulated_fixture<strict_contexts>,
               simulated_fixture<context_of_the_caller>, simulated_fixture<work_in_its_own_time>,
               simulated_fixture<recommended_granularity>, simulated_fixture<second_device_with_a_peer>,
               simulated_fixture<exportable_and_rdma>>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>
