// SPDX-License-Identifier: Apache-2.0
//
// The result codes that the simulated machine gives. CUDA and HIP number them alike, so one simulation serves
// both.
#pragma once

#include <vtensor/backends/cuda/abi.hpp>
#include <vtensor/backends/hip/abi.hpp>

namespace vtensor::testing::simulated::code {

inline constexpr int success = 0;
inline constexpr int invalid_value = 1;
inline constexpr int out_of_memory = 2;
inline constexpr int not_initialized = 3;
inline constexpr int no_device = 100;
inline constexpr int invalid_device = 101;
inline constexpr int invalid_context = 201;
inline constexpr int operating_system = 304; ///< the simulation's own limits: Linux refused a mapping
inline constexpr int invalid_handle = 400;
inline constexpr int not_ready = 600;
inline constexpr int illegal_address = 700;
inline constexpr int not_supported = 801;
inline constexpr int unknown = 999;

static_assert(success == cuda::abi::code::success && success == hip::abi::code::success);
static_assert(invalid_value == cuda::abi::code::invalid_value &&
              invalid_value == hip::abi::code::invalid_value);
static_assert(out_of_memory == cuda::abi::code::out_of_memory &&
              out_of_memory == hip::abi::code::out_of_memory);
static_assert(not_initialized == cuda::abi::code::not_initialized &&
              not_initialized == hip::abi::code::not_initialized);
static_assert(no_device == cuda::abi::code::no_device && no_device == hip::abi::code::no_device);
static_assert(invalid_device == cuda::abi::code::invalid_device &&
              invalid_device == hip::abi::code::invalid_device);
static_assert(invalid_context == cuda::abi::code::invalid_context &&
              invalid_context == hip::abi::code::invalid_context);
static_assert(operating_system == cuda::abi::code::operating_system &&
              operating_system == hip::abi::code::operating_system);
static_assert(invalid_handle == cuda::abi::code::invalid_handle &&
              invalid_handle == hip::abi::code::invalid_handle);
static_assert(not_ready == cuda::abi::code::not_ready && not_ready == hip::abi::code::not_ready);
static_assert(illegal_address == cuda::abi::code::illegal_address &&
              illegal_address == hip::abi::code::illegal_address);
static_assert(not_supported == cuda::abi::code::not_supported &&
              not_supported == hip::abi::code::not_supported);
static_assert(unknown == cuda::abi::code::unknown && unknown == hip::abi::code::unknown);

} // namespace vtensor::testing::simulated::code
