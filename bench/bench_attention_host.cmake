# SPDX-License-Identifier: Apache-2.0
find_package(hwy REQUIRED)
add_executable(bench_attention_host bench_attention_host.cpp)
target_link_libraries(bench_attention_host PRIVATE vtensor::vtensor vtensor_strict hwy::hwy)
