// SPDX-License-Identifier: Apache-2.0
//
// One device of the HIP runtime behind the calls that detail/device_*.hpp ask for. It decides nothing and
// keeps no book. Calls return 0 or a hipError_t.
#pragma once

#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/backends/hip/driver.hpp>
#include <vtensor/backends/os/handle.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vtensor::hip {

/// A failed call leaves its code behind in the runtime, for whoever asks next: every failure handled here is
/// forgotten there.
class api {
  public:
    using handle_type = abi::allocation_handle;
    using stream_type = abi::stream;
    using event_type = abi::event;

    api(const hip_driver& driver, int version, int devices, int device) noexcept
        : driver_{driver}, version_{version}, devices_{devices}, device_{device} {
        create_with(os_handle_kind::none, false);
    }
    api(api&&) noexcept = default;
    api& operator=(api&&) = delete;

    /// Makes the device current for the calling thread, where it is not already, and restores what was.
    class current {
      public:
        current(const api& of, bool wanted) noexcept : of_{of} {
            if (!wanted)
                return;
            failed_ = vtensor::detail::insist([&] { return of_.done(of_.driver_.get_device(&before_)); });
            if (failed_ != 0 || before_ == of_.device_)
                return;
            failed_ = vtensor::detail::insist([&] { return of_.done(of_.driver_.set_device(of_.device_)); });
            changed_ = failed_ == 0;
        }
        current(const current&) = delete;
        current& operator=(const current&) = delete;
        ~current() {
            if (changed_)
                static_cast<void>(
                    vtensor::detail::insist([&] { return of_.done(of_.driver_.set_device(before_)); }));
        }
        [[nodiscard]] int failed() const noexcept { return failed_; }

      private:
        const api& of_;
        int before_ = 0;
        int failed_ = 0;
        bool changed_ = false;
    };

    // ---- the device ----

    [[nodiscard]] int ordinal() const noexcept { return device_; }
    [[nodiscard]] bool exists(int device) const noexcept { return device >= 0 && device < devices_; }
    [[nodiscard]] bool can_reach(int peer) const noexcept {
        int can = 0;
        return driver_.device_can_access_peer != nullptr &&
               done(driver_.device_can_access_peer(&can, peer, device_)) == abi::code::success && can != 0;
    }
    /// Where the runtime has no attribute for it only the trial tells.
    [[nodiscard]] std::string why_no_virtual_memory() const {
        const int attribute = abi::attribute::virtual_memory_management(version_);
        int value = 0;
        if (attribute == 0)
            return {};
        const int code = done(driver_.device_get_attribute(&value, attribute, device_));
        return code == abi::code::success && value == 0 ? "the device does not support it" : "";
    }
    [[nodiscard]] std::string why_no_rdma() const {
        return version_ < abi::first_with_allocation_prop
                   ? "the runtime is too old"
                   : ""; // there is no attribute: creating such memory is tried
    }
    [[nodiscard]] std::string why_no_export(os_handle_kind kind) const {
        if (kind == os_handle_kind::fabric)
            return "HIP has no fabric handles here";
        return driver_.mem_export_to_shareable_handle == nullptr ||
                       driver_.mem_import_from_shareable_handle == nullptr ||
                       driver_.mem_get_allocation_properties_from_handle == nullptr
                   ? "the runtime is too old"
                   : "";
    }

    /// "2 (hipErrorOutOfMemory)".
    [[nodiscard]] std::string name_of(int code) const {
        const char* const name = driver_.get_error_name == nullptr ? nullptr : driver_.get_error_name(code);
        std::string text = std::to_string(code);
        if (name != nullptr)
            text.append(" (").append(name).append(")");
        return text;
    }
    [[nodiscard]] static errc classify(int code) noexcept {
        switch (code) {
        case abi::code::success:
            return errc::ok;
        case abi::code::out_of_memory:
        case abi::code::runtime_memory:
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
    /// The runtime found fault with an argument.
    [[nodiscard]] static bool says_invalid(int code) noexcept { return code == abi::code::invalid_value; }
    /// What it says to a handle that names no memory it can import.
    [[nodiscard]] static bool says_foreign(int code) noexcept {
        return code == abi::code::invalid_value || code == abi::code::invalid_device ||
               code == abi::code::invalid_handle || code == abi::code::operating_system ||
               code == abi::code::not_found || code == abi::code::unknown;
    }

    // ---- addresses and memory ----

    void create_with(os_handle_kind exported_as, bool rdma) noexcept {
        const int type = exported_as == os_handle_kind::descriptor ? abi::handle_type::posix_descriptor
                                                                   : abi::handle_type::none;
        properties_ = {};
        properties_.type = abi::allocation_type::pinned;
        properties_.location = {abi::location_type::device, device_};
        properties_.requested_handle_type = type;
        properties_.flags.gpu_direct_rdma_capable = rdma ? 1 : 0;
        old_properties_ = {};
        old_properties_.type = properties_.type;
        old_properties_.location = properties_.location;
        old_properties_.requested_handle_type = type;
    }
    int granularity(granularity_choice which, bytes& found) const noexcept {
        std::size_t size = 0;
        const int code = done(driver_.mem_get_allocation_granularity(&size, properties(),
                                                                     which == granularity_choice::minimum
                                                                         ? abi::granularity::minimum
                                                                         : abi::granularity::recommended));
        found = bytes{size};
        return code;
    }
    int reserve(bytes size, bytes align, address& made) const noexcept {
        void* where = nullptr;
        const int code = done(driver_.mem_address_reserve(&where, size.count(), align.count(), nullptr, 0));
        made = address{where};
        return code;
    }
    int release(address where, bytes size) const noexcept {
        return done(driver_.mem_address_free(where.to_pointer(), size.count()));
    }
    int create(bytes size, handle_type& made) const noexcept {
        return done(driver_.mem_create(&made, size.count(), properties(), 0));
    }
    int destroy(handle_type memory) const noexcept { return done(driver_.mem_release(memory)); }
    int map(address where, bytes size, handle_type memory) const noexcept {
        return done(driver_.mem_map(where.to_pointer(), size.count(), 0, memory, 0));
    }
    int unmap(address where, bytes size) const noexcept {
        return done(driver_.mem_unmap(where.to_pointer(), size.count()));
    }
    int set_access(address where, bytes size,
                   std::span<const vtensor::detail::device_grant> grants) const noexcept {
        std::array<abi::access_desc, vtensor::detail::most_grants> list;
        if (grants.size() > list.size())
            return abi::code::invalid_value;
        for (std::size_t index = 0; index < grants.size(); ++index)
            list[index] = {{abi::location_type::device, grants[index].device},
                           flags_of(grants[index].allowed)};
        return done(driver_.mem_set_access(where.to_pointer(), size.count(), list.data(), grants.size()));
    }

    int allocate_plain(bytes size, address& made) const noexcept {
        void* where = nullptr;
        const int code = done(driver_.mem_alloc(&where, size.count()));
        made = address{where};
        return code;
    }
    int free_plain(address where) const noexcept { return done(driver_.mem_free(where.to_pointer())); }

    // ---- streams and events ----

    int create_stream(stream_type& made) const noexcept {
        return done(driver_.stream_create_with_flags(&made, abi::stream_flags::non_blocking));
    }
    int destroy_stream(stream_type gone) const noexcept { return done(driver_.stream_destroy(gone)); }
    int synchronize_stream(stream_type waited_for) const noexcept {
        return done(driver_.stream_synchronize(waited_for));
    }
    int create_event(event_type& made) const noexcept {
        return done(driver_.event_create_with_flags(&made, abi::event_flags::disable_timing));
    }
    int destroy_event(event_type gone) const noexcept { return done(driver_.event_destroy(gone)); }
    int record(event_type event, stream_type on) const noexcept {
        return done(driver_.event_record(event, on));
    }
    int query(event_type event, bool& happened) const noexcept {
        const int code = done(driver_.event_query(event));
        happened = code == abi::code::success;
        return code == abi::code::not_ready ? 0 : code;
    }
    int synchronize(event_type event) const noexcept { return done(driver_.event_synchronize(event)); }
    int wait(stream_type waiting, event_type event) const noexcept {
        return done(driver_.stream_wait_event(waiting, event, 0));
    }
    int copy(address to, address from, bytes size, stream_type on) const noexcept {
        return done(driver_.memcpy_async(to.to_pointer(), from.to_pointer(), size.count(),
                                         abi::memcpy_kind::by_address, on));
    }
    int fill(address to, std::byte value, bytes size, stream_type on) const noexcept {
        return done(driver_.memset_async(to.to_pointer(), std::to_integer<int>(value), size.count(), on));
    }

    // ---- other processes ----

    int export_descriptor(handle_type memory, int& made) const noexcept {
        return done(
            driver_.mem_export_to_shareable_handle(&made, memory, abi::handle_type::posix_descriptor, 0));
    }
    int export_fabric(handle_type, fabric_handle&) const noexcept { return abi::code::not_supported; }
    /// Some runtimes take the descriptor's address, some its value. An address taken for a value is no
    /// descriptor and is refused; the other way round it would be followed: so the address is tried first.
    int import_descriptor(int number, handle_type& made) const noexcept {
        constexpr int type = abi::handle_type::posix_descriptor;
        const int code = done(driver_.mem_import_from_shareable_handle(&made, &number, type));
        if (code == abi::code::success)
            return code;
        void* const value = reinterpret_cast<void*>(static_cast<std::intptr_t>(number)); // NOLINT
        return done(driver_.mem_import_from_shareable_handle(&made, value, type));
    }
    int import_fabric(const fabric_handle&, handle_type&) const noexcept { return abi::code::not_supported; }
    /// Whether it is pinned memory of this device; `code` is the runtime's where it does not say. Some
    /// runtimes say device 0 of whatever was imported (rocm-systems PR 11606): that is believed of none.
    bool is_own_memory(handle_type memory, int& code) const noexcept {
        if (version_ < abi::first_with_allocation_prop) {
            abi::allocation_prop_5_2 found{};
            code = done(driver_.mem_get_allocation_properties_from_handle(&found, memory));
            return code == abi::code::success && found.type == old_properties_.type &&
                   may_be_own(found.location);
        }
        abi::allocation_prop found{};
        code = done(driver_.mem_get_allocation_properties_from_handle(&found, memory));
        return code == abi::code::success && found.type == properties_.type && may_be_own(found.location);
    }

  private:
    int done(int code) const noexcept {
        if (code != abi::code::success && driver_.get_last_error != nullptr)
            static_cast<void>(driver_.get_last_error());
        return code;
    }
    [[nodiscard]] bool may_be_own(const abi::location& place) const noexcept {
        return place.type == abi::location_type::device && (place.id == device_ || place.id == 0);
    }
    /// As the runtime of that version reads them.
    [[nodiscard]] const void* properties() const noexcept {
        if (version_ < abi::first_with_allocation_prop)
            return &old_properties_;
        return &properties_;
    }
    static int flags_of(access_mode allowed) noexcept {
        return allowed == access_mode::read_write ? abi::access_flags::read_write
               : allowed == access_mode::read     ? abi::access_flags::read
                                                  : abi::access_flags::none;
    }

    hip_driver driver_;
    int version_;
    int devices_;
    int device_;
    abi::allocation_prop properties_;
    abi::allocation_prop_5_2 old_properties_;
};

} // namespace vtensor::hip
