// SPDX-License-Identifier: Apache-2.0
//
// A backend that only exports and imports: its chunks are numbers, which travel in fabric handles or, where
// it is told so, as positions in a file behind a descriptor. It counts what it holds.
#pragma once

#include <vtensor/backends/os/handle.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/interop/shareable_backend.hpp>

#include <cstddef>
#include <set>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vtensor::testing {

class fake_fabric {
  public:
    using chunk_type = int; // 0 is none
    using os_handle_type = os_handle;

    [[nodiscard]] bytes granularity() const noexcept { return 64_KiB; }
    [[nodiscard]] bool can_export() const noexcept { return true; }

    result<int> create(bytes) noexcept { return hold(++last_); }
    status destroy(int chunk) noexcept {
        const auto found = held_.find(chunk);
        if (found == held_.end())
            return error{errc::unknown_chunk, verb::destroy, 0, bytes{}};
        held_.erase(found);
        return {};
    }
    result<os_handle> export_chunk(int chunk) noexcept {
        if (held_.count(chunk) == 0)
            return error{errc::unknown_chunk, verb::export_chunk, 0, bytes{}};
        if (chunk == nothing_for)
            return os_handle{};
        if (chunk >= descriptors_from) {
            file_descriptor file{::memfd_create("fake", MFD_CLOEXEC)};
            if (!file || ::ftruncate(file.number(), chunk) != 0)
                return error{errc::native_failure, verb::export_chunk, 0, bytes{}};
            return os_handle{std::move(file)};
        }
        fabric_handle name;
        for (std::size_t index = 0; index < 4; ++index) // the number at the end, so that all 64 bytes matter
            name.data[60 + index] = static_cast<std::byte>(chunk >> (8 * index));
        return os_handle{name};
    }
    result<int> import_chunk(os_handle handle, bytes size) noexcept {
        int number = 0;
        if (const fabric_handle* const name = handle.fabric()) {
            for (std::size_t index = 0; index < 4; ++index)
                number |= std::to_integer<int>(name->data[60 + index]) << (8 * index);
        } else {
            number = static_cast<int>(::lseek(handle.descriptor(), 0, SEEK_END));
        }
        if (number <= 0 || number == refused)
            return error{errc::foreign_handle, verb::import_chunk, 0, size};
        return hold(number);
    }

    result<address> reserve(bytes, bytes) noexcept { return address{}; }
    status release(address, bytes) noexcept { return {}; }
    status map(address, int) noexcept { return {}; }
    status set_access(address, bytes, access_mode) noexcept { return {}; }
    status unmap(address, bytes) noexcept { return {}; }

    [[nodiscard]] std::size_t held() const { return held_.size(); }

    int descriptors_from = 1'000'000; ///< chunks from this number on are exported as descriptors
    int nothing_for = 0;              ///< this chunk's handle is none
    int refused = 0;                  ///< this chunk cannot be imported

  private:
    int hold(int chunk) {
        held_.insert(chunk);
        return chunk;
    }

    std::multiset<int> held_; // the same chunk may be imported twice
    int last_ = 0;
};

static_assert(interop::shareable_backend<fake_fabric>);

} // namespace vtensor::testing
