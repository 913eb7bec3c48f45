# SPDX-License-Identifier: Apache-2.0
# The targets a user links, headers only: vtensor::vtensor is the library with the host backend, vtensor::cuda and
# vtensor::hip are what a program links that uses those. They need no toolkit: the driver is loaded at run time.

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

foreach(device cuda hip)
    add_library(vtensor_${device} INTERFACE)
    add_library(vtensor::${device} ALIAS vtensor_${device})
    set_target_properties(vtensor_${device} PROPERTIES EXPORT_NAME ${device})
    target_link_libraries(vtensor_${device} INTERFACE vtensor ${CMAKE_DL_LIBS})
endforeach()
