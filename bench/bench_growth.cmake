add_executable(bench_growth bench_growth.cpp)
target_link_libraries(bench_growth PRIVATE vtensor::vtensor vtensor_strict)
