// SPDX-License-Identifier: Apache-2.0
// Pages are not bytes: their size is missing.
// expect: (no match for|invalid operands)
#include <vtensor/core/units.hpp>

vtensor::bytes sum(vtensor::bytes left, vtensor::page_count right, vtensor::bytes page_size) {
#ifdef RIGHT
    return left + right * page_size;
#else
    static_cast<void>(page_size);
    return left + right;
#endif
}
