// SPDX-License-Identifier: Apache-2.0
//
// Memory of one tensor taken ahead of its rows, and given back as it was: the steps of which a layer's
// `try_prepare` is made.
#pragma once

#include <vtensor/core/error.hpp>
#include <vtensor/core/units.hpp>
#include <vtensor/kv/surplus.hpp>

#include <algorithm>
#include <cstddef>

namespace vtensor::kv::detail {

/// `rows` rows fit in what is mapped, or nothing changed.
template <class Tensor>
[[nodiscard]] status prepare(Tensor& tensor, std::size_t rows, surplus with) noexcept {
    const bytes before = tensor.mapped_bytes();
    const status outcome = tensor.try_prepare(rows);
    if (outcome && with == surplus::none) // what the backend does not unmap is no more than a surplus
        static_cast<void>(tensor.try_trim(std::max(before, tensor.row_bytes() * rows)));
    return outcome;
}

/// Unmaps what lies beyond `mapped` bytes. A passing failure is met by a second try; after another the pages
/// stay, counted, and serve the next growth.
template <class Tensor>
void give_back(Tensor& tensor, bytes mapped) noexcept {
    if (!tensor.try_trim(mapped))
        static_cast<void>(tensor.try_trim(mapped));
}

/// A K and a V tensor that grow together, and what they had before.
struct mapped_before {
    bytes keys{};
    bytes values{};
};

/// Both have memory for `rows` rows, or nothing changed. `before` receives what `undo_prepare` needs.
template <class Tensor>
[[nodiscard]] status prepare_both(Tensor& keys, Tensor& values, std::size_t rows, surplus with,
                                  mapped_before& before) noexcept {
    before = {keys.mapped_bytes(), values.mapped_bytes()};
    if (const status outcome = prepare(keys, rows, with); !outcome)
        return outcome;
    const status outcome = prepare(values, rows, with);
    if (!outcome)
        give_back(keys, before.keys);
    return outcome;
}
template <class Tensor>
void undo_prepare_both(Tensor& keys, Tensor& values, const mapped_before& before) noexcept {
    give_back(values, before.values);
    give_back(keys, before.keys);
}

/// Bytes of the last page that rows occupy which they leave free.
template <class Tensor>
[[nodiscard]] bytes part_page(const Tensor& tensor) noexcept {
    const auto figures = tensor.stats();
    return figures.used == bytes{0} ? bytes{0} : round_up(figures.used, figures.page) - figures.used;
}

} // namespace vtensor::kv::detail
