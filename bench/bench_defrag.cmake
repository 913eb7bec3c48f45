add_executable(bench_defrag bench_defrag.cpp)
target_link_libraries(bench_defrag PRIVATE vtensor::vtensor vtensor_strict)
