// SPDX-License-Identifier: Apache-2.0
//
// Finds the device and the context of a CUDA backend, and has them tried.
#pragma once

#include <vtensor/backends/cuda/api.hpp>
#include <vtensor/backends/detail/device_probe.hpp>

#include <string>
#include <utility>

namespace vtensor::cuda {

namespace detail {

/// "CUDA driver 13.0".
[[nodiscard]] inline std::string driver_name(const cuda_driver& driver) {
    int version = 0;
    if (driver.driver_get_version(&version) != abi::code::success)
        return "CUDA driver of unknown version";
    return "CUDA driver " + std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10);
}

/// The ordinal of the device that a context belongs to. 0 or a CUresult.
inline int device_of(const cuda_driver& driver, abi::context context, int& device) noexcept {
    if (const int code = driver.ctx_push_current(context); code != abi::code::success)
        return code;
    const int code = driver.ctx_get_device(&device);
    abi::context popped = nullptr;
    static_cast<void>(vtensor::detail::insist([&] { return driver.ctx_pop_current(&popped); }));
    return code;
}

[[nodiscard]] inline device_report describe(const cuda_driver& driver, int device) {
    device_report report;
    report.driver = driver_name(driver);
    report.ordinal = device;
    char name[256] = "of unknown name";
    if (driver.device_get_name != nullptr)
        static_cast<void>(driver.device_get_name(name, sizeof(name) - 1, device));
    report.name = name;
    int major = 0;
    int minor = 0;
    if (driver.device_get_attribute(&major, abi::attribute::compute_capability_major, device) == 0 &&
        driver.device_get_attribute(&minor, abi::attribute::compute_capability_minor, device) == 0)
        report.architecture = std::to_string(major) + '.' + std::to_string(minor);
    std::size_t memory = 0;
    if (driver.device_total_mem != nullptr && driver.device_total_mem(&memory, device) == abi::code::success)
        report.memory = bytes{memory};
    return report;
}

} // namespace detail

/// `context` null: the primary one of the device with that ordinal. Throws std::bad_alloc.
[[nodiscard]] inline vtensor::detail::device_opening<api>
open_device(const cuda_driver& driver, int device, abi::context context,
            vtensor::detail::device_wishes&& wishes) {
    const auto fail = [](errc code, int native, std::string why) -> vtensor::detail::device_opening<api> {
        return {std::nullopt, error{code, verb::construct, native, bytes{0}}, std::move(why)};
    };
    if (const int code = driver.init(0); code != abi::code::success) // once more does no harm
        return fail(errc::no_device, code,
                    "CUDA finds no device that it can use: " + std::to_string(code) + '.');
    int devices = 0;
    if (const int code = driver.device_get_count(&devices); code != abi::code::success)
        return fail(errc::no_device, code,
                    "The CUDA devices cannot be counted: " + std::to_string(code) + '.');
    const bool own_context = context != nullptr;
    if (own_context) {
        if (const int code = detail::device_of(driver, context, device); code != abi::code::success)
            return fail(errc::invalid_argument, code,
                        "The context is none that CUDA can use: " + std::to_string(code) + '.');
    } else if (device < 0 || device >= devices) {
        return fail(errc::no_device, 0,
                    "There is no CUDA device " + std::to_string(device) + ": there are " +
                        std::to_string(devices) + '.');
    }
    device_report report = detail::describe(driver, device);
    if (!own_context) {
        if (const int code = driver.device_primary_ctx_retain(&context, device); code != abi::code::success)
            return fail(api::classify(code) == errc::native_failure ? errc::no_device : api::classify(code),
                        code,
                        "CUDA device " + std::to_string(device) +
                            " gives no primary context: " + std::to_string(code) + '.');
    }
    return vtensor::detail::try_device(api{driver, devices, device, context, !own_context}, std::move(report),
                                       std::move(wishes));
}

} // namespace vtensor::cuda
