// SPDX-License-Identifier: Apache-2.0
//
// A simulated machine with a CUDA driver: its table has the very functions that the real one has.
#pragma once

#include <support/simulated_driver/driver_entries.hpp>

#include <vtensor/backends/cuda/driver.hpp>

#include <cstddef>
#include <utility>

namespace vtensor::testing {

/// Up to eight at a time. A table must not be used after its machine is gone.
class simulated_cuda : public simulated::machine {
  public:
    explicit simulated_cuda(simulated::machine_options options = {})
        : machine{simulated::api::cuda, with_defaults(std::move(options))},
          slot_{simulated::machine_slots<simulated_cuda>::take(*this)} {}
    ~simulated_cuda() { simulated::machine_slots<simulated_cuda>::give_back(slot_); }

    /// The driver, complete. A test may null what its driver is to lack.
    [[nodiscard]] inline cuda_driver driver() const noexcept;

    /// A context as an engine makes its own, and would hand to a backend.
    [[nodiscard]] cuda::abi::context make_engine_context(int device = 0) {
        return simulated::object_of<cuda::abi::context>(make_context(device));
    }

  private:
    static simulated::machine_options with_defaults(simulated::machine_options options) {
        if (options.version == 0)
            options.version = 13'000;
        return options;
    }

    std::size_t slot_;
};

namespace simulated {

struct cuda_api {
    using machine = simulated_cuda;
    using driver = cuda_driver;
    using prop = cuda::abi::allocation_prop;
    using access_desc = cuda::abi::access_desc;
    using location = cuda::abi::location;
    using uuid = cuda::abi::uuid;

    static memory_request request(const machine&, const prop* given) noexcept {
        memory_request made;
        made.type = given->type;
        made.location_type = given->location.type;
        made.wanted = {given->location.id, given->requested_handle_types,
                       given->flags.gpu_direct_rdma_capable != 0};
        made.rest_is_zero = given->win32_handle_meta_data == nullptr && given->flags.compression_type == 0 &&
                            given->flags.usage == 0 && given->flags.gpu_direct_rdma_capable <= 1;
        for (const unsigned char byte : given->flags.reserved)
            made.rest_is_zero = made.rest_is_zero && byte == 0;
        return made;
    }
    static void tell(const machine&, prop* place, const memory_properties& found) noexcept {
        *place = prop{};
        place->type = cuda::abi::allocation_type::pinned;
        place->requested_handle_types = found.handle_types;
        place->location = {cuda::abi::location_type::device, found.device};
        place->flags.gpu_direct_rdma_capable = found.rdma ? 1 : 0;
    }
    /// The value, or -1 where this driver does not know the attribute.
    static int attribute(const machine_options& options, int which) noexcept {
        constexpr int first_with_fabric = 12'040;
        switch (which) {
        case cuda::abi::attribute::compute_capability_major:
            return 9;
        case cuda::abi::attribute::compute_capability_minor:
            return 0;
        case cuda::abi::attribute::virtual_memory_management:
            return options.virtual_memory_supported ? 1 : 0;
        case cuda::abi::attribute::posix_descriptor_handles:
            return options.sharing.posix_supported ? 1 : 0;
        case cuda::abi::attribute::gpu_direct_rdma_with_vmm:
            return options.sharing.rdma_supported ? 1 : 0;
        case cuda::abi::attribute::fabric_handles:
            return options.version < first_with_fabric ? -1 : options.sharing.fabric_supported ? 1 : 0;
        default:
            return -1;
        }
    }
};

/// What only CUDA has, or has in its own way.
template <std::size_t Slot>
struct cuda_entries : driver_entries<cuda_api, Slot> {
    using shared = driver_entries<cuda_api, Slot>;
    using context = cuda::abi::context;
    using pointer = cuda::abi::device_pointer;
    using stream = cuda::abi::stream;

    static int error_text(int result, const char** text) noexcept {
        if (text == nullptr)
            return code::invalid_value;
        *text = text_of(result);
        return *text == nullptr ? code::invalid_value : code::success;
    }
    static int device_get(int* device, int ordinal) noexcept {
        return shared::with([&](auto& m) { return m.device_get(device, ordinal); });
    }
    static int primary_ctx_retain(context* made, int device) noexcept {
        return shared::give(made, [&](auto& m, auto* place) { return m.primary_ctx_retain(place, device); });
    }
    static int primary_ctx_release(int device) noexcept {
        return shared::with([&](auto& m) { return m.primary_ctx_release(device); });
    }
    static int ctx_get_current(context* current) noexcept {
        return shared::give(current, [](auto& m, auto* place) { return m.ctx_get_current(place); });
    }
    static int ctx_push_current(context pushed) noexcept {
        return shared::with([&](auto& m) { return m.ctx_push_current(number_of(pushed)); });
    }
    static int ctx_pop_current(context* popped) noexcept {
        return shared::give(popped, [](auto& m, auto* place) { return m.ctx_pop_current(place); });
    }
    static int ctx_get_device(int* device) noexcept {
        return shared::with([&](auto& m) { return m.ctx_get_device(device); });
    }
    static int memcpy_async(pointer to, pointer from, std::size_t size, stream on) noexcept {
        return shared::with([&](auto& m) { return m.copy(to, from, size, number_of(on)); });
    }
    static int memset_d8_async(pointer to, unsigned char value, std::size_t size, stream on) noexcept {
        return shared::with([&](auto& m) { return m.fill(to, value, size, number_of(on)); });
    }

    static cuda_driver table() noexcept {
        cuda_driver made;
        shared::fill_shared(made);
        made.driver_get_version = shared::version;
        made.device_get_count = shared::device_count;
        made.device_get = device_get;
        made.get_error_name = error_text;
        made.get_error_string = error_text;
        made.device_primary_ctx_retain = primary_ctx_retain;
        made.device_primary_ctx_release = primary_ctx_release;
        made.ctx_get_current = ctx_get_current;
        made.ctx_push_current = ctx_push_current;
        made.ctx_pop_current = ctx_pop_current;
        made.ctx_get_device = ctx_get_device;
        made.memcpy_async = memcpy_async;
        made.memset_d8_async = memset_d8_async;
        made.stream_create = shared::stream_create;
        made.event_create = shared::event_create;
        return made;
    }
};

} // namespace simulated

inline cuda_driver simulated_cuda::driver() const noexcept {
    return simulated::table_of_slot<simulated::cuda_entries, cuda_driver,
                                    simulated::machine_slots<simulated_cuda>::count>(slot_);
}

} // namespace vtensor::testing
