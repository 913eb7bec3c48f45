// SPDX-License-Identifier: Apache-2.0
//
// What a simulated machine says of its devices, and which of them is current.
#pragma once

#include <support/simulated_driver/machine_core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace vtensor::testing::simulated {

class device_verbs : public machine_core {
  public:
    int init(unsigned flags) noexcept {
        return perform({.what = entry::init}, needs::nothing, [&](auto&) {
            if (flags != 0)
                return code::invalid_value;
            if (options_.devices == 0)
                return code::no_device;
            initialised_ = true;
            return code::success;
        });
    }
    int version(int* given) noexcept {
        return perform({.what = entry::version}, needs::nothing, [&](auto&) {
            if (given == nullptr)
                return code::invalid_value;
            *given = options_.version;
            return code::success;
        });
    }
    int device_get_count(int* count) noexcept {
        return perform({.what = entry::device_get_count}, needs::nothing, [&](auto&) {
            if (count == nullptr)
                return code::invalid_value;
            *count = options_.devices;
            return code::success;
        });
    }
    int device_get(int* device, int ordinal) noexcept {
        return about(entry::device_get, ordinal, device, [&] { *device = ordinal; });
    }
    int device_get_name(char* name, int length, int device) noexcept {
        return about(entry::device_get_name, device, length > 0 ? name : nullptr,
                     [&] { copy_text(name, static_cast<std::size_t>(length), options_.device_name); });
    }
    /// `known` gives the attribute's value, or -1 where this driver does not know the attribute.
    template <class Known>
    int device_get_attribute(int* value, int device, Known known) noexcept {
        return perform({.what = entry::device_get_attribute, .device = device}, needs::nothing, [&](auto&) {
            if (value == nullptr || known() < 0)
                return code::invalid_value;
            if (!is_device(device))
                return code::invalid_device;
            *value = known();
            return code::success;
        });
    }
    template <class Fill>
    int device_get_properties(const void* properties, int device, Fill fill) noexcept {
        return about(entry::device_get_properties, device, properties, fill);
    }
    int device_total_mem(std::size_t* bytes, int device) noexcept {
        return about(entry::device_total_mem, device, bytes, [&] { *bytes = options_.capacity; });
    }
    int device_can_access_peer(int* can, int device, int peer) noexcept {
        return about(entry::device_can_access_peer, is_device(peer) ? device : -1, can,
                     [&] { *can = device != peer && options_.peers_can_access ? 1 : 0; });
    }
    int device_get_uuid(char* bytes, int device) noexcept {
        return about(entry::device_get_uuid, device, bytes, [&] {
            constexpr char pattern[17] = "simulated-device";
            std::memcpy(bytes, pattern, 16);
            bytes[15] = static_cast<char>('0' + device % 10);
        });
    }

    // ---- contexts (CUDA) ----

    int primary_ctx_retain(std::uint64_t* made, int device) noexcept {
        return about(entry::primary_ctx_retain, device, made,
                     [&] { *made = contexts_.retain_primary(device); });
    }
    int primary_ctx_release(int device) noexcept {
        return perform({.what = entry::primary_ctx_release, .device = device}, needs::nothing, [&](auto&) {
            if (!is_device(device))
                return code::invalid_device;
            return contexts_.release_primary(device) ? code::success : code::invalid_context;
        });
    }
    int ctx_get_current(std::uint64_t* current) noexcept {
        return perform({.what = entry::ctx_get_current}, needs::nothing, [&](auto&) {
            if (current == nullptr)
                return code::invalid_value;
            *current = contexts_.current();
            return code::success;
        });
    }
    int ctx_push_current(std::uint64_t pushed) noexcept {
        return perform({.what = entry::ctx_push_current, .object = pushed}, needs::nothing, [&](auto&) {
            if (contexts_.find(pushed) == nullptr)
                return code::invalid_context;
            contexts_.push(pushed);
            return code::success;
        });
    }
    /// `popped` may be null.
    int ctx_pop_current(std::uint64_t* popped) noexcept {
        return perform({.what = entry::ctx_pop_current}, needs::nothing, [&](auto&) {
            const std::uint64_t was = contexts_.pop();
            if (was == 0)
                return code::invalid_context;
            if (popped != nullptr)
                *popped = was;
            return code::success;
        });
    }
    int ctx_get_device(int* device) noexcept {
        return perform({.what = entry::ctx_get_device}, needs::context, [&](auto&) {
            if (device == nullptr)
                return code::invalid_value;
            *device = current_device();
            return code::success;
        });
    }

    // ---- the current device and the last error (HIP) ----

    /// The code of the last call that failed, once.
    int take_last_error() noexcept {
        int last = code::success;
        const int refused = perform({.what = entry::get_last_error}, needs::nothing, [&](auto&) {
            last = std::exchange(last_error_, code::success);
            return code::success;
        });
        return refused == code::success ? last : refused;
    }

    int set_device(int device) noexcept {
        return perform({.what = entry::set_device, .device = device}, needs::nothing, [&](auto&) {
            if (!is_device(device))
                return code::invalid_device;
            contexts_.set_device(device);
            return code::success;
        });
    }
    int get_device(int* device) noexcept {
        return perform({.what = entry::get_device}, needs::nothing, [&](auto&) {
            if (device == nullptr)
                return code::invalid_value;
            *device = contexts_.device();
            return code::success;
        });
    }

    /// As much of the text as fits, always ended by a zero.
    static void copy_text(char* to, std::size_t length, const std::string& text) noexcept {
        const std::size_t copied = std::min(length - 1, text.size());
        std::memcpy(to, text.data(), copied);
        to[copied] = '\0';
    }

  protected:
    using machine_core::machine_core;
    ~device_verbs() = default;

  private:
    /// A question about one device with one place for the answer.
    template <class Answer>
    int about(entry which, int device, const void* place, Answer answer) noexcept {
        return perform({.what = which, .device = device}, needs::nothing, [&](auto&) {
            if (place == nullptr)
                return code::invalid_value;
            if (!is_device(device))
                return code::invalid_device;
            answer();
            return code::success;
        });
    }
};

} // namespace vtensor::testing::simulated
