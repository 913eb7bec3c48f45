// SPDX-License-Identifier: Apache-2.0
//
// The memory of the simulated devices and the handles to it: capacity, references, and how long memory lives.
// Nothing here is synchronised: the machine's lock is held.
#pragma once

#include <support/simulated_driver/codes.hpp>
#include <support/simulated_driver/memory_file.hpp>
#include <support/simulated_driver/options.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace vtensor::testing::simulated {

/// Numbers for handles, streams, events and contexts: never used twice in a process, so that what is gone or
/// belongs to another machine is never taken for something else.
[[nodiscard]] inline std::uint64_t next_object_number() noexcept {
    static std::atomic<std::uint64_t> last{0x7100'0000};
    return last.fetch_add(16) + 16;
}

class physical_memory;

/// One piece of memory. It lives while a handle, a mapping or a descriptor of it does.
struct memory {
    memory(physical_memory& all, memory_properties with, std::size_t bytes) noexcept
        : owner{all}, properties{with}, size{bytes} {}
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory();

    physical_memory& owner;
    memory_properties properties;
    std::size_t size;
    std::size_t offset = 0; ///< of the memory in its file
    int file = -1;          ///< the device's file, or `own_file`'s number
    descriptor own_file{};  ///< where the memory may be exported, or was imported
    bool foreign = false;   ///< another machine's memory: its device is not ours
    bool imported = false;
    bool exported = false;
};

class physical_memory {
  public:
    explicit physical_memory(const machine_options& options)
        : options_{options}, devices_(static_cast<std::size_t>(options.devices)) {
        allow_many_descriptors();
    }
    physical_memory(const physical_memory&) = delete;
    physical_memory& operator=(const physical_memory&) = delete;

    struct handle_record {
        std::shared_ptr<memory> to;
        std::size_t references = 0;
    };

    /// Memory without a handle. Null, and the code, where there is none left.
    std::pair<std::shared_ptr<memory>, int> allocate(std::size_t size, memory_properties properties) {
        device_state& device = devices_[static_cast<std::size_t>(properties.device)];
        if (size > options_.capacity || used(properties.device) > options_.capacity - size)
            return {nullptr, code::out_of_memory};
        auto made = std::make_shared<memory>(*this, properties, size);
        device.charged += size; // until `made` is gone
        if (properties.handle_types != 0) {
            made->own_file = make_memory_file(properties, size);
            made->file = made->own_file.number();
        } else {
            if (!device.file)
                device.file = make_memory_file({properties.device, 0, false}, 0);
            // Never the same offset twice: fresh memory is zero without being written.
            made->offset = device.file_end;
            if (device.file &&
                ::ftruncate(device.file.number(), static_cast<off_t>(device.file_end + size)) == 0) {
                made->file = device.file.number();
                device.file_end += size;
            }
        }
        if (made->file < 0)
            return {nullptr, code::operating_system};
        return {std::move(made), code::success};
    }

    /// A first handle to memory. Throws before anything has changed.
    std::uint64_t add_handle(std::shared_ptr<memory> to) {
        const std::uint64_t handle = next_object_number();
        handles_.emplace(handle, handle_record{std::move(to), 1});
        return handle;
    }
    /// One more reference by the same number, also where the last one was released but a mapping lives.
    void add_reference(std::uint64_t handle, const std::shared_ptr<memory>& to) {
        ++handles_.try_emplace(handle, handle_record{to, 0}).first->second.references;
    }
    [[nodiscard]] std::shared_ptr<memory> find(std::uint64_t handle) const {
        const auto found = handles_.find(handle);
        return found == handles_.end() ? nullptr : found->second.to;
    }
    /// False where there is no such handle, or no longer.
    bool release(std::uint64_t handle) {
        const auto found = handles_.find(handle);
        if (found == handles_.end())
            return false;
        if (--found->second.references == 0)
            handles_.erase(found);
        return true;
    }
    /// The memory behind a file, where a handle of this machine leads to it.
    [[nodiscard]] std::shared_ptr<memory> find_file(const file_identity& file) const {
        for (const auto& [handle, record] : handles_) {
            if (record.to->own_file && identity_of(record.to->file) == file)
                return record.to;
        }
        return nullptr;
    }

    /// Bytes in use on a device: what handles and mappings keep, and what only descriptors of this process
    /// keep.
    [[nodiscard]] std::size_t used(int device) {
        std::erase_if(lingering_, [](const lingering& one) { return !any_descriptor_of(one.file); });
        std::size_t sum = devices_[static_cast<std::size_t>(device)].charged;
        for (const lingering& one : lingering_)
            sum += one.device == device ? one.size : 0;
        return sum;
    }
    [[nodiscard]] std::size_t exported_only() const noexcept { return lingering_.size(); }
    [[nodiscard]] std::size_t handle_count() const noexcept { return handles_.size(); }
    [[nodiscard]] std::size_t reference_count() const noexcept {
        std::size_t sum = 0;
        for (const auto& [handle, record] : handles_)
            sum += record.references;
        return sum;
    }

  private:
    friend struct memory;

    struct device_state {
        descriptor file;
        std::size_t file_end = 0;
        std::size_t charged = 0;
    };
    struct lingering {
        file_identity file;
        int device;
        std::size_t size;
    };

    void returned(const memory& gone) noexcept {
        if (gone.foreign)
            return;
        device_state& device = devices_[static_cast<std::size_t>(gone.properties.device)];
        device.charged -= gone.size;
        if (!gone.own_file) {
            ::fallocate(gone.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(gone.offset), static_cast<off_t>(gone.size));
        } else if (gone.exported) {
            if (const auto file = identity_of(gone.file))
                lingering_.push_back({*file, gone.properties.device, gone.size});
        }
    }

    const machine_options& options_;
    std::vector<device_state> devices_;
    std::vector<lingering> lingering_;
    // Last, so that it goes first: what it holds returns itself to the members above.
    std::map<std::uint64_t, handle_record> handles_;
};

inline memory::~memory() { owner.returned(*this); }

} // namespace vtensor::testing::simulated
