# SPDX-License-Identifier: Apache-2.0
# `cmake --install`, and what find_package(vtensor) reads.
include(CMakePackageConfigHelpers)

set(vtensor_config_dir ${CMAKE_INSTALL_DATADIR}/cmake/vtensor)

install(TARGETS vtensor vtensor_cuda vtensor_hip EXPORT vtensor-targets FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT vtensor-targets NAMESPACE vtensor:: DESTINATION ${vtensor_config_dir})

configure_package_config_file(cmake/vtensor-config.cmake.in ${PROJECT_BINARY_DIR}/vtensor-config.cmake
    INSTALL_DESTINATION ${vtensor_config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vtensor-config-version.cmake
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/vtensor-config.cmake ${PROJECT_BINARY_DIR}/vtensor-config-version.cmake
    DESTINATION ${vtensor_config_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
