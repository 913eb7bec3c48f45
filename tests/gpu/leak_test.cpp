// SPDX-License-Identifier: Apache-2.0
// Nothing of a device is lost: not over many lives of a backend, not where a call fails, not where the device
// has no more memory. The driver's own figure of free memory and the kernel's list of descriptors are the
// judges.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include "scene.hpp"

#include <support/fault_loop.hpp>
#include <support/proc_maps.hpp>

#include <vtensor/adaptors/failing.hpp>

#include <memory>
#include <utility>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Uses everything once, and leaves addresses and chunks to the destructor.
void live_once(const gpu_stream& stream) {
    cuda_backend backend{{.sharing = sharing_wish::descriptor}};
    chunk_pool<cuda_backend> pool{backend, {.chunk_size = gpu_page}};
    {
        page_tensor<> tensor{pool, one_page(), 64};
        tensor.resize(64);
        gpu_fill(stream, start_of(tensor), 0_B, bytes_of(tensor), 3);
        tensor.resize(16, stream.get());
        stream.wait();
        REQUIRE(pool.retiring().drain());
        tensor.resize(40);
        REQUIRE(gpu_wrong_words(stream, start_of(tensor), gpu_page * 16, 3) == 0);
    }
    const device_chunk chunk = backend.create(gpu_page).value();
    if (backend.can_export()) {
        os_handle handle = backend.export_chunk(chunk).value();
        const device_chunk imported = backend.import_chunk(std::move(handle), gpu_page).value();
        REQUIRE(backend.destroy(imported));
    }
    const address left = backend.reserve(gpu_page * 4, 0_B).value();
    REQUIRE(backend.map(left, chunk));
    REQUIRE(backend.map(left + gpu_page, chunk));
    REQUIRE(backend.set_access(left, gpu_page * 2, access_mode::read_write));
    static_cast<void>(backend.create(gpu_page * 3).value());
}

/// Less than what one leaked page a life would come to.
constexpr bytes tolerance = 16_MiB;

} // namespace

TEST_CASE("fifty lives of a backend leave the device and the process as they were") {
    const gpu_stream stream; // keeps the primary context alive
    for (int warm_up = 0; warm_up < 2; ++warm_up)
        live_once(stream);
    const bytes before = gpu_free_memory();
    const std::size_t descriptors = open_descriptors();
    for (int life = 0; life < 50; ++life)
        live_once(stream);
    CHECK(gpu_free_memory() + tolerance >= before);
    CHECK(open_descriptors() == descriptors);
}

TEST_CASE("growth that fails at any call leaves no memory behind") {
    const gpu_stream stream;
    cuda_backend device;
    adaptors::failing<cuda_backend> backend{device};
    using backend_type = adaptors::failing<cuda_backend>;
    chunk_pool<backend_type> pool{backend, {.chunk_size = gpu_page}};
    page_tensor<backend_type> tensor{pool, one_page(), 16};
    const bytes before = gpu_free_memory();
    for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
        const std::size_t runs = for_each_failing_call(
            backend, [&] { return tensor.try_resize(8).ok(); },
            [&](std::size_t) {
                CHECK(tensor.rows() == 0);
                CHECK(tensor.verify());
                CHECK(pool.verify());
                tensor.trim();
                REQUIRE(pool.trim());
                CHECK(device.mapped_bytes() == 0_B);
                CHECK(device.physical_bytes() == 0_B);
            },
            errc::out_of_memory, length);
        CHECK(runs >= 8);
        gpu_fill(stream, start_of(tensor), 0_B, bytes_of(tensor), 4);
        CHECK(gpu_wrong_words(stream, start_of(tensor), bytes_of(tensor), 4) == 0);
        tensor.resize(0);
        REQUIRE(pool.trim());
    }
    CHECK(gpu_free_memory() + tolerance >= before);
}

TEST_CASE("growth beyond the memory of the device changes nothing") {
    const gpu_stream stream;
    cuda_backend backend;
    constexpr bytes chunk = 256_MiB;
    const bytes before = gpu_free_memory();
    const std::size_t too_many = before / chunk + 8;
    {
        chunk_pool<cuda_backend> pool{backend, {.chunk_size = chunk}};
        virtual_tensor<std::uint32_t, cuda_backend> tensor{
            pool, row_shape{chunk.count() / sizeof(std::uint32_t)}, too_many};
        tensor.resize(2);
        gpu_fill(stream, start_of(tensor), 0_B, chunk * 2, 5);
        stream.wait();
        const status refused = tensor.try_resize(too_many);
        CHECK(refused.code() == errc::out_of_memory);
        CHECK(tensor.rows() == 2);
        CHECK(backend.mapped_bytes() == chunk * 2);
        CHECK(backend.physical_bytes() == chunk * 2);
        CHECK(gpu_wrong_words(stream, start_of(tensor), chunk * 2, 5) == 0);
        tensor.resize(4);
    }
    CHECK(backend.physical_bytes() == 0_B);
    CHECK(gpu_free_memory() + tolerance >= before);
}

int main(int count, char** arguments) { return run_on_device<cuda_backend>(count, arguments); }
