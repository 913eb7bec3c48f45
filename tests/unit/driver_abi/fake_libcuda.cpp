// SPDX-License-Identifier: Apache-2.0
//
// A shared library in the place of libcuda.so.1 that has its symbols and does nothing. What it is like is
// chosen when it is compiled:
//   FAKE_DEVICES        how many devices cuDeviceGetCount finds
//   FAKE_INIT           what cuInit gives
//   FAKE_LOOKUP         5 for cuGetProcAddress_v2 with five arguments, 4 for the first form, 0 for neither
//   FAKE_WITHOUT_EXPORT the optional entries for sharing are missing
#include <cstring>

#define ENTRY(name)                                                                                          \
    extern "C" int name();                                                                                   \
    int name() { return 0; }

// Old and new forms, as a driver has both: the library must take the new one.
ENTRY(cuDeviceTotalMem)
ENTRY(cuDeviceGetUuid)
ENTRY(cuDevicePrimaryCtxRelease)
ENTRY(cuCtxPushCurrent)
ENTRY(cuCtxPopCurrent)
ENTRY(cuMemGetInfo)
ENTRY(cuMemAlloc)
ENTRY(cuMemFree)
ENTRY(cuStreamDestroy)
ENTRY(cuEventDestroy)
ENTRY(cuDeviceTotalMem_v2)
ENTRY(cuDeviceGetUuid_v2)
ENTRY(cuDevicePrimaryCtxRelease_v2)
ENTRY(cuCtxPushCurrent_v2)
ENTRY(cuCtxPopCurrent_v2)
ENTRY(cuMemGetInfo_v2)
ENTRY(cuMemAlloc_v2)
ENTRY(cuMemFree_v2)
ENTRY(cuStreamDestroy_v2)
ENTRY(cuEventDestroy_v2)

ENTRY(cuDriverGetVersion)
ENTRY(cuGetErrorName)
ENTRY(cuGetErrorString)
ENTRY(cuDeviceGet)
ENTRY(cuDeviceGetName)
ENTRY(cuDeviceGetAttribute)
ENTRY(cuDeviceCanAccessPeer)
ENTRY(cuDevicePrimaryCtxRetain)
ENTRY(cuCtxGetCurrent)
ENTRY(cuCtxGetDevice)
ENTRY(cuMemGetAllocationGranularity)
ENTRY(cuMemAddressReserve)
ENTRY(cuMemAddressFree)
ENTRY(cuMemCreate)
ENTRY(cuMemRelease)
ENTRY(cuMemMap)
ENTRY(cuMemUnmap)
ENTRY(cuMemSetAccess)
ENTRY(cuMemGetAccess)
#ifndef FAKE_WITHOUT_EXPORT
ENTRY(cuMemExportToShareableHandle)
ENTRY(cuMemImportFromShareableHandle)
#endif
ENTRY(cuMemRetainAllocationHandle)
ENTRY(cuMemGetAllocationPropertiesFromHandle)
ENTRY(cuMemcpyAsync)
ENTRY(cuMemsetD8Async)
ENTRY(cuStreamCreate)
ENTRY(cuStreamSynchronize)
ENTRY(cuStreamQuery)
ENTRY(cuStreamWaitEvent)
ENTRY(cuEventCreate)
ENTRY(cuEventRecord)
ENTRY(cuEventQuery)
ENTRY(cuEventSynchronize)

extern "C" int cuInit(unsigned flags);
int cuInit(unsigned) { return FAKE_INIT; }
extern "C" int cuDeviceGetCount(int* count);
int cuDeviceGetCount(int* count) {
    *count = FAKE_DEVICES;
    return 0;
}

#if FAKE_LOOKUP != 0
// An entry in the form of the version of CUDA asked for, as the driver's header lists the versions: for those
// that changed, the new form only from its version on.
static void* look_up(const char* name, int version) {
    struct changed {
        const char* name;
        int since;
        int (*before)();
        int (*now)();
    };
    static const changed list[] = {
        {"cuDeviceTotalMem", 3020, cuDeviceTotalMem, cuDeviceTotalMem_v2},
        {"cuDeviceGetUuid", 11040, cuDeviceGetUuid, cuDeviceGetUuid_v2},
        {"cuDevicePrimaryCtxRelease", 11000, cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2},
        {"cuCtxPushCurrent", 4000, cuCtxPushCurrent, cuCtxPushCurrent_v2},
        {"cuCtxPopCurrent", 4000, cuCtxPopCurrent, cuCtxPopCurrent_v2},
        {"cuMemGetInfo", 3020, cuMemGetInfo, cuMemGetInfo_v2},
        {"cuMemAlloc", 3020, cuMemAlloc, cuMemAlloc_v2},
        {"cuMemFree", 3020, cuMemFree, cuMemFree_v2},
        {"cuStreamDestroy", 4000, cuStreamDestroy, cuStreamDestroy_v2},
        {"cuEventDestroy", 4000, cuEventDestroy, cuEventDestroy_v2},
    };
    for (const changed& one : list) {
        if (std::strcmp(name, one.name) == 0)
            return reinterpret_cast<void*>(version >= one.since ? one.now : one.before);
    }
    struct plain {
        const char* name;
        int since;
        int (*entry)();
    };
    static const plain others[] = {
        {"cuMemCreate", 10020, cuMemCreate},
        {"cuMemRetainAllocationHandle", 11000, cuMemRetainAllocationHandle},
        {"cuStreamWaitEvent", 3020, cuStreamWaitEvent},
    };
    for (const plain& one : others) {
        if (std::strcmp(name, one.name) == 0)
            return version >= one.since ? reinterpret_cast<void*>(one.entry) : nullptr;
    }
    return nullptr; // found by its symbol, as everything is in an old driver
}
#endif

#if FAKE_LOOKUP == 5
extern "C" int cuGetProcAddress_v2(const char* name, void** found, int version, unsigned long long flags,
                                   int* status);
int cuGetProcAddress_v2(const char* name, void** found, int version, unsigned long long flags, int* status) {
    *found = flags == 1 ? look_up(name, version) : nullptr; // 1: the legacy default stream
    *status = *found == nullptr ? 1 : 0;
    return 0;
}
#elif FAKE_LOOKUP == 4
extern "C" int cuGetProcAddress(const char* name, void** found, int version, unsigned long long flags);
int cuGetProcAddress(const char* name, void** found, int version, unsigned long long flags) {
    *found = flags == 1 ? look_up(name, version) : nullptr;
    return *found == nullptr ? 500 : 0; // "not found"
}
#endif
