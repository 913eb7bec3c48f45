# SPDX-License-Identifier: Apache-2.0
# Programs with kernels: the probe, a benchmark and tests on real devices. Where there is no CUDA compiler that works
# with this host compiler they are left out, and nothing else changes; the library itself never needs one.
option(VTENSOR_CUDA_PROGRAMS "Build the programs with CUDA kernels where nvcc is found" ON)
mark_as_advanced(VTENSOR_CUDA_PROGRAMS)

set(VTENSOR_HAS_NVCC FALSE)
if(VTENSOR_CUDA_PROGRAMS AND NOT vtensor_sanitizers)
    find_program(VTENSOR_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(VTENSOR_NVCC)
    if(VTENSOR_NVCC AND NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
        set(CMAKE_CUDA_ARCHITECTURES 80 90 CACHE STRING "What kernels are compiled for")
    endif()
    if(VTENSOR_NVCC AND NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
        set(ENV{CUDACXX} ${VTENSOR_NVCC})
    endif()
    if(VTENSOR_NVCC)
        include(CheckLanguage)
        check_language(CUDA)
    endif()
    if(CMAKE_CUDA_COMPILER)
        enable_language(CUDA)
        set(VTENSOR_HAS_NVCC TRUE)
    endif()
endif()

# vtensor_cuda_sources(TARGET): the flags of its .cu files. The standard is given as a flag because CMake 3.25 does not
# know that nvcc has it.
function(vtensor_cuda_sources target)
    target_compile_options(${target} PRIVATE
        $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>
        $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow>
        $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${VTENSOR_WARNINGS_AS_ERRORS}>>:-Werror=all-warnings>)
endfunction()
