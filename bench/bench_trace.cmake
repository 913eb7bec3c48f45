# SPDX-License-Identifier: Apache-2.0
add_executable(bench_trace bench_trace.cpp)
target_link_libraries(bench_trace PRIVATE vtensor::vtensor vtensor_strict)
target_compile_definitions(bench_trace PRIVATE VTENSOR_TRACES="${CMAKE_CURRENT_SOURCE_DIR}/traces")
