// SPDX-License-Identifier: Apache-2.0
//
// A shared library in the place of libamdhip64.so that has its symbols and does nothing. FAKE_DEVICES is how
// many devices it finds; with FAKE_OLD it lacks what is optional.
#define ENTRY(name)                                                                                          \
    extern "C" int name();                                                                                   \
    int name() { return 0; }

ENTRY(hipInit)
ENTRY(hipRuntimeGetVersion)
ENTRY(hipSetDevice)
ENTRY(hipGetDevice)
ENTRY(hipDeviceGetAttribute)
ENTRY(hipMemGetAllocationGranularity)
ENTRY(hipMemAddressReserve)
ENTRY(hipMemAddressFree)
ENTRY(hipMemCreate)
ENTRY(hipMemRelease)
ENTRY(hipMemMap)
ENTRY(hipMemUnmap)
ENTRY(hipMemSetAccess)
ENTRY(hipMalloc)
ENTRY(hipFree)
ENTRY(hipMemcpyAsync)
ENTRY(hipMemsetAsync)
ENTRY(hipStreamCreateWithFlags)
ENTRY(hipStreamDestroy)
ENTRY(hipStreamSynchronize)
ENTRY(hipStreamQuery)
ENTRY(hipStreamWaitEvent)
ENTRY(hipEventCreateWithFlags)
ENTRY(hipEventDestroy)
ENTRY(hipEventRecord)
ENTRY(hipEventQuery)
ENTRY(hipEventSynchronize)
#ifndef FAKE_OLD
ENTRY(hipDriverGetVersion)
ENTRY(hipGetErrorName)
ENTRY(hipGetErrorString)
ENTRY(hipGetLastError)
ENTRY(hipDeviceGetName)
ENTRY(hipDeviceTotalMem)
ENTRY(hipDeviceCanAccessPeer)
ENTRY(hipDeviceGetUuid)
ENTRY(hipGetDevicePropertiesR0600)
ENTRY(hipGetDeviceProperties)
ENTRY(hipMemGetInfo)
ENTRY(hipMemGetAccess)
ENTRY(hipMemExportToShareableHandle)
ENTRY(hipMemImportFromShareableHandle)
ENTRY(hipMemRetainAllocationHandle)
ENTRY(hipMemGetAllocationPropertiesFromHandle)
#endif

extern "C" int hipGetDeviceCount(int* count);
int hipGetDeviceCount(int* count) {
    *count = FAKE_DEVICES;
    return 0;
}
