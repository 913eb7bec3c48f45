# SPDX-License-Identifier: Apache-2.0
# Programs for a real GPU. They compile without one, and say there that there is none.
if(VTENSOR_HAS_NVCC)
    add_executable(vmm_probe vmm_probe.cu)
    vtensor_cuda_sources(vmm_probe)
    target_link_libraries(vmm_probe PRIVATE ${CMAKE_DL_LIBS})

    add_executable(bench_vmm bench_vmm.cu)
    vtensor_cuda_sources(bench_vmm)
    target_link_libraries(bench_vmm PRIVATE vtensor::cuda)
endif()
