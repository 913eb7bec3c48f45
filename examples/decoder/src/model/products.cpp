// SPDX-License-Identifier: Apache-2.0
#include "model/products.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>

namespace decoder {

namespace {

using matrix_map = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
                              Eigen::OuterStride<>>;
using vector_map = Eigen::Map<const Eigen::VectorXf>;

constexpr std::size_t tile_floats = 8192; // 32 KiB: a tile stays in the first-level cache, and on the stack
constexpr std::size_t widest_tile = 1024; // columns
constexpr std::size_t worth_a_task =
    131072; // multiplications; below, waking a thread costs more than it saves

/// A tile of the matrix as floats: where it lies, or converted into the caller's buffer.
struct tile {
    const float* data;
    std::size_t stride;
};

struct tile_place {
    std::size_t row, rows, column, columns;
};

tile read_tile(const weight& matrix, const tile_place& place, std::span<float> buffer) {
    const std::size_t width = matrix.columns();
    if (matrix.is_aligned_float())
        return {reinterpret_cast<const float*>(matrix.data) + place.row * width + place.column, width};
    for (std::size_t row = 0; row < place.rows; ++row)
        read_elements(matrix, (place.row + row) * width + place.column,
                      buffer.subspan(row * place.columns, place.columns));
    return {buffer.data(), place.columns};
}

/// Rows [first, first + rows) of y for every x.
void multiply_rows(const weight& matrix, std::size_t first, std::size_t rows, std::span<const float> x,
                   std::size_t count, std::span<float> y) {
    alignas(64) std::array<float, tile_floats> buffer;
    const std::size_t width = matrix.columns();
    const std::size_t height = matrix.shape.front();
    for (std::size_t column = 0; column < width; column += widest_tile) {
        const tile_place place{first, rows, column, std::min(widest_tile, width - column)};
        const tile part = read_tile(matrix, place, buffer);
        const matrix_map weights{part.data, static_cast<Eigen::Index>(rows),
                                 static_cast<Eigen::Index>(place.columns),
                                 Eigen::OuterStride<>{static_cast<Eigen::Index>(part.stride)}};
        for (std::size_t i = 0; i < count; ++i) {
            const vector_map input{x.data() + i * width + column, static_cast<Eigen::Index>(place.columns)};
            Eigen::Map<Eigen::VectorXf> output{y.data() + i * height + first,
                                               static_cast<Eigen::Index>(rows)};
            if (column == 0)
                output.setZero();
            output.noalias() += weights * input;
        }
    }
}

} // namespace

void multiply(const weight& matrix, std::span<const float> x, std::size_t count, std::span<float> y,
              thread_pool& threads) {
    const std::size_t height = matrix.shape.front();
    const std::size_t width = matrix.columns();
    const std::size_t rows = std::max<std::size_t>(1, tile_floats / std::min(width, widest_tile));
    const std::size_t tiles = (height + rows - 1) / rows;
    // Several tiles a task where they are small; the split never changes what a tile computes.
    const std::size_t tile_work = rows * width * std::max<std::size_t>(1, count);
    const std::size_t tiles_a_task = std::max<std::size_t>(1, worth_a_task / tile_work);
    const std::size_t tasks = (tiles + tiles_a_task - 1) / tiles_a_task;
    threads(tasks, [&](std::size_t task) {
        const std::size_t end = std::min(tiles, (task + 1) * tiles_a_task);
        for (std::size_t i = task * tiles_a_task; i < end; ++i)
            multiply_rows(matrix, i * rows, std::min(rows, height - i * rows), x, count, y);
    });
}

} // namespace decoder
