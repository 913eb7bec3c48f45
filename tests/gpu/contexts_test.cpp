// SPDX-License-Identifier: Apache-2.0
// Backends in the primary context and in an engine's own, used by threads that have one of them current, the
// other, or none; and by the mapper thread.
#include <support/device_main.hpp> // first: it is also Catch2's runner

#include "scene.hpp"

#include <array>
#include <cstddef>
#include <mutex>
#include <thread>

#include <dlfcn.h>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

const cuda_driver& driver() {
    static const cuda_driver loaded = load_cuda_driver().driver;
    return loaded;
}
CUctx_st* current_context() {
    CUctx_st* now = nullptr;
    REQUIRE(driver().ctx_get_current(&now) == 0);
    return now;
}

/// A context as an engine makes it. Not current after construction.
class own_context {
  public:
    own_context() {
        void* const library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        REQUIRE(library != nullptr);
        auto* const create =
            reinterpret_cast<int (*)(CUctx_st**, unsigned, int)>(::dlsym(library, "cuCtxCreate_v2"));
        destroy_ = reinterpret_cast<int (*)(CUctx_st*)>(::dlsym(library, "cuCtxDestroy_v2"));
        REQUIRE(create != nullptr);
        REQUIRE(destroy_ != nullptr);
        REQUIRE(create(&handle_, 0, 0) == 0);
        CUctx_st* popped = nullptr;
        REQUIRE(driver().ctx_pop_current(&popped) == 0);
    }
    own_context(const own_context&) = delete;
    own_context& operator=(const own_context&) = delete;
    ~own_context() { destroy_(handle_); }
    [[nodiscard]] CUctx_st* get() const noexcept { return handle_; }

  private:
    int (*destroy_)(CUctx_st*) = nullptr;
    CUctx_st* handle_ = nullptr;
};

/// Makes a context current for as long as it lives.
class entered {
  public:
    explicit entered(CUctx_st* context) { REQUIRE(driver().ctx_push_current(context) == 0); }
    entered(const entered&) = delete;
    entered& operator=(const entered&) = delete;
    ~entered() {
        CUctx_st* popped = nullptr;
        driver().ctx_pop_current(&popped);
    }
};

/// Reserves, creates, maps, fills, reads back and gives everything back. True where all went well and the
/// context that was current is so again after every call.
bool use_all_verbs(cuda_backend& backend, std::byte pattern) {
    CUctx_st* before = nullptr;
    bool fine = driver().ctx_get_current(&before) == 0;
    const auto ok = [&](const status& outcome) {
        CUctx_st* now = nullptr;
        fine = fine && outcome.ok() && driver().ctx_get_current(&now) == 0 && now == before;
    };
    const bytes unit = backend.granularity();
    const auto where = backend.reserve(unit * 2, 0_B);
    ok(where.status());
    const auto chunk = backend.create(unit);
    ok(chunk.status());
    const auto event = backend.create_event();
    ok(event.status());
    if (!fine)
        return false;
    ok(backend.map(*where, *chunk));
    ok(backend.map(*where + unit, *chunk));
    ok(backend.set_access(*where, unit * 2, access_mode::read_write));
    ok(backend.fill(*where, pattern, unit, nullptr));
    std::array<std::byte, 64> seen{};
    ok(backend.copy(address{seen.data()}, *where + unit, bytes{seen.size()}, nullptr));
    ok(backend.record(*event, nullptr));
    ok(backend.wait(*event));
    for (const std::byte one : seen)
        fine = fine && one == pattern;
    ok(backend.destroy_event(*event));
    ok(backend.unmap(*where, unit * 2));
    ok(backend.destroy(*chunk));
    ok(backend.release(*where, unit * 2));
    return fine;
}

} // namespace

TEST_CASE("a backend in an engine's context and one in the primary context work side by side") {
    const own_context engine;
    REQUIRE(current_context() == nullptr);
    cuda_backend own{{.context = engine.get()}};
    cuda_backend primary;
    CHECK(current_context() == nullptr);
    CHECK(use_all_verbs(own, std::byte{1}));
    CHECK(use_all_verbs(primary, std::byte{2}));
    const entered inside{engine.get()};
    CHECK(use_all_verbs(own, std::byte{3}));
    CHECK(use_all_verbs(primary, std::byte{4}));
    CHECK(current_context() == engine.get());
}

TEST_CASE("threads without a context, and with another, use a backend") {
    const own_context engine;
    const own_context other;
    cuda_backend backend{{.context = engine.get()}};
    std::array<bool, 6> fine{};
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < fine.size(); ++index) {
        threads.emplace_back([&, index] {
            CUctx_st* popped = nullptr;
            if (index % 2 == 1 && driver().ctx_push_current(other.get()) != 0)
                return;
            bool all = true;
            for (int round = 0; round < 20; ++round)
                all = all && use_all_verbs(backend, std::byte{static_cast<unsigned char>(index + 1)});
            fine[index] = all;
            if (index % 2 == 1)
                driver().ctx_pop_current(&popped);
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    for (std::size_t index = 0; index < fine.size(); ++index) {
        CAPTURE(index);
        CHECK(fine[index]);
    }
    CHECK(backend.mapped_bytes() == 0_B);
    CHECK(backend.physical_bytes() == 0_B);
}

TEST_CASE("the runtime's kernels use memory of the primary context's backend, and outlive it") {
    const gpu_stream stream;
    {
        cuda_backend backend;
        chunk_pool<cuda_backend> pool{backend, {.chunk_size = gpu_page}};
        page_tensor<> tensor{pool, one_page(), 4};
        tensor.resize(4);
        gpu_fill(stream, start_of(tensor), 0_B, bytes_of(tensor), 8);
        CHECK(gpu_wrong_words(stream, start_of(tensor), bytes_of(tensor), 8) == 0);
    }
    cuda_backend again;
    CHECK(use_all_verbs(again, std::byte{9}));
    stream.wait();
}

TEST_CASE("the mapper thread maps ahead on a device while kernels run") {
    const gpu_stream stream;
    cuda_backend backend;
    chunk_pool<cuda_backend, std::mutex> pool{backend, {.chunk_size = gpu_page}};
    mapper thread;
    const gpu_figures figures;
    {
        page_tensor<cuda_backend, growth::look_ahead<4>> tensor{pool, thread, one_page(), 128};
        for (std::size_t row = 0; row < 128; ++row) {
            tensor.append(1);
            gpu_fill(stream, start_of(tensor), gpu_page * row, gpu_page, 10);
            gpu_check(stream, start_of(tensor), bytes_of(tensor), 10, figures);
        }
        stream.wait();
        CHECK(figures.wrong() == 0);
        CHECK(tensor.look_ahead_status());
        CHECK(tensor.verify());
    }
    CHECK(backend.mapped_bytes() == 0_B);
}

int main(int count, char** arguments) { return run_on_device<cuda_backend>(count, arguments); }
