// SPDX-License-Identifier: Apache-2.0
//
// Evidence as its definition writes it, in double precision: what the faster kernels are read beside, and the
// fallback where there are no vectors or a width exceeds their scratch. Nothing is allocated.
#pragma once

#include <vtensor/attention/detail/visibility.hpp>
#include <vtensor/attention/problem.hpp>

#include <cmath>
#include <cstddef>

namespace vtensor::attention::detail {

template <class T>
[[nodiscard]] const T* key_of(const kv_head<T>& head, std::size_t row) noexcept {
    return head.keys + static_cast<std::ptrdiff_t>(row) * head.key_stride;
}
template <class T>
[[nodiscard]] const T* value_of(const kv_head<T>& head, std::size_t row) noexcept {
    return head.values + static_cast<std::ptrdiff_t>(row) * head.value_stride;
}

namespace scalar {

/// ‖row‖₂.
template <class T>
[[nodiscard]] double length(const T* row, std::size_t width) noexcept {
    double sum = 0;
    for (std::size_t column = 0; column < width; ++column)
        sum += static_cast<double>(to_float(row[column])) * static_cast<double>(to_float(row[column]));
    return std::sqrt(sum);
}

/// 1/‖row‖₂; 0 for a row of zeros.
template <class T>
[[nodiscard]] double inverse_length(const T* row, std::size_t width) noexcept {
    const double norm = length(row, width);
    return norm == 0 ? 0 : 1 / norm;
}

/// One column of the sum of the live keys' directions.
template <class T>
[[nodiscard]] double sum_of_directions(const kv_head<T>& head, std::size_t width,
                                       std::size_t column) noexcept {
    double sum = 0;
    for (std::size_t row = 0; row < head.rows; ++row)
        if (!is_dead(head, row))
            sum += static_cast<double>(to_float(key_of(head, row)[column])) *
                   inverse_length(key_of(head, row), width);
    return sum;
}

/// `key_similarity` of one head. O(rows × width²).
template <class T>
void key_similarity(const kv_head<T>& head, std::size_t width, float* similarity) noexcept {
    for (std::size_t row = 0; row < head.rows; ++row)
        similarity[row] = 0;
    double squares = 0;
    for (std::size_t column = 0; column < width; ++column) {
        const double sum = sum_of_directions(head, width, column);
        squares += sum * sum;
        for (std::size_t row = 0; row < head.rows; ++row)
            if (!is_dead(head, row))
                similarity[row] +=
                    static_cast<float>(sum * static_cast<double>(to_float(key_of(head, row)[column])));
    }
    for (std::size_t row = 0; row < head.rows; ++row)
        if (!is_dead(head, row))
            similarity[row] *= static_cast<float>(
                squares == 0 ? 0 : inverse_length(key_of(head, row), width) / std::sqrt(squares));
}

/// ‖value · W‖₁ for one query head of `weights`.
template <class T, class Weight>
[[nodiscard]] double output_norm(const T* value, const tensor_view<const Weight, 3>& weights,
                                 std::size_t query_head) noexcept {
    double norm = 0;
    for (std::size_t output = 0; output < weights.extents[2]; ++output) {
        double sum = 0;
        for (std::size_t column = 0; column < weights.extents[1]; ++column)
            sum += static_cast<double>(to_float(value[column])) *
                   static_cast<double>(to_float(weights(query_head, column, output)));
        norm += std::abs(sum);
    }
    return norm;
}

} // namespace scalar
} // namespace vtensor::attention::detail
