# SPDX-License-Identifier: Apache-2.0
add_subdirectory(${PROJECT_SOURCE_DIR}/tests/support/simulated_driver ${CMAKE_CURRENT_BINARY_DIR}/simulated_driver)
add_executable(bench_vmm_simulated bench_vmm_simulated.cpp)
target_link_libraries(bench_vmm_simulated PRIVATE vtensor::cuda vtensor_strict vtensor_simulated_driver)
