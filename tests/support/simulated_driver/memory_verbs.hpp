// SPDX-License-Identifier: Apache-2.0
//
// Addresses and memory of a simulated machine, refusing what the drivers' manuals say they refuse. Where a
// manual leaves the result undefined (releasing a handle twice), the simulation refuses. Addresses of HIP and
// of CUDA are numbers here.
#pragma once

#include <support/simulated_driver/address_space.hpp>
#include <support/simulated_driver/device_verbs.hpp>
#include <support/simulated_driver/physical_memory.hpp>
#include <support/simulated_driver/streams.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

/// The properties of a creation as they arrived, in words that CUDA and HIP share.
struct memory_request {
    int type = 0;
    int location_type = 0;
    memory_properties wanted{};
    bool rest_is_zero = true; ///< every member that must be
};

class memory_verbs : public device_verbs {
  public:
    int granularity(std::size_t* bytes, const memory_request* request, int which) noexcept {
        return perform({.what = entry::mem_get_allocation_granularity}, needs::context_if_strict, [&](auto&) {
            if (bytes == nullptr || request == nullptr || (which != 0 && which != 1))
                return code::invalid_value;
            if (const int refused = check(*request); refused != code::success)
                return refused;
            *bytes = which == 0 ? options_.minimum_granularity : options_.recommended_granularity;
            return code::success;
        });
    }

    // ---- addresses ----

    int reserve(std::uintptr_t* where, std::size_t size, std::size_t align, std::uintptr_t hint,
                unsigned long long flags) noexcept {
        const call made{.what = entry::mem_address_reserve, .where = hint, .size = size};
        return perform(made, needs::context_if_strict, [&](auto&) {
            if (where == nullptr || size == 0 || size % page != 0 || hint % page != 0 || flags != 0 ||
                (align != 0 && !std::has_single_bit(align)))
                return code::invalid_value;
            if (options_.quirks.reserve_with_alignment_fails && align != 0)
                return code::invalid_value;
            if (options_.address_limit != 0 &&
                size > options_.address_limit - std::min(options_.address_limit, addresses_.reserved_bytes()))
                return code::out_of_memory;
            spend(options_.latency.reserve);
            const std::size_t least = std::max(options_.default_alignment, page);
            *where = addresses_.reserve(size, std::max(align, least)); // the hint is not followed
            return *where == 0 ? code::out_of_memory : code::success;
        });
    }
    int address_free(std::uintptr_t where, std::size_t size) noexcept {
        const call made{.what = entry::mem_address_free, .where = where, .size = size};
        return perform(made, needs::context_if_strict, [&](auto&) {
            const auto found = addresses_.find_exactly(where);
            if (found == addresses_.none() || found->second.size != size || found->second.plain ||
                !found->second.mappings.empty() || found->second.pinned)
                return code::invalid_value;
            addresses_.free(found);
            return code::success;
        });
    }

    // ---- memory ----

    int create(std::uint64_t* handle, std::size_t size, const memory_request* request,
               unsigned long long flags) noexcept {
        return perform({.what = entry::mem_create, .size = size}, needs::context_if_strict, [&](auto&) {
            if (handle == nullptr || request == nullptr || flags != 0)
                return code::invalid_value;
            if (const int refused = check(*request); refused != code::success)
                return refused;
            if (const int refused = check_support(request->wanted); refused != code::success)
                return refused;
            if (size == 0 || size % options_.minimum_granularity != 0 ||
                (options_.quirks.largest_create != 0 && size > options_.quirks.largest_create))
                return code::invalid_value;
            spend(options_.latency.create * size_factor(size));
            auto [made, failure] = physical_.allocate(size, request->wanted);
            if (failure != code::success)
                return failure == code::operating_system ? linux_refused("memory of", 0, size) : failure;
            *handle = physical_.add_handle(std::move(made));
            return code::success;
        });
    }
    int release(std::uint64_t handle) noexcept {
        return perform({.what = entry::mem_release, .object = handle}, needs::context_if_strict, [&](auto&) {
            if (!physical_.release(handle))
                return code::invalid_value;
            spend(options_.latency.release);
            return code::success;
        });
    }
    int retain(std::uint64_t* handle, std::uintptr_t where) noexcept {
        return perform({.what = entry::mem_retain, .where = where}, needs::context_if_strict, [&](auto&) {
            const mapping* const at = addresses_.mapping_at(where);
            if (handle == nullptr || at == nullptr || at->handle == 0)
                return code::invalid_value;
            physical_.add_reference(at->handle, at->behind);
            *handle = at->handle;
            return code::success;
        });
    }
    /// `give` takes what the memory was created with.
    template <class Give>
    int properties(const void* place, std::uint64_t handle, Give give) noexcept {
        const call made{.what = entry::mem_get_properties, .object = handle};
        return perform(made, needs::context_if_strict, [&](auto&) {
            const auto found = physical_.find(handle);
            if (place == nullptr || found == nullptr)
                return code::invalid_value;
            memory_properties told = found->properties;
            if (options_.quirks.imported_location_is_wrong && found->imported)
                told.device = 0;
            give(told);
            return code::success;
        });
    }
    int get_info(std::size_t* free_bytes, std::size_t* total_bytes) noexcept {
        return perform({.what = entry::mem_get_info}, needs::context, [&](auto&) {
            if (free_bytes == nullptr || total_bytes == nullptr)
                return code::invalid_value;
            *free_bytes = options_.capacity - physical_.used(current_device());
            *total_bytes = options_.capacity;
            return code::success;
        });
    }

  protected:
    static constexpr std::size_t page = 4096; ///< of the host
    static constexpr int pinned = 1;          ///< allocation type
    static constexpr int on_device = 1;       ///< location type
    static constexpr int posix_type = 1;
    static constexpr int fabric_type = 8;

    memory_verbs(api which, machine_options options)
        : device_verbs{which, std::move(options)}, physical_{options_} {}
    ~memory_verbs() = default;

    int linux_refused(const char* what, std::uintptr_t where, std::size_t size) {
        report(violation_kind::simulation_limit,
               std::string{"Linux refuses "} + what + ' ' + range_text(where, size));
        return code::operating_system;
    }

    // Memory goes after what refers to it: the order of the members matters.
    physical_memory physical_;
    address_space addresses_;
    stream_set streams_;

  private:
    [[nodiscard]] int check(const memory_request& request) const noexcept {
        constexpr int known_types = posix_type | fabric_type;
        if (request.type != pinned || request.location_type != on_device || !request.rest_is_zero ||
            (request.wanted.handle_types & ~known_types) != 0)
            return code::invalid_value;
        if (!is_device(request.wanted.device))
            return code::invalid_device;
        return options_.virtual_memory_supported ? code::success : code::not_supported;
    }
    [[nodiscard]] int check_support(const memory_properties& wanted) const noexcept {
        const sharing_options& sharing = options_.sharing;
        if (((wanted.handle_types & posix_type) != 0 && !sharing.posix_supported) ||
            ((wanted.handle_types & fabric_type) != 0 && !sharing.fabric_supported) ||
            (wanted.rdma && (!sharing.rdma_supported || sharing.rdma_create_fails)))
            return code::not_supported;
        return code::success;
    }
};

} // namespace vtensor::testing::simulated
