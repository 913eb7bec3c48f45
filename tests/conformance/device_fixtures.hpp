// SPDX-License-Identifier: Apache-2.0
//
// Fixtures for device backends: over a simulated driver, and over a real one. Memory is written and read by
// the backend's own copies, as a program would.
#pragma once

#include <conformance/fixture.hpp>
#include <support/catch.hpp>
#include <support/death.hpp>
#include <support/simulated_driver/machine.hpp>

#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <span>

namespace vtensor::conformance {

/// Copies on the default stream and waits for an event behind it.
template <stream_ordered_backend Backend>
void copy_and_wait(Backend& backend, address to, address from, bytes size) {
    const typename Backend::stream_type stream{};
    const auto event = backend.create_event();
    REQUIRE(ended(event) == "ok");
    CHECK(ended(backend.copy(to, from, size, stream)) == "ok");
    CHECK(ended(backend.record(*event, stream)) == "ok");
    CHECK(ended(backend.wait(*event)) == "ok");
    CHECK(ended(backend.destroy_event(*event)) == "ok");
}

/// What a fixture of a device has in common. `Made` has the backend as `memory`.
template <class Backend>
struct device_fixture {
    using backend_type = Backend;

    explicit device_fixture(const typename Backend::options_type& options) : memory{options} {}

    [[nodiscard]] Backend& backend() noexcept { return memory; }
    void write(address where, std::span<const std::byte> from) {
        copy_and_wait(memory, where, address{from.data()}, bytes{from.size()});
    }
    void read(address where, std::span<std::byte> to) {
        copy_and_wait(memory, address{to.data()}, where, bytes{to.size()});
    }

    Backend memory;
};

/// A simulated machine that must end as it began: nothing left behind, no rule broken.
template <class Machine>
struct clean_machine {
    explicit clean_machine(const testing::simulated::machine_options& options) : machine{options} {}
    clean_machine(const clean_machine&) = delete;
    clean_machine& operator=(const clean_machine&) = delete;
    ~clean_machine() {
        CHECK(to_string(machine.leaks()) == "nothing");
        for (const auto& violation : machine.violations())
            FAIL_CHECK(violation.text);
    }

    Machine machine;
};

/// Over a simulated machine, whose addresses the processor can really touch, and whose count of physical
/// memory is its own. `Setup` says how to make both.
template <class Setup>
struct simulated_fixture : private clean_machine<typename Setup::machine_type>,
                           device_fixture<typename Setup::backend_type> {
    using clean_machine<typename Setup::machine_type>::machine;

    simulated_fixture()
        : clean_machine<typename Setup::machine_type>{Setup::machine()},
          device_fixture<typename Setup::backend_type>{Setup::backend(machine)} {}

    [[nodiscard]] bool faults(address where, access_mode how) {
        return how == access_mode::read_write ? testing::writing_faults(where.to_pointer())
                                              : testing::reading_faults(where.to_pointer());
    }
    [[nodiscard]] bytes physical_bytes() { return bytes{machine.leaks().physical_bytes}; }
};

} // namespace vtensor::conformance
