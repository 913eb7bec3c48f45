# SPDX-License-Identifier: Apache-2.0
if(NOT TARGET vtensor_decoder_lib)
    return()
endif()
find_package(hwy REQUIRED)

# The model over ragged caches, which a test compares with PyTorch.
add_library(vtensor_ragged_llama STATIC EXCLUDE_FROM_ALL support/ragged_llama.cpp)
target_include_directories(vtensor_ragged_llama PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/support)
target_link_libraries(vtensor_ragged_llama PUBLIC vtensor_decoder_lib PRIVATE vtensor_strict hwy::hwy)

add_executable(bench_eviction_quality bench_eviction_quality.cpp support/eviction_methods.cpp
    support/recall_quality.cpp support/text_quality.cpp)
target_link_libraries(bench_eviction_quality PRIVATE vtensor_ragged_llama vtensor_strict)
target_compile_definitions(bench_eviction_quality PRIVATE
    VTENSOR_RECALL="${CMAKE_CURRENT_SOURCE_DIR}/recall"
    VTENSOR_TEXT_MODEL="${PROJECT_SOURCE_DIR}/examples/decoder/model")
