// SPDX-License-Identifier: Apache-2.0
//
// What the cases of behaviour.hpp stand on: an engine with a context and a stream, and a chunk that is
// mapped.
#pragma once

#include <conformance/device_fixtures.hpp>
#include <support/catch.hpp>

#include <vtensor/backends/cuda.hpp>

#include <cstddef>

namespace vtensor::testing {

using conformance::ended;

/// The primary context of device 0 as an engine holds it, and a stream in it.
class engine {
  public:
    explicit engine(const cuda_driver& driver) : driver_{driver} {
        REQUIRE(driver_.init(0) == 0);
        REQUIRE(driver_.device_primary_ctx_retain(&context_, 0) == 0);
        REQUIRE(driver_.ctx_push_current(context_) == 0);
        REQUIRE(driver_.stream_create(&stream_, cuda::abi::stream_flags::non_blocking) == 0);
        CUctx_st* popped = nullptr;
        REQUIRE(driver_.ctx_pop_current(&popped) == 0);
    }
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;
    ~engine() {
        CHECK(driver_.stream_destroy(stream_) == 0);
        CHECK(driver_.device_primary_ctx_release(0) == 0);
    }
    [[nodiscard]] CUctx_st* context() const noexcept { return context_; }
    [[nodiscard]] CUstream_st* stream() const noexcept { return stream_; }
    [[nodiscard]] CUctx_st* current() const {
        CUctx_st* now = nullptr;
        CHECK(driver_.ctx_get_current(&now) == 0);
        return now;
    }
    /// Bytes of the device that nobody uses.
    [[nodiscard]] bytes free_bytes() const {
        std::size_t free = 0;
        std::size_t total = 0;
        CUctx_st* popped = nullptr;
        REQUIRE(driver_.ctx_push_current(context_) == 0);
        CHECK(driver_.mem_get_info(&free, &total) == 0);
        REQUIRE(driver_.ctx_pop_current(&popped) == 0);
        return bytes{free};
    }

  private:
    cuda_driver driver_;
    CUctx_st* context_ = nullptr;
    CUstream_st* stream_ = nullptr;
};

/// One mapped, accessible chunk.
struct mapped_chunk {
    mapped_chunk(cuda_backend& of, bytes chunk_size) : mapped_chunk{of, chunk_size, of.create(chunk_size)} {}
    mapped_chunk(cuda_backend& of, bytes chunk_size, const result<device_chunk>& made)
        : backend{of}, size{chunk_size} {
        REQUIRE(ended(made) == "ok");
        chunk = *made;
        const auto reserved = backend.reserve(size, bytes{0});
        REQUIRE(ended(reserved) == "ok");
        where = *reserved;
        REQUIRE(ended(backend.map(where, chunk)) == "ok");
        REQUIRE(ended(backend.set_access(where, size, access_mode::read_write)) == "ok");
    }
    mapped_chunk(const mapped_chunk&) = delete;
    mapped_chunk& operator=(const mapped_chunk&) = delete;
    ~mapped_chunk() {
        CHECK(ended(backend.unmap(where, size)) == "ok");
        CHECK(ended(backend.destroy(chunk)) == "ok");
        CHECK(ended(backend.release(where, size)) == "ok");
    }
    [[nodiscard]] std::byte read(bytes at) const {
        std::byte value{};
        conformance::copy_and_wait(backend, address{&value}, where + at, bytes{1});
        return value;
    }

    cuda_backend& backend;
    bytes size;
    device_chunk chunk{};
    address where{};
};

} // namespace vtensor::testing
