// SPDX-License-Identifier: Apache-2.0
// Making a device backend where there is no driver, no device, too little of either, or a call that fails.
#include "machines.hpp"

#include <support/fault_loop.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <string>

namespace vtensor::testing {
namespace {

using Catch::Matchers::ContainsSubstring;

template <class Backend, class Options>
void check_refused(const Options& options, errc code, const std::string& sentence) {
    const auto refused = Backend::try_open(options);
    CHECK_FALSE(refused);
    CHECK(ended(verb::construct, refused.failure.code) == ended(verb::construct, code));
    CHECK(refused.failure.where == verb::construct);
    CHECK_THAT(refused.reason, ContainsSubstring(sentence));
    try {
        const Backend thrown{options};
        FAIL_CHECK("there is a backend");
    } catch (const failure& caught) {
        CHECK(caught.error() == refused.failure);
    }
}

TEST_CASE("without a driver there is no device, and the exception carries the sentence", "[device]") {
    // Whatever this machine has: a driver with a device, or a sentence.
    for (const auto& [opened, reason, code] :
         {std::tuple{bool{cuda_backend::try_open()}, cuda_backend::try_open().reason,
                     cuda_backend::try_open().failure.code},
          std::tuple{bool{hip_backend::try_open()}, hip_backend::try_open().reason,
                     hip_backend::try_open().failure.code}}) {
        CHECK(opened == reason.empty());
        CHECK(opened == (code == errc::ok));
    }
    simulated_cuda machine{{.devices = 0}};
    check_refused<cuda_backend>(cuda_options{.driver = machine.driver()}, errc::no_device, "no device");
    try {
        const cuda_backend thrown{{.driver = machine.driver()}};
        FAIL("there is a backend");
    } catch (const device_failure& caught) {
        CHECK_THAT(caught.what(), ContainsSubstring("CUDA finds no device that it can use: 100."));
    }
    simulated_hip none{{.devices = 0}};
    check_refused<hip_backend>(hip_options{.driver = none.driver()}, errc::no_device, "no device");
}

TEST_CASE("a device that does not exist is refused", "[device]") {
    simulated_cuda cuda{{.devices = 2}};
    simulated_hip hip{{.devices = 2}};
    for (const int wrong : {2, -1, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()}) {
        const std::string sentence = "device " + std::to_string(wrong) + ": there are 2";
        check_refused<cuda_backend>(cuda_options{.device = wrong, .driver = cuda.driver()}, errc::no_device,
                                    sentence);
        check_refused<hip_backend>(hip_options{.device = wrong, .driver = hip.driver()}, errc::no_device,
                                   sentence);
        check_refused<cuda_backend>(cuda_options{.peers = {wrong}, .driver = cuda.driver()}, errc::no_device,
                                    "there is no peer");
    }
    check_refused<cuda_backend>(cuda_options{.peers = {0}, .driver = cuda.driver()}, errc::unsupported,
                                "device 0 is no peer");
    CHECK(to_string(cuda.leaks()) == "nothing");
}

TEST_CASE("a context that is none is refused", "[device]") {
    simulated_cuda machine;
    const auto context = machine.make_engine_context();
    machine.destroy_context(reinterpret_cast<std::uintptr_t>(context));
    check_refused<cuda_backend>(cuda_options{.context = context, .driver = machine.driver()},
                                errc::invalid_argument, "context");
}

TEST_CASE("a device without virtual memory is refused by CUDA and served plainly by HIP", "[device]") {
    simulated_cuda cuda{{.virtual_memory_supported = false}};
    check_refused<cuda_backend>(cuda_options{.driver = cuda.driver()}, errc::unsupported,
                                "the device does not support it");
    CHECK(to_string(cuda.leaks()) == "nothing");
    simulated_hip hip{{.virtual_memory_supported = false}};
    check_refused<hip_backend>(hip_options{.allow_plain_allocation = false, .driver = hip.driver()},
                               errc::unsupported, "the device does not support it");
    const hip_backend plain{{.driver = hip.driver()}};
    CHECK(plain.is_plain());
    CHECK_THAT(plain.describe(), ContainsSubstring("virtual memory: off (the device does not support it)"));
}

TEST_CASE("too little memory to try the device is out_of_memory, and no reason for plain allocation",
          "[device]") {
    simulated_cuda cuda{{.capacity = 4096}};
    check_refused<cuda_backend>(cuda_options{.driver = cuda.driver()}, errc::out_of_memory,
                                "creating memory failed with 2");
    simulated_hip hip{{.version = hip::abi::version(7, 14), .capacity = 4096}};
    check_refused<hip_backend>(hip_options{.driver = hip.driver()}, errc::out_of_memory,
                               "creating memory failed with 2");
    CHECK(to_string(cuda.leaks()) == "nothing");
    CHECK(to_string(hip.leaks()) == "nothing");
}

TEST_CASE("a driver that lacks what is optional works without it", "[device]") {
    simulated_cuda machine{{.devices = 2}};
    cuda_driver old = machine.driver();
    old.get_error_name = nullptr;
    old.get_error_string = nullptr;
    old.device_get_name = nullptr;
    old.device_total_mem = nullptr;
    old.device_can_access_peer = nullptr;
    old.device_get_uuid = nullptr;
    old.mem_get_info = nullptr;
    old.mem_alloc = nullptr;
    old.mem_free = nullptr;
    old.mem_get_access = nullptr;
    old.mem_export_to_shareable_handle = nullptr;
    old.mem_import_from_shareable_handle = nullptr;
    old.mem_retain_allocation_handle = nullptr;
    old.mem_get_allocation_properties_from_handle = nullptr;
    cuda_backend memory{{.sharing = sharing_wish::fabric_or_descriptor, .driver = old}};
    CHECK_THAT(memory.describe(), ContainsSubstring("of unknown name"));
    CHECK_THAT(memory.report().descriptors.reason, ContainsSubstring("too old"));
    CHECK_FALSE(memory.can_reach(1));
    CHECK(ended(memory.create(bytes{std::size_t{1} << 50})) == ended(verb::create, errc::out_of_memory));
    chunks_at run{memory, 2};
    run.map_and_open();
    run.take_down();
}

TEST_CASE("the report names driver, device, granularities, and what is off and why", "[device]") {
    simulated_cuda machine{{.device_name = "Hopper of glass",
                            .version = 12'040,
                            .minimum_granularity = std::size_t{64} << 10,
                            .recommended_granularity = std::size_t{2} << 20}};
    const cuda_backend memory{{.sharing = sharing_wish::fabric_or_descriptor, .driver = machine.driver()}};
    const std::string text = memory.describe();
    for (const char* const part :
         {"CUDA driver 12.4, device 0 Hopper of glass (9.0), 1 GiB",
          "granularity: 64 KiB (minimum 64 KiB, recommended 2 MiB)", "virtual memory: on", "aliasing: on",
          "read-only access: on", "revocation: on", "export by descriptor: on",
          "export by fabric handle: off (the device does not support it)",
          "GPUDirect RDMA: off (not asked for)"})
        CHECK_THAT(text, ContainsSubstring(part));
}

/// Makes and destroys a backend with each call of the driver failing once, or with its undo. Nothing is left,
/// whether there was a backend or not.
template <class Backend, class Machine, class Options>
void check_failing_calls(Machine& machine, Options options, std::size_t at_least) {
    options.driver = machine.driver();
    for (const auto length : {fault_length::one, fault_length::with_undo}) {
        for (const int native : {1, 2, 801, 999}) {
            simulated::driver_faults faults{machine, native};
            std::size_t refused = 0;
            std::size_t made = 0;
            const auto check = [&] { CHECK(to_string(machine.leaks()) == "nothing"); };
            const std::size_t failures = for_each_failing_call(
                faults,
                [&] {
                    const auto opened = Backend::try_open(options);
                    CHECK(opened.reason.empty() == static_cast<bool>(opened));
                    return static_cast<bool>(opened);
                },
                [&](std::size_t) {
                    ++refused;
                    check();
                },
                [&] { // a feature is off, or another try helped
                    ++made;
                    check();
                },
                errc::native_failure, length);
            CHECK(failures >= at_least);
            CHECK(refused > 2);
            CHECK(made > 5);
        }
    }
}

TEST_CASE("a call that fails while a backend is made or destroyed leaves nothing behind", "[device]") {
    simulated_cuda cuda{{.devices = 2,
                         .contexts = simulated::context_rule::everywhere,
                         .sharing = {.fabric_supported = true, .rdma_supported = true}}};
    check_failing_calls<cuda_backend>(
        cuda,
        cuda_options{.peers = {1}, .sharing = sharing_wish::fabric_or_descriptor, .gpu_direct_rdma = true},
        40);
    simulated_hip hip{{.devices = 2}};
    check_failing_calls<hip_backend>(
        hip,
        hip_options{.device = 1, .peers = {0}, .sharing = sharing_wish::descriptor, .gpu_direct_rdma = true},
        40);
}

} // namespace
} // namespace vtensor::testing
