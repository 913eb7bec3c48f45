# SPDX-License-Identifier: Apache-2.0
# How our own tests, examples and benchmarks are compiled. Users never see this.

add_library(vtensor_strict INTERFACE)
target_compile_options(vtensor_strict INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
    -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
    $<$<BOOL:${VTENSOR_WARNINGS_AS_ERRORS}>:-Werror> $<$<BOOL:${VTENSOR_NATIVE}>:-march=native>>)

set(vtensor_sanitizers "" CACHE STRING "Sanitizers for tests, examples and benchmarks, as in -fsanitize=")
mark_as_advanced(vtensor_sanitizers)
if(vtensor_sanitizers)
    target_compile_options(vtensor_strict INTERFACE
        -fsanitize=${vtensor_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(vtensor_strict INTERFACE -fsanitize=${vtensor_sanitizers})
endif()
