// SPDX-License-Identifier: Apache-2.0
// Constness of elements is not cast away by a view.
// expect: (could not convert|cannot convert|no viable conversion)
#include <vtensor/view.hpp>

#ifdef RIGHT
using target = vtensor::tensor_view<const float, 2>;
#else
using target = vtensor::tensor_view<float, 2>;
#endif

target convert(vtensor::tensor_view<const float, 2> view) { return view; }
