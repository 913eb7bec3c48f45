# SPDX-License-Identifier: Apache-2.0
find_package(hwy REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
add_executable(bench_eviction bench_eviction.cpp)
target_link_libraries(bench_eviction PRIVATE vtensor::vtensor vtensor_strict hwy::hwy Eigen3::Eigen)
