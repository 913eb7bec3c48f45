// SPDX-License-Identifier: Apache-2.0
//
// The driver is a table of functions: the installed one's, or the simulated one's over Linux memory. All else
// is the same for both.
#include "app/kv_memory.hpp"
#include "io/input_error.hpp"

#include <support/simulated_driver/cuda.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/host/available_memory.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace decoder {

namespace {

using vtensor::testing::simulated_cuda;

/// With the backend's own sentence.
[[noreturn]] void refuse_device(const std::string& reason) { refuse(reason + " Choose another --backend."); }

std::unique_ptr<vtensor::cuda_backend> open_backend(const vtensor::cuda_driver& driver) {
    auto opened = vtensor::cuda_backend::try_open({.driver = driver});
    if (!opened)
        refuse_device(opened.reason.empty() ? to_string(opened.failure) + '.' : opened.reason);
    return std::move(opened.backend);
}

/// What is free on the first device; nothing where the driver does not say.
std::optional<std::size_t> free_memory(const vtensor::cuda_driver& driver) noexcept {
    int device = 0;
    CUctx_st* context = nullptr;
    if (driver.mem_get_info == nullptr || driver.device_get(&device, 0) != 0 ||
        driver.device_primary_ctx_retain(&context, device) != 0)
        return std::nullopt;
    std::optional<std::size_t> found;
    if (driver.ctx_push_current(context) == 0) {
        std::size_t free = 0;
        std::size_t total = 0;
        if (driver.mem_get_info(&free, &total) == 0)
            found = free;
        driver.ctx_pop_current(&context);
    }
    driver.device_primary_ctx_release(device);
    return found;
}

class cuda_memory final : public kv_memory {
  public:
    /// `machine` is what the driver belongs to, null for the installed one.
    cuda_memory(const vtensor::cuda_driver& driver, std::unique_ptr<simulated_cuda> machine)
        : machine_{std::move(machine)},
          driver_{driver},
          backend_{open_backend(driver)},
          free_before_{free_memory(driver)} {}

    [[nodiscard]] vtensor::bytes granularity() const noexcept override { return backend_->granularity(); }
    [[nodiscard]] std::unique_ptr<kv_cache> make_cache(const kv_shape& shape,
                                                       const kv_options& options) override {
        return make_kv_cache(*backend_, shape, options);
    }
    [[nodiscard]] memory_facts facts() override {
        memory_facts all{backend_->describe(), {}, "driver", "cuMemGetInfo, before and after", {}};
        if (machine_ != nullptr)
            all.counted_how += "; simulated";
        if (const auto free_now = free_memory(driver_); free_now && free_before_)
            all.physical = vtensor::bytes{*free_before_ - std::min(*free_before_, *free_now)};
        return all;
    }

  private:
    std::unique_ptr<simulated_cuda> machine_;
    vtensor::cuda_driver driver_;
    std::unique_ptr<vtensor::cuda_backend> backend_;
    std::optional<std::size_t> free_before_;
};

} // namespace

std::unique_ptr<kv_memory> open_cuda_memory() {
    const auto loaded = vtensor::load_cuda_driver();
    if (!loaded)
        refuse_device(loaded.reason);
    return std::make_unique<cuda_memory>(loaded.driver, nullptr);
}

/// The device has as much memory as the host can spare.
std::unique_ptr<kv_memory> open_simulated_cuda_memory() {
    constexpr vtensor::bytes most{std::size_t{64} << 30};
    vtensor::testing::simulated::machine_options options;
    const vtensor::bytes spare = std::min(vtensor::host::available_memory(), most);
    options.capacity = spare.count() - spare.count() % options.minimum_granularity;
    auto machine = std::make_unique<simulated_cuda>(options);
    const vtensor::cuda_driver driver = machine->driver();
    return std::make_unique<cuda_memory>(driver, std::move(machine));
}

} // namespace decoder
