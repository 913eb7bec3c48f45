// SPDX-License-Identifier: Apache-2.0
// The host backend against the model of the contract; the access is what the kernel reports.
#include <conformance/differential.hpp>
#include <support/proc_maps.hpp>

#include <vtensor/backends/host.hpp>

#include <string>
#include <vector>

namespace vtensor::conformance {
namespace {

class host_subject {
  public:
    using backend_type = host_backend;

    [[nodiscard]] host_backend& backend() noexcept { return host_; }
    [[nodiscard]] bytes physical_bytes() const noexcept { return host_.kernel_physical_bytes(); }
    void look() { lines_ = testing::read_maps(); }
    [[nodiscard]] std::string permission(address where) const {
        for (const auto& line : lines_) {
            if (line.inside(where, bytes{1}) != 0)
                return std::string{line.permissions, 3};
        }
        return "nothing there";
    }

  private:
    host_backend host_{{.granularity = unit, .capacity = capacity, .max_mappings = max_mappings}};
    std::vector<testing::map_line> lines_;
};

TEST_CASE("random calls end alike on the host backend and on the model of the contract") {
    compare_with_the_model<host_subject>();
}

} // namespace
} // namespace vtensor::conformance
