// SPDX-License-Identifier: Apache-2.0
// Growth by no pages is none.
// expect: growth by no pages is none
#include <vtensor/policy/growth.hpp>

#ifdef RIGHT
constexpr std::size_t step = 1;
#else
constexpr std::size_t step = 0;
#endif

vtensor::page_count grow(const vtensor::growth_state& state) {
    return vtensor::growth::fixed<step>{}.target(state);
}
