// SPDX-License-Identifier: Apache-2.0
//
// Backends over simulated machines, and the questions that the tests of device backends ask about both.
#pragma once

#include <conformance/fixture.hpp>
#include <support/catch.hpp>
#include <support/simulated_driver/cuda.hpp>
#include <support/simulated_driver/hip.hpp>

#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>

#include <cstddef>
#include <vector>

namespace vtensor::testing {

using conformance::ended;
using simulated::entry;
using simulated::machine_options;

/// Where a chunk of a simulated machine begins to count.
inline constexpr bytes granule = 2_MiB;

/// A number of chunks, and addresses for twice as many.
template <class Backend>
struct chunks_at {
    chunks_at(Backend& of, std::size_t count, bytes chunk_size = granule) : backend{of}, size{chunk_size} {
        const auto made = backend.reserve(size * (2 * count), bytes{0});
        REQUIRE(ended(made) == "ok");
        start = *made;
        for (std::size_t index = 0; index < count; ++index) {
            const auto chunk = backend.create(size);
            REQUIRE(ended(chunk) == "ok");
            chunks.push_back(*chunk);
        }
    }

    [[nodiscard]] address at(std::size_t index) const noexcept { return start + size * index; }
    [[nodiscard]] bytes all() const noexcept { return size * chunks.size(); }
    void map() {
        for (std::size_t index = 0; index < chunks.size(); ++index)
            REQUIRE(ended(backend.map(at(index), chunks[index])) == "ok");
    }
    void map_and_open(access_mode allowed = access_mode::read_write) {
        map();
        REQUIRE(ended(backend.set_access(start, all(), allowed)) == "ok");
    }
    /// Everything goes; the backend must still have all of it.
    void take_down(bool mapped = true) {
        if (mapped)
            CHECK(ended(backend.unmap(start, all())) == "ok");
        for (const device_chunk chunk : chunks)
            CHECK(ended(backend.destroy(chunk)) == "ok");
        CHECK(ended(backend.release(start, 2 * all())) == "ok");
    }

    Backend& backend;
    bytes size;
    address start{};
    std::vector<device_chunk> chunks;
};

/// A stream of the program's own, in the primary context of device 0, as the runtime API makes it.
class cuda_stream {
  public:
    explicit cuda_stream(simulated_cuda& machine) : driver_{machine.driver()} {
        CUctx_st* context = nullptr;
        REQUIRE(driver_.init(0) == 0);
        REQUIRE(driver_.device_primary_ctx_retain(&context, 0) == 0);
        REQUIRE(driver_.ctx_push_current(context) == 0);
        REQUIRE(driver_.stream_create(&stream_, cuda::abi::stream_flags::non_blocking) == 0);
        REQUIRE(driver_.ctx_pop_current(&context) == 0);
    }
    cuda_stream(const cuda_stream&) = delete;
    cuda_stream& operator=(const cuda_stream&) = delete;
    ~cuda_stream() {
        CHECK(driver_.stream_destroy(stream_) == 0);
        CHECK(driver_.device_primary_ctx_release(0) == 0);
    }
    [[nodiscard]] CUstream_st* get() const noexcept { return stream_; }

  private:
    cuda_driver driver_;
    CUstream_st* stream_ = nullptr;
};

/// The calls of one entry, in order.
[[nodiscard]] inline std::vector<simulated::call> calls_of(const simulated::machine& machine, entry which) {
    std::vector<simulated::call> found;
    for (const simulated::call& made : machine.log()) {
        if (made.what == which)
            found.push_back(made);
    }
    return found;
}

/// Bytes of the range that the device may read and write, by the machine's own tables.
[[nodiscard]] inline bytes open_bytes(simulated::machine& machine, address where, bytes size,
                                      int device = 0) {
    return bytes{machine.accessible_bytes(where.to_pointer(), size.count(), device)};
}
[[nodiscard]] inline bytes mapped_bytes(simulated::machine& machine, address where, bytes size) {
    return bytes{machine.mapped_bytes(where.to_pointer(), size.count())};
}

} // namespace vtensor::testing
