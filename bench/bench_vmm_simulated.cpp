// SPDX-License-Identifier: Apache-2.0
// What do the verbs' costs make of growth on GPUs of which others published them? The device backend runs
// over a simulated driver that takes those times, so every figure here is simulated: it shows the shape of
// the thing and the share of the library, never the speed of a device. That is bench_vmm.cu.
#include "support/vmm_cases.hpp"

#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>

#include <string>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;

int main(int argc, char** argv) {
    bench::report report{
        "bench_vmm_simulated",
        "simulated driver: nothing here was measured on a device; times of a call that others "
        "published, one call costs the same however many mappings it covers"};
    const std::pair<const char*, simulated::latencies> tables[] = {{"A100", simulated::published_a100},
                                                                   {"H100", simulated::published_h100},
                                                                   {"other", simulated::published_other}};
    for (const auto& [name, latency] : tables) {
        simulated::machine_options machine;
        machine.latency = latency;
        machine.capacity = std::size_t{8} << 30; // no memory of the host: nothing touches it
        simulated_cuda simulation{machine};
        cuda_backend backend{{.driver = simulation.driver()}};
        const bench::vmm_plan plan{.prefix = std::string{"simulated "} + name + ": ",
                                   .tensors = 16,
                                   .pages = 32,
                                   .repeats = 7,
                                   .most = 1_GiB};
        measure_verbs(report, backend, plan);
        measure_growth(report, backend, simulation.driver(), 0, plan);
    }
    return report.finish(bench::json_option(argc, argv));
}
