add_executable(bench_manager bench_manager.cpp)
target_link_libraries(bench_manager PRIVATE vtensor::vtensor vtensor_strict)
