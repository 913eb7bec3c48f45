// SPDX-License-Identifier: Apache-2.0
//
// One device of the CUDA driver behind the calls that detail/device_*.hpp ask for. It holds the context: the
// device's primary one, retained, or the caller's own. It decides nothing and keeps no book. Calls return 0
// or a CUresult.
#pragma once

#include <vtensor/backends/cuda/driver.hpp>
#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/detail/owning_process.hpp>
#include <vtensor/backends/os/handle.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace vtensor::cuda {

/// Moved, not copied; lets go of the primary context at the end.
class api {
  public:
    using handle_type = abi::allocation_handle;
    using stream_type = abi::stream;
    using event_type = abi::event;

    /// `context` is current during every call; `retained` where it is the primary one and this object owns a
    /// reference to it.
    api(const cuda_driver& driver, int devices, int device, abi::context context, bool retained) noexcept
        : driver_{driver}, devices_{devices}, device_{device}, context_{context}, retained_{retained} {
        create_with(os_handle_kind::none, false);
    }
    api(api&& other) noexcept
        : driver_{other.driver_},
          process_{other.process_},
          devices_{other.devices_},
          device_{other.device_},
          context_{other.context_},
          retained_{std::exchange(other.retained_, false)},
          properties_{other.properties_} {}
    api& operator=(api&&) = delete;
    ~api() {
        if (retained_ && process_.is_this())
            static_cast<void>(
                vtensor::detail::insist([&] { return driver_.device_primary_ctx_release(device_); }));
    }

    /// Makes the context current for the calling thread, where it is not already, and restores what was.
    class current {
      public:
        current(const api& of, bool wanted) noexcept : of_{of} {
            if (!wanted)
                return;
            abi::context now = nullptr;
            failed_ = vtensor::detail::insist([&] { return of_.driver_.ctx_get_current(&now); });
            if (failed_ != 0 || now == of_.context_)
                return;
            failed_ = vtensor::detail::insist([&] { return of_.driver_.ctx_push_current(of_.context_); });
            pushed_ = failed_ == 0;
        }
        current(const current&) = delete;
        current& operator=(const current&) = delete;
        ~current() {
            abi::context popped = nullptr;
            if (pushed_)
                static_cast<void>(
                    vtensor::detail::insist([&] { return of_.driver_.ctx_pop_current(&popped); }));
        }
        [[nodiscard]] int failed() const noexcept { return failed_; }

      private:
        const api& of_;
        int failed_ = 0;
        bool pushed_ = false;
    };

    // ---- the device ----

    [[nodiscard]] int ordinal() const noexcept { return device_; }
    [[nodiscard]] bool exists(int device) const noexcept { return device >= 0 && device < devices_; }
    [[nodiscard]] bool can_reach(int peer) const noexcept {
        int can = 0;
        return driver_.device_can_access_peer != nullptr &&
               driver_.device_can_access_peer(&can, peer, device_) == abi::code::success && can != 0;
    }
    [[nodiscard]] bool has(int attribute) const noexcept {
        int value = 0;
        return driver_.device_get_attribute(&value, attribute, device_) == abi::code::success && value != 0;
    }
    [[nodiscard]] std::string why_no_virtual_memory() const {
        return has(abi::attribute::virtual_memory_management) ? "" : "the device does not support it";
    }
    [[nodiscard]] std::string why_no_rdma() const {
        return has(abi::attribute::gpu_direct_rdma_with_vmm) ? "" : "the device does not support it";
    }
    [[nodiscard]] std::string why_no_export(os_handle_kind kind) const {
        if (driver_.mem_export_to_shareable_handle == nullptr ||
            driver_.mem_import_from_shareable_handle == nullptr ||
            driver_.mem_get_allocation_properties_from_handle == nullptr)
            return "the driver is too old";
        return has(kind == os_handle_kind::fabric ? abi::attribute::fabric_handles
                                                  : abi::attribute::posix_descriptor_handles)
                   ? ""
                   : "the device does not support it";
    }

    /// "2 (CUDA_ERROR_OUT_OF_MEMORY)".
    [[nodiscard]] std::string name_of(int code) const {
        const char* name = nullptr;
        std::string text = std::to_string(code);
        if (driver_.get_error_name != nullptr && driver_.get_error_name(code, &name) == abi::code::success &&
            name != nullptr)
            text.append(" (").append(name).append(")");
        return text;
    }
    [[nodiscard]] static errc classify(int code) noexcept {
        switch (code) {
        case abi::code::success:
            return errc::ok;
        case abi::code::out_of_memory:
            return errc::out_of_memory;
        case abi::code::not_supported:
            return errc::unsupported;
        case abi::code::not_initialized:
        case abi::code::deinitialized:
        case abi::code::no_device:
        case abi::code::invalid_device:
            return errc::no_device;
        default:
            return errc::native_failure;
        }
    }
    /// The driver found fault with an argument.
    [[nodiscard]] static bool says_invalid(int code) noexcept { return code == abi::code::invalid_value; }
    /// What it says to a handle that names no memory it can import.
    [[nodiscard]] static bool says_foreign(int code) noexcept {
        return code == abi::code::invalid_value || code == abi::code::invalid_device ||
               code == abi::code::invalid_handle || code == abi::code::operating_system ||
               code == abi::code::not_found || code == abi::code::not_permitted || code == abi::code::unknown;
    }

    // ---- addresses and memory ----

    void create_with(os_handle_kind exported_as, bool rdma) noexcept {
        properties_ = {};
        properties_.type = abi::allocation_type::pinned;
        properties_.location = {abi::location_type::device, device_};
        properties_.requested_handle_types = exported_as == os_handle_kind::fabric ? abi::handle_type::fabric
                                             : exported_as == os_handle_kind::descriptor
                                                 ? abi::handle_type::posix_descriptor
                                                 : abi::handle_type::none;
        properties_.flags.gpu_direct_rdma_capable = rdma ? 1 : 0;
    }
    int granularity(granularity_choice which, bytes& found) const noexcept {
        std::size_t size = 0;
        const int code = driver_.mem_get_allocation_granularity(
            &size, &properties_,
            which == granularity_choice::minimum ? abi::granularity::minimum : abi::granularity::recommended);
        found = bytes{size};
        return code;
    }
    int reserve(bytes size, bytes align, address& made) const noexcept {
        abi::device_pointer where = 0;
        const int code = driver_.mem_address_reserve(&where, size.count(), align.count(), 0, 0);
        made = address{static_cast<std::uintptr_t>(where)};
        return code;
    }
    int release(address where, bytes size) const noexcept {
        return driver_.mem_address_free(where.value(), size.count());
    }
    int create(bytes size, handle_type& made) const noexcept {
        return driver_.mem_create(&made, size.count(), &properties_, 0);
    }
    int destroy(handle_type memory) const noexcept { return driver_.mem_release(memory); }
    int map(address where, bytes size, handle_type memory) const noexcept {
        return driver_.mem_map(where.value(), size.count(), 0, memory, 0);
    }
    int unmap(address where, bytes size) const noexcept {
        return driver_.mem_unmap(where.value(), size.count());
    }
    int set_access(address where, bytes size,
                   std::span<const vtensor::detail::device_grant> grants) const noexcept {
        std::array<abi::access_desc, vtensor::detail::most_grants> list;
        if (grants.size() > list.size())
            return abi::code::invalid_value;
        for (std::size_t index = 0; index < grants.size(); ++index)
            list[index] = {{abi::location_type::device, grants[index].device},
                           flags_of(grants[index].allowed)};
        return driver_.mem_set_access(where.value(), size.count(), list.data(), grants.size());
    }

    int allocate_plain(bytes size, address& made) const noexcept {
        abi::device_pointer where = 0;
        const int code =
            driver_.mem_alloc == nullptr ? abi::code::not_supported : driver_.mem_alloc(&where, size.count());
        made = address{static_cast<std::uintptr_t>(where)};
        return code;
    }
    int free_plain(address where) const noexcept { return driver_.mem_free(where.value()); }

    // ---- streams and events ----

    int create_stream(stream_type& made) const noexcept {
        return driver_.stream_create(&made, abi::stream_flags::non_blocking);
    }
    int destroy_stream(stream_type gone) const noexcept { return driver_.stream_destroy(gone); }
    int synchronize_stream(stream_type waited_for) const noexcept {
        return driver_.stream_synchronize(waited_for);
    }
    int create_event(event_type& made) const noexcept {
        return driver_.event_create(&made, abi::event_flags::disable_timing);
    }
    int destroy_event(event_type gone) const noexcept { return driver_.event_destroy(gone); }
    int record(event_type event, stream_type on) const noexcept { return driver_.event_record(event, on); }
    int query(event_type event, bool& happened) const noexcept {
        const int code = driver_.event_query(event);
        happened = code == abi::code::success;
        return code == abi::code::not_ready ? 0 : code;
    }
    int synchronize(event_type event) const noexcept { return driver_.event_synchronize(event); }
    int wait(stream_type waiting, event_type event) const noexcept {
        return driver_.stream_wait_event(waiting, event, 0);
    }
    int copy(address to, address from, bytes size, stream_type on) const noexcept {
        return driver_.memcpy_async(to.value(), from.value(), size.count(), on);
    }
    int fill(address to, std::byte value, bytes size, stream_type on) const noexcept {
        return driver_.memset_d8_async(to.value(), std::to_integer<unsigned char>(value), size.count(), on);
    }

    // ---- other processes ----

    int export_descriptor(handle_type memory, int& made) const noexcept {
        return driver_.mem_export_to_shareable_handle(&made, memory, abi::handle_type::posix_descriptor, 0);
    }
    int export_fabric(handle_type memory, fabric_handle& made) const noexcept {
        return driver_.mem_export_to_shareable_handle(made.data.data(), memory, abi::handle_type::fabric, 0);
    }
    int import_descriptor(int number, handle_type& made) const noexcept {
        void* const as_pointer = reinterpret_cast<void*>(static_cast<std::intptr_t>(number)); // NOLINT
        return driver_.mem_import_from_shareable_handle(&made, as_pointer,
                                                        abi::handle_type::posix_descriptor);
    }
    int import_fabric(const fabric_handle& name, handle_type& made) const noexcept {
        fabric_handle copy = name;
        return driver_.mem_import_from_shareable_handle(&made, copy.data.data(), abi::handle_type::fabric);
    }
    /// Whether it is pinned memory of this device; `code` is the driver's where it does not say.
    bool is_own_memory(handle_type memory, int& code) const noexcept {
        abi::allocation_prop found{};
        code = driver_.mem_get_allocation_properties_from_handle(&found, memory);
        return code == abi::code::success && found.type == properties_.type &&
               found.location == properties_.location;
    }

  private:
    static int flags_of(access_mode allowed) noexcept {
        return allowed == access_mode::read_write ? abi::access_flags::read_write
               : allowed == access_mode::read     ? abi::access_flags::read
                                                  : abi::access_flags::none;
    }

    cuda_driver driver_;
    vtensor::detail::owning_process process_;
    int devices_;
    int device_;
    abi::context context_;
    bool retained_;
    abi::allocation_prop properties_;
};

} // namespace vtensor::cuda
