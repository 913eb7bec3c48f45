add_executable(bench_mapping bench_mapping.cpp)
target_link_libraries(bench_mapping PRIVATE vtensor::vtensor vtensor_strict)
