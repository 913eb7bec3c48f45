// SPDX-License-Identifier: Apache-2.0
// A position is not a number of pages, and two positions have no sum.
// expect: (no match for|invalid operands)
#include <vtensor/core/units.hpp>

vtensor::page_index next(vtensor::page_index last, vtensor::page_index by, vtensor::page_count count) {
#ifdef RIGHT
    static_cast<void>(by);
    return last + count;
#else
    static_cast<void>(count);
    return last + by;
#endif
}
