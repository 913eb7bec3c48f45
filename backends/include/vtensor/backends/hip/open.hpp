// SPDX-License-Identifier: Apache-2.0
//
// Finds the device of a HIP backend and the quirks of its runtime, and has it tried.
#pragma once

#include <vtensor/backends/detail/device_probe.hpp>
#include <vtensor/backends/hip/api.hpp>
#include <vtensor/backends/hip/quirks.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace vtensor::hip {

namespace detail {

/// "gfx942:sramecc+:xnack-", or nothing where the runtime does not say. Throws std::bad_alloc.
[[nodiscard]] inline std::string architecture_of(const hip_driver& driver, int device) {
    if (driver.get_device_properties_r0600 != nullptr) {
        const auto found = std::make_unique<abi::device_prop_r0600>();
        if (driver.get_device_properties_r0600(found.get(), device) == abi::code::success)
            return found->gcn_arch_name;
    } else if (driver.get_device_properties != nullptr) {
        const auto found = std::make_unique<abi::device_prop_r0000>();
        if (driver.get_device_properties(found.get(), device) == abi::code::success)
            return found->gcn_arch_name;
    }
    return {};
}

/// "HIP runtime 6.3.42134".
[[nodiscard]] inline std::string driver_name(int version) {
    return "HIP runtime " + std::to_string(version / 10'000'000) + '.' +
           std::to_string(version / 100'000 % 100) + '.' + std::to_string(version % 100'000);
}

[[nodiscard]] inline device_report describe(const hip_driver& driver, int version, int device) {
    device_report report;
    report.driver = driver_name(version);
    report.ordinal = device;
    char name[256] = "of unknown name";
    if (driver.device_get_name != nullptr)
        static_cast<void>(driver.device_get_name(name, sizeof(name) - 1, device));
    report.name = name;
    report.architecture = architecture_of(driver, device);
    std::size_t memory = 0;
    if (driver.device_total_mem != nullptr && driver.device_total_mem(&memory, device) == abi::code::success)
        report.memory = bytes{memory};
    report.quirks = describe_quirks(version, report.architecture);
    return report;
}

} // namespace detail

/// `quirks` empty: those of the table. Throws std::bad_alloc.
[[nodiscard]] inline vtensor::detail::device_opening<api>
open_device(const hip_driver& driver, int device, const std::optional<device_quirks>& quirks,
            vtensor::detail::device_wishes&& wishes) {
    const auto fail = [](errc code, int native, std::string why) -> vtensor::detail::device_opening<api> {
        return {std::nullopt, error{code, verb::construct, native, bytes{0}}, std::move(why)};
    };
    if (const int code = driver.init(0); code != abi::code::success) // once more does no harm
        return fail(errc::no_device, code,
                    "HIP finds no device that it can use: " + std::to_string(code) + '.');
    int devices = 0;
    int version = 0;
    if (const int code = driver.get_device_count(&devices); code != abi::code::success)
        return fail(errc::no_device, code,
                    "The HIP devices cannot be counted: " + std::to_string(code) + '.');
    if (device < 0 || device >= devices)
        return fail(errc::no_device, 0,
                    "There is no HIP device " + std::to_string(device) + ": there are " +
                        std::to_string(devices) + '.');
    if (const int code = driver.runtime_get_version(&version); code != abi::code::success)
        return fail(errc::no_device, code, "HIP does not say its version: " + std::to_string(code) + '.');
    device_report report = detail::describe(driver, version, device);
    wishes.quirks = quirks.value_or(quirks_of(version, report.architecture));
    if (quirks)
        report.quirks = "given by the caller";
    return vtensor::detail::try_device(api{driver, version, devices, device}, std::move(report),
                                       std::move(wishes));
}

} // namespace vtensor::hip
