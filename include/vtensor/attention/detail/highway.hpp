// SPDX-License-Identifier: Apache-2.0
//
// Google Highway. The one place that includes it: some releases (1.0.3, which Debian 12 has, is one) do not
// compile for the best instruction set of processors that also have AVX-VNNI, unless told to consider it.
#pragma once

#if defined(__AVX512F__) && defined(__AVXVNNI__) && !defined(HWY_WANT_AVX3_DL)
#define HWY_WANT_AVX3_DL
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>
