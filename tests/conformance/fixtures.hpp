// SPDX-License-Identifier: Apache-2.0
//
// Fixtures for the backends and adaptors of this library.
#pragma once

#include <conformance/fixture.hpp>
#include <conformance/model_fixture.hpp>
#include <support/death.hpp>
#include <support/kernel_figures.hpp>
#include <support/reference_backend.hpp>

#include <vtensor/backends/host.hpp>

#include <cstddef>
#include <cstring>
#include <span>

namespace vtensor::conformance {

/// A host backend with pages of the given size. Touching is real; the memory figure is the kernel's.
template <std::size_t Granularity, bool Exportable = false>
struct host_fixture {
    using backend_type = host_backend;

    [[nodiscard]] host_backend& backend() noexcept { return host; }
    void write(address where, std::span<const std::byte> from) {
        std::memcpy(where.to_pointer(), from.data(), from.size());
    }
    void read(address where, std::span<std::byte> to) {
        std::memcpy(to.data(), where.to_pointer(), to.size());
    }
    [[nodiscard]] bool faults(address where, access_mode how) {
        return how == access_mode::read_write ? testing::writing_faults(where.to_pointer())
                                              : testing::reading_faults(where.to_pointer());
    }
    [[nodiscard]] bytes physical_bytes() { return testing::kernel_memory_file_bytes(); }

    host_backend host{{.granularity = bytes{Granularity}, .capacity = 1_GiB, .exportable = Exportable}};
};

using reference_fixture = model_fixture<testing::reference_backend>;

static_assert(touching_fixture<host_fixture<4096>> && measuring_fixture<host_fixture<4096>>);
static_assert(touching_fixture<reference_fixture> && measuring_fixture<reference_fixture>);

} // namespace vtensor::conformance
