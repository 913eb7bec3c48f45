// SPDX-License-Identifier: Apache-2.0
// Each call of the driver is made to fail, alone and with the call that follows it, which undoes: a tensor on
// a device that grows, shrinks or goes leaves nothing half done and nothing behind, by the count of the
// simulated machine.
#include "fault_devices.hpp"

#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>

namespace vtensor::testing {
namespace {

/// A tensor of one chunk a row on a fresh machine, and what must be true of both at rest. The machine must
/// end with nothing left and no rule broken.
template <class Device>
struct tensor_case : conformance::clean_machine<typename Device::machine_type> {
    using base = conformance::clean_machine<typename Device::machine_type>;
    using backend_type = typename Device::backend_type;
    using tensor_type = virtual_tensor<std::byte, backend_type>;
    using base::machine;
    static constexpr bytes chunk = Device::chunk;
    static constexpr std::size_t max_rows = 12;

    explicit tensor_case(std::size_t rows) : base{Device::machine()} {
        tensor.emplace(pool, row_shape{chunk.count()}, max_rows);
        resize(rows);
    }

    void resize(std::size_t rows) {
        tensor->resize(rows);
        for (std::size_t index = 0; index < rows; ++index)
            *at(index).template to_pointer<std::byte>() = static_cast<std::byte>(index + 1);
    }
    [[nodiscard]] address at(std::size_t index) { return address{tensor->data()} + chunk * index; }

    /// The tensor, the backend and the machine agree that there are so many rows, which both devices can use,
    /// of which the first `written` hold what was written, and behind which nothing is mapped.
    void check(std::size_t rows, std::size_t written) {
        CHECK(tensor->rows() == rows);
        CHECK(tensor->mapped_bytes() == chunk * rows);
        CHECK(tensor->verify());
        CHECK(pool.verify());
        CHECK(memory.mapped_bytes() == chunk * rows);
        CHECK(memory.mapping_count() == machine.mapping_count());
        CHECK(mapped_bytes(machine, at(0), chunk * max_rows) == chunk * rows);
        for (const int device : {0, 1})
            CHECK(open_bytes(machine, at(0), chunk * max_rows, device) == chunk * rows);
        for (std::size_t index = 0; index < written; ++index)
            CHECK(*at(index).template to_pointer<std::byte>() == static_cast<std::byte>(index + 1));
        CHECK(memory.physical_bytes() == pool.stats().created);
        CHECK(bytes{machine.physical_bytes()} == pool.stats().created);
    }

    /// Runs the operation on `before` rows with each call failing; it changes nothing, or leads to `after`.
    template <class Operation>
    void run(std::size_t before, std::size_t after, std::size_t at_least, Operation operation) {
        for (const auto length : {fault_length::one, fault_length::with_undo}) {
            simulated::driver_faults faults{machine, simulated::code::unknown};
            std::size_t refused = 0;
            const auto again = [&] { // from the same state, with an empty pool
                resize(before);
                REQUIRE(pool.trim().ok());
            };
            for_each_failing_call(
                faults, operation,
                [&](std::size_t) {
                    ++refused;
                    check(before, before);
                    again();
                },
                [&] { // it was tried again
                    check(after, std::min(before, after));
                    again();
                },
                errc::native_failure, length);
            check(after, std::min(before, after));
            CHECK(refused >= at_least);
            again();
        }
    }

    backend_type memory{Device::backend(machine)};
    chunk_pool<backend_type> pool{memory, {.chunk_size = chunk}};
    std::optional<tensor_type> tensor;
};

TEMPLATE_LIST_TEST_CASE("growing with a failing driver changes nothing or succeeds", "[device]", devices) {
    tensor_case<TestType> scene{3};
    scene.run(3, 8, 11, [&] { return scene.tensor->try_resize(8).ok(); }); // create, map, access: 5 + 5 + 1
}

TEMPLATE_LIST_TEST_CASE("shrinking with a failing driver changes nothing or succeeds", "[device]", devices) {
    tensor_case<TestType> scene{8};
    scene.run(8, 2, 1, [&] { return scene.tensor->try_resize(2).ok(); });
}

TEMPLATE_LIST_TEST_CASE("shrinking behind a stream with a failing driver keeps the rows or gives them back",
                        "[device]", devices) {
    tensor_case<TestType> scene{8};
    scene.run(8, 2, 1, [&] {
        const bool done = scene.tensor->try_resize(2, {}).ok();
        if (done) { // the caller's next step; what failed there is done by another try
            for (int tries = 0; tries < 4 && !scene.pool.retiring().reclaim().ok(); ++tries) {
            }
        }
        return done;
    });
}

TEMPLATE_LIST_TEST_CASE("taking a tensor, its pool and its backend down with a failing driver leaves nothing",
                        "[device]", devices) {
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        simulated::machine_options options = TestType::machine();
        typename TestType::machine_type machine{options};
        simulated::driver_faults faults{machine, simulated::code::unknown};
        std::size_t runs = 0;
        // Only what happens after the tensor stands is counted: making it is another test's.
        for (std::size_t k = 1;; ++k) {
            std::size_t failures = 0;
            {
                typename TestType::backend_type memory{TestType::backend(machine)};
                chunk_pool<typename TestType::backend_type> pool{memory, {.chunk_size = TestType::chunk}};
                virtual_tensor<std::byte, typename TestType::backend_type> tensor{
                    pool, row_shape{TestType::chunk.count()}, 8};
                tensor.resize(5);
                faults.fail_calls(k, static_cast<std::size_t>(length), 0);
            }
            failures = faults.disarm();
            INFO("call " << k);
            CHECK(to_string(machine.leaks()) == "nothing");
            CHECK(machine.violations().empty());
            if (failures == 0)
                break;
            ++runs;
        }
        CHECK(runs > 8);
    }
}

} // namespace
} // namespace vtensor::testing
