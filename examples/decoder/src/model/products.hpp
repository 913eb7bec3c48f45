// SPDX-License-Identifier: Apache-2.0
//
// Products with weights that stay in the mapped file: y = W x for one or many x, in float32. The weights are
// converted tile by tile in a small buffer. Every element of y is computed by the same operations in the same
// order whatever the number of x and of threads, so results do not depend on either.
#pragma once

#include "io/weights.hpp"
#include "model/thread_pool.hpp"

#include <cstddef>
#include <span>

namespace decoder {

/// For each of `count` vectors x (columns(W) floats each, one after the other) the vector W x (rows(W)
/// floats, one after the other) into `y`. W is [rows, columns]; x and y do not overlap.
void multiply(const weight& matrix, std::span<const float> x, std::size_t count, std::span<float> y,
              thread_pool& threads);

} // namespace decoder
