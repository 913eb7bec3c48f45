// SPDX-License-Identifier: Apache-2.0
//
// Exporting and importing memory of a simulated machine, so that two processes really share it: a POSIX
// descriptor is the memory file's own, a fabric handle names the process and its descriptor.
#pragma once

#include <support/simulated_driver/mapping_verbs.hpp>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace vtensor::testing::simulated {

class sharing_verbs : public mapping_verbs {
  public:
    /// `exported` is an int for a descriptor, 64 bytes for a fabric handle.
    int export_memory(void* exported, std::uint64_t handle, int type, unsigned long long flags) noexcept {
        const call made{.what = entry::mem_export, .object = handle};
        return perform(made, needs::context_if_strict, [&](auto&) {
            const auto found = physical_.find(handle);
            const bool one_type = type == posix_type || type == fabric_type;
            if (exported == nullptr || found == nullptr || flags != 0 || !one_type ||
                (found->properties.handle_types & type) == 0)
                return code::invalid_value;
            if (type == posix_type)
                return export_descriptor(*found, static_cast<int*>(exported));
            if (options_.sharing.fabric_export_fails)
                return code::not_supported;
            fabric_content content;
            content.process = ::getpid();
            content.descriptor = found->file;
            content.file = *identity_of(found->file);
            std::memset(exported, 0, fabric_bytes);
            std::memcpy(exported, &content, sizeof content);
            return code::success;
        });
    }

    /// `given` is the descriptor's value as a pointer (its address with the quirk), or the address of a
    /// fabric handle. The caller keeps his descriptor.
    int import_memory(std::uint64_t* handle, void* given, int type) noexcept {
        return perform({.what = entry::mem_import}, needs::context_if_strict, [&](auto&) {
            if (handle == nullptr || (type != posix_type && type != fabric_type))
                return code::invalid_value;
            if (type == posix_type && !options_.sharing.posix_supported)
                return code::not_supported;
            if (type == fabric_type && !options_.sharing.fabric_supported)
                return code::not_supported;
            descriptor file = type == posix_type ? descriptor_of(given) : descriptor_of_fabric(given);
            return file ? import_file(std::move(file), type, handle) : code::invalid_value;
        });
    }

  protected:
    using mapping_verbs::mapping_verbs;
    ~sharing_verbs() = default;

  private:
    static constexpr std::size_t fabric_bytes = sizeof(cuda::abi::fabric_handle);

    struct fabric_content {
        char magic[8] = {'s', 'i', 'm', 'f', 'a', 'b', 'r', 'c'};
        pid_t process = 0;
        int descriptor = -1;
        file_identity file{};
    };
    static_assert(sizeof(fabric_content) <= fabric_bytes);

    int export_descriptor(memory& from, int* exported) {
        if (options_.sharing.posix_export_fails)
            return code::not_supported;
        const int copy = ::fcntl(from.file, F_DUPFD_CLOEXEC, 0);
        if (copy < 0)
            return code::operating_system;
        from.exported = true;
        *exported = copy;
        return code::success;
    }

    [[nodiscard]] descriptor descriptor_of(void* given) const noexcept {
        const auto value = reinterpret_cast<std::uintptr_t>(given);
        if (!options_.quirks.import_reads_address)
            return descriptor{value > INT_MAX ? -1 : ::fcntl(static_cast<int>(value), F_DUPFD_CLOEXEC, 0)};
        if (value < page) // the value was given: a real runtime reads at that address, and crashes
            return {};
        return descriptor{::fcntl(*static_cast<const int*>(given), F_DUPFD_CLOEXEC, 0)};
    }
    [[nodiscard]] static descriptor descriptor_of_fabric(const void* given) {
        if (given == nullptr)
            return {};
        fabric_content content;
        const fabric_content expected;
        std::memcpy(&content, given, sizeof content);
        if (std::memcmp(content.magic, expected.magic, sizeof content.magic) != 0)
            return {};
        const std::string path =
            "/proc/" + std::to_string(content.process) + "/fd/" + std::to_string(content.descriptor);
        descriptor file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
        if (!file || identity_of(file.number()) != content.file)
            return {};
        return file;
    }

    int import_file(descriptor file, int type, std::uint64_t* handle) {
        const auto properties = properties_of(file.number());
        struct stat facts {};
        if (!properties || (properties->handle_types & type) == 0 || ::fstat(file.number(), &facts) != 0 ||
            facts.st_size <= 0)
            return code::invalid_value;
        auto imported = physical_.find_file(*identity_of(file.number()));
        if (imported == nullptr) { // of another process or machine, which pays for it
            imported =
                std::make_shared<memory>(physical_, *properties, static_cast<std::size_t>(facts.st_size));
            imported->foreign = true;
            imported->imported = true;
            imported->own_file = std::move(file);
            imported->file = imported->own_file.number();
        }
        *handle = physical_.add_handle(std::move(imported));
        return code::success;
    }
};

} // namespace vtensor::testing::simulated
