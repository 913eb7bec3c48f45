// SPDX-License-Identifier: Apache-2.0
//
// tensor_view: the arithmetic of extents and strides over a plain array whose elements are their own offsets.
#include "support/catch.hpp"

#include <vtensor/view.hpp>

#include <array>
#include <concepts>
#include <numeric>
#include <type_traits>

using vtensor::make_view;
using vtensor::tensor_view;

static_assert(std::is_trivially_copyable_v<tensor_view<int, 2>>);
static_assert(std::is_convertible_v<tensor_view<int, 2>, tensor_view<const int, 2>>);
static_assert(!std::is_convertible_v<tensor_view<const int, 2>, tensor_view<int, 2>>);
static_assert(!std::is_convertible_v<tensor_view<int, 2>, tensor_view<int, 3>>);
static_assert(std::same_as<tensor_view<const int, 2>::value_type, int>);

namespace {

std::array<int, 24> offsets() {
    std::array<int, 24> elements{};
    std::iota(elements.begin(), elements.end(), 0);
    return elements;
}

} // namespace

TEST_CASE("a dense view finds its elements in row-major order") {
    auto elements = offsets();
    const auto view = make_view(elements.data(), 2, 3, 4);
    CHECK(view.size() == 24);
    int expected = 0;
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 3; ++j) {
            for (int k = 0; k < 4; ++k) {
                CHECK(view(i, j, k) == expected);
                CHECK(view[static_cast<std::size_t>(i)](j, k) == expected);
                ++expected;
            }
        }
    }
    view(1, 2, 3) = -1;
    CHECK(elements[23] == -1);
}

TEST_CASE("strides may skip, reverse and repeat") {
    auto elements = offsets();
    tensor_view<int, 2> view;
    view.data = elements.data() + 23;
    view.extents[0] = 3;
    view.extents[1] = 2;
    view.strides[0] = -8;
    view.strides[1] = -2;
    CHECK(view(0, 0) == 23);
    CHECK(view(0, 1) == 21);
    CHECK(view(2, 1) == 5);
    CHECK(view[1](1) == 13);
    view.strides[0] = 0;
    CHECK(view(2, 0) == 23);
}

TEST_CASE("a part of the rows is a view of them") {
    auto elements = offsets();
    const auto part = make_view(elements.data(), 6, 4).rows(2, 3);
    CHECK(part.extents[0] == 3);
    CHECK(part.extents[1] == 4);
    CHECK(part(0, 0) == 8);
    CHECK(part(2, 3) == 19);
    CHECK(part.rows(3, 0).size() == 0);
    CHECK(part.rows(0, 3).data == part.data);
}

TEST_CASE("a view of const elements shows the same memory") {
    auto elements = offsets();
    const tensor_view<const int, 2> view = make_view(elements.data(), 6, 4);
    elements[5] = 55;
    CHECK(view(1, 1) == 55);
    CHECK(view.data == elements.data());
}

TEST_CASE("a view without elements is empty and points nowhere") {
    const tensor_view<float, 3> view;
    CHECK(view.data == nullptr);
    CHECK(view.size() == 0);
}
