// SPDX-License-Identifier: Apache-2.0
//
// A simulated machine with a HIP runtime: its table has the very functions that the real one has. Which
// layout of the properties it reads depends on its version, as in the real one.
#pragma once

#include <support/simulated_driver/driver_entries.hpp>

#include <vtensor/backends/hip/driver.hpp>

#include <cstddef>
#include <utility>

namespace vtensor::testing {

/// Up to eight at a time. A table must not be used after its machine is gone.
class simulated_hip : public simulated::machine {
  public:
    explicit simulated_hip(simulated::machine_options options = {})
        : machine{simulated::api::hip, with_defaults(std::move(options))},
          slot_{simulated::machine_slots<simulated_hip>::take(*this)} {}
    ~simulated_hip() { simulated::machine_slots<simulated_hip>::give_back(slot_); }

    /// The runtime, with what its version has. A test may null what its runtime is to lack.
    [[nodiscard]] inline hip_driver driver() const noexcept;

  private:
    static simulated::machine_options with_defaults(simulated::machine_options options) {
        if (options.version == 0)
            options.version = hip::abi::version(6, 3);
        return options;
    }

    std::size_t slot_;
};

namespace simulated {

struct hip_api {
    using machine = simulated_hip;
    using driver = hip_driver;
    using prop = void;
    using access_desc = hip::abi::access_desc;
    using location = hip::abi::location;
    using uuid = hip::abi::uuid;
    using old_prop = hip::abi::allocation_prop_5_2;
    using new_prop = hip::abi::allocation_prop;

    static bool reads_old(const machine& m) noexcept {
        return m.options().version < hip::abi::first_with_allocation_prop;
    }
    static memory_request request(const machine& m, const void* given) noexcept {
        memory_request made;
        if (reads_old(m)) {
            const auto& old = *static_cast<const old_prop*>(given);
            made.type = old.type;
            made.location_type = old.location.type;
            made.wanted = {old.location.id, old.requested_handle_type, false};
            made.rest_is_zero =
                old.compression_type == 0 && old.usage == 0 && old.win32_handle_meta_data == nullptr;
        } else {
            const auto& now = *static_cast<const new_prop*>(given);
            made.type = now.type;
            made.location_type = now.location.type;
            made.wanted = {now.location.id, now.requested_handle_type,
                           now.flags.gpu_direct_rdma_capable != 0};
            made.rest_is_zero = now.flags.compression_type == 0 && now.flags.usage == 0 &&
                                now.flags.gpu_direct_rdma_capable <= 1 &&
                                now.win32_handle_meta_data == nullptr;
        }
        return made;
    }
    static void tell(const machine& m, void* place, const memory_properties& found) noexcept {
        const location at{hip::abi::location_type::device, found.device};
        if (reads_old(m)) {
            auto& old = *static_cast<old_prop*>(place) = old_prop{};
            old.type = hip::abi::allocation_type::pinned;
            old.requested_handle_type = found.handle_types;
            old.location = at;
        } else {
            auto& now = *static_cast<new_prop*>(place) = new_prop{};
            now.type = hip::abi::allocation_type::pinned;
            now.requested_handle_type = found.handle_types;
            now.location = at;
            now.flags.gpu_direct_rdma_capable = found.rdma ? 1 : 0;
        }
    }
    /// The value, or -1 where this runtime does not know the attribute.
    static int attribute(const machine_options& options, int which) noexcept {
        if (which == hip::abi::attribute::compute_capability_major)
            return 9;
        if (which != 0 && which == hip::abi::attribute::virtual_memory_management(options.version))
            return options.virtual_memory_supported ? 1 : 0;
        return -1;
    }
};

/// What only HIP has, or has in its own way.
template <std::size_t Slot>
struct hip_entries : driver_entries<hip_api, Slot> {
    using shared = driver_entries<hip_api, Slot>;
    using stream = hip::abi::stream;

    static const char* error_text(int result) noexcept {
        const char* const text = text_of(result);
        return text == nullptr ? "simulated: unnamed" : text;
    }
    static int get_last_error() noexcept {
        return shared::with([](auto& m) { return m.take_last_error(); });
    }
    static int set_device(int device) noexcept {
        return shared::with([&](auto& m) { return m.set_device(device); });
    }
    static int get_device(int* device) noexcept {
        return shared::with([&](auto& m) { return m.get_device(device); });
    }
    template <class Properties>
    static int properties(Properties* place, int device) noexcept {
        return shared::with([&](auto& m) {
            return m.device_get_properties(place, device, [&] {
                *place = Properties{};
                device_verbs::copy_text(place->gcn_arch_name, sizeof place->gcn_arch_name,
                                        m.options().architecture);
            });
        });
    }
    static int memcpy_async(void* to, const void* from, std::size_t size, int kind, stream on) noexcept {
        if (kind < 0 || kind > hip::abi::memcpy_kind::by_address)
            return code::invalid_value;
        return shared::with(
            [&](auto& m) { return m.copy(number_of(to), number_of(from), size, number_of(on)); });
    }
    static int memset_async(void* to, int value, std::size_t size, stream on) noexcept {
        return shared::with([&](auto& m) {
            return m.fill(number_of(to), static_cast<unsigned char>(value), size, number_of(on));
        });
    }

    static hip_driver table(const machine_options& options) noexcept {
        hip_driver made;
        shared::fill_shared(made);
        made.runtime_get_version = shared::version;
        made.driver_get_version = shared::version;
        made.get_device_count = shared::device_count;
        made.set_device = set_device;
        made.get_device = get_device;
        made.get_error_name = error_text;
        made.get_error_string = error_text;
        made.get_last_error = get_last_error;
        if (options.version < hip::abi::version(6, 0))
            made.get_device_properties = properties<hip::abi::device_prop_r0000>;
        else
            made.get_device_properties_r0600 = properties<hip::abi::device_prop_r0600>;
        made.memcpy_async = memcpy_async;
        made.memset_async = memset_async;
        made.stream_create_with_flags = shared::stream_create;
        made.event_create_with_flags = shared::event_create;
        return made;
    }
};

} // namespace simulated

inline hip_driver simulated_hip::driver() const noexcept {
    return simulated::table_of_slot<simulated::hip_entries, hip_driver,
                                    simulated::machine_slots<simulated_hip>::count>(slot_, options());
}

} // namespace vtensor::testing
