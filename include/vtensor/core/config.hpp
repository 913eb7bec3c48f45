// SPDX-License-Identifier: Apache-2.0
//
// The version of the library and the few macros every other header may use: the assertion hook and the marker
// for functions that kernels call. It never includes anything and never changes behaviour by itself.
#pragma once

#define VTENSOR_VERSION_MAJOR 0
#define VTENSOR_VERSION_MINOR 1
#define VTENSOR_VERSION_PATCH 0
#define VTENSOR_VERSION "0.1.0"

/// Called with an invariant of the library's own book-keeping, never with a caller's argument: those are
/// refused by `errc` in every build. Define it before the first include to send it to a hook of your own; it
/// is empty in release builds and `assert` in debug builds.
#ifndef VTENSOR_ASSERT
#ifdef NDEBUG
#define VTENSOR_ASSERT(condition) static_cast<void>(0)
#else
#include <cassert>
#define VTENSOR_ASSERT(condition) assert(condition)
#endif
#endif

/// Marks what a kernel may call, so that the same header compiles for the host alone and under nvcc or hipcc.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define VTENSOR_HOST_DEVICE __host__ __device__
#else
#define VTENSOR_HOST_DEVICE
#endif
