# SPDX-License-Identifier: Apache-2.0
# The targets a user links: vtensor::vtensor is the library with the host backend, headers only.

find_package(Boost 1.74 REQUIRED)
find_package(Threads REQUIRED)

add_library(vtensor INTERFACE)
add_library(vtensor::vtensor ALIAS vtensor)
target_compile_features(vtensor INTERFACE cxx_std_20)
target_link_libraries(vtensor INTERFACE Boost::headers Threads::Threads)

file(GLOB_RECURSE vtensor_core_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/vtensor/*.hpp)
file(GLOB_RECURSE vtensor_backend_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backends/include/vtensor/*.hpp)
target_sources(vtensor
    INTERFACE
        FILE_SET HEADERS
        BASE_DIRS include backends/include
        FILES ${vtensor_core_headers} ${vtensor_backend_headers})
