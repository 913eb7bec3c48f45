// SPDX-License-Identifier: Apache-2.0
//
// The fixture of a backend without memory, for which touching is a call: the model, and what is made of it.
#pragma once

#include <support/catch.hpp>

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <span>

namespace vtensor::conformance {

template <backend Model>
struct model_fixture {
    using backend_type = Model;

    [[nodiscard]] Model& backend() noexcept { return model; }
    void write(address where, std::span<const std::byte> from) {
        REQUIRE(model.may_touch(where, access_mode::read_write));
        model.write(where, from);
    }
    void read(address where, std::span<std::byte> to) {
        REQUIRE(model.may_touch(where, access_mode::read));
        for (std::size_t index = 0; index < to.size(); ++index)
            to[index] = model.read(where + bytes{index}).value_or(std::byte{0});
    }
    [[nodiscard]] bool faults(address where, access_mode how) { return !model.may_touch(where, how); }
    [[nodiscard]] bytes physical_bytes() { return model.physical_bytes(); }

    Model model;
};

} // namespace vtensor::conformance
