// SPDX-License-Identifier: Apache-2.0
// An element has one index a dimension.
// expect: one index for every dimension
#include <vtensor/view.hpp>

float first(vtensor::tensor_view<const float, 3> view) {
#ifdef RIGHT
    return view(0, 0, 0);
#else
    return view(0, 0);
#endif
}
