// SPDX-License-Identifier: Apache-2.0
// Device backends over simulated drivers against the model of the contract: with neighbours unmapped in one
// call, and one by one. The access is what the kernel reports for the simulated memory.
#include <conformance/differential.hpp>
#include <support/proc_maps.hpp>
#include <support/simulated_driver/cuda.hpp>
#include <support/simulated_driver/hip.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>

#include <string>
#include <vector>

namespace vtensor::conformance {
namespace {

testing::simulated::machine_options small_machine() {
    return {.version = 0,
            .capacity = capacity.count(),
            .minimum_granularity = unit.count(),
            .recommended_granularity = unit.count()};
}

struct cuda_parts {
    using machine_type = testing::simulated_cuda;
    using backend_type = cuda_backend;
    static cuda_options options(testing::simulated_cuda& machine) {
        return {.max_mappings = max_mappings, .driver = machine.driver()};
    }
};
struct hip_parts {
    using machine_type = testing::simulated_hip;
    using backend_type = hip_backend;
    static hip_options options(testing::simulated_hip& machine) {
        device_quirks quirks;
        quirks.unmap_one_by_one = true;
        quirks.alignment_unreliable = true;
        return {.max_mappings = max_mappings,
                .allow_plain_allocation = false,
                .quirks = quirks,
                .driver = machine.driver()};
    }
};

template <class Parts>
class simulated_subject {
  public:
    using backend_type = typename Parts::backend_type;

    ~simulated_subject() { CHECK(machine_.violations().empty()); }

    [[nodiscard]] backend_type& backend() noexcept { return memory_; }
    [[nodiscard]] bytes physical_bytes() { return bytes{machine_.physical_bytes()}; }
    void look() { lines_ = testing::read_maps(); }
    [[nodiscard]] std::string permission(address where) const {
        for (const auto& line : lines_) {
            if (line.inside(where, bytes{1}) != 0)
                return std::string{line.permissions, 3};
        }
        return "nothing there";
    }

  private:
    typename Parts::machine_type machine_{small_machine()};
    backend_type memory_{Parts::options(machine_)};
    std::vector<testing::map_line> lines_;
};

TEST_CASE("random calls end alike on a simulated CUDA device and on the model of the contract") {
    compare_with_the_model<simulated_subject<cuda_parts>>();
}
TEST_CASE("random calls end alike on a simulated HIP device and on the model of the contract") {
    compare_with_the_model<simulated_subject<hip_parts>>();
}

} // namespace
} // namespace vtensor::conformance
