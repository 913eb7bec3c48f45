// SPDX-License-Identifier: Apache-2.0
// What does virtual memory cost on this GPU through the library, and does a kernel notice it? The verbs and
// growth are measured as support/vmm_cases.hpp says; then one kernel reads the same data from plain and from
// mapped memory, and reads on while the tensors of 32 layers grow. Kernels are timed by events. Exit code 77
// where there is no device.
#include "support/vmm_cases.hpp"

#include <vtensor/backends/cuda.hpp>

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace vtensor;

namespace {

constexpr int exit_no_device = 77;

void need(cudaError_t code) {
    if (code != cudaSuccess)
        throw std::runtime_error{cudaGetErrorString(code)};
}

// ---- kernels ----

constexpr unsigned threads = 256;

__device__ unsigned mixed(unsigned value) {
    value ^= value >> 16;
    value *= 0x7feb352du;
    value ^= value >> 15;
    value *= 0x846ca68bu;
    return value ^ (value >> 16);
}
/// Each word is a function of its place: the same data wherever it lies.
__global__ void fill_random(unsigned* words, std::size_t count) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    for (std::size_t index = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; index < count; index += step)
        words[index] = mixed(static_cast<unsigned>(index) ^ static_cast<unsigned>(index >> 32));
}
__device__ unsigned folded(uint4 of) { return of.x ^ of.y ^ of.z ^ of.w; }
/// The sum of everything, each byte read once: 16 bytes a load, four loads in flight.
__global__ void read_reduce(const uint4* data, std::size_t count, unsigned* sum) {
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    std::size_t index = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
    unsigned mine = 0;
    for (; index + 3 * step < count; index += 4 * step) {
        const uint4 a = data[index];
        const uint4 b = data[index + step];
        const uint4 c = data[index + 2 * step];
        const uint4 d = data[index + 3 * step];
        mine += folded(a) + folded(b) + folded(c) + folded(d);
    }
    for (; index < count; index += step)
        mine += folded(data[index]);
    mine = __reduce_add_sync(0xffffffffu, mine);
    if (threadIdx.x % 32 == 0)
        atomicAdd(sum, mine);
}

// ---- what the kernels read ----

class device_words {
  public:
    explicit device_words(bytes size) { need(cudaMalloc(&at_, size.count())); }
    device_words(const device_words&) = delete;
    device_words& operator=(const device_words&) = delete;
    ~device_words() { cudaFree(at_); }
    [[nodiscard]] void* get() const noexcept { return at_; }

  private:
    void* at_ = nullptr;
};

/// Chunks mapped one behind the other, in the given order.
class mapped_words {
  public:
    mapped_words(cuda_backend& backend, std::vector<device_chunk> chunks, bytes page)
        : backend_{&backend}, size_{page * chunks.size()}, start_{backend.reserve(size_, bytes{0}).value()} {
        for (std::size_t index = 0; index < chunks.size(); ++index)
            throw_if_failed(backend.map(start_ + page * index, chunks[index]));
        throw_if_failed(backend.set_access(start_, size_, access_mode::read_write));
    }
    mapped_words(const mapped_words&) = delete;
    mapped_words& operator=(const mapped_words&) = delete;
    ~mapped_words() {
        static_cast<void>(backend_->unmap(start_, size_));
        static_cast<void>(backend_->release(start_, size_));
    }
    [[nodiscard]] void* get() const noexcept { return start_.to_pointer(); }

  private:
    cuda_backend* backend_;
    bytes size_;
    address start_;
};

class chunk_set {
  public:
    chunk_set(cuda_backend& backend, std::size_t count, bytes page) : backend_{&backend} {
        for (std::size_t index = 0; index < count; ++index)
            chunks_.push_back(backend.create(page).value());
    }
    chunk_set(const chunk_set&) = delete;
    chunk_set& operator=(const chunk_set&) = delete;
    ~chunk_set() {
        for (const device_chunk chunk : chunks_)
            static_cast<void>(backend_->destroy(chunk));
    }
    [[nodiscard]] const std::vector<device_chunk>& get() const noexcept { return chunks_; }

  private:
    cuda_backend* backend_;
    std::vector<device_chunk> chunks_;
};

// ---- running them ----

/// A stream, a pair of events and the word that sums go to.
class kernels {
  public:
    kernels() : sum_{bytes{sizeof(unsigned)}} {
        need(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        need(cudaEventCreate(&begun_));
        need(cudaEventCreate(&ended_));
        int device = 0;
        need(cudaGetDevice(&device));
        int processors = 0;
        need(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
        blocks_ = static_cast<unsigned>(processors) * 8;
    }
    kernels(const kernels&) = delete;
    kernels& operator=(const kernels&) = delete;
    ~kernels() {
        cudaEventDestroy(ended_);
        cudaEventDestroy(begun_);
        cudaStreamDestroy(stream_);
    }

    void fill(void* at, bytes size) {
        fill_random<<<blocks_, threads, 0, stream_>>>(static_cast<unsigned*>(at), size.count() / 4);
        need(cudaGetLastError());
        need(cudaStreamSynchronize(stream_));
    }
    /// Queues that many reads between two events.
    void start_reads(const void* at, bytes size, int times) {
        need(cudaMemsetAsync(sum_.get(), 0, sizeof(unsigned), stream_));
        need(cudaEventRecord(begun_, stream_));
        for (int read = 0; read < times; ++read)
            read_reduce<<<blocks_, threads, 0, stream_>>>(static_cast<const uint4*>(at), size.count() / 16,
                                                          static_cast<unsigned*>(sum_.get()));
        need(cudaGetLastError());
        need(cudaEventRecord(ended_, stream_));
    }
    /// Seconds that they took, on the device.
    double finish_reads() {
        need(cudaStreamSynchronize(stream_));
        float milliseconds = 0;
        need(cudaEventElapsedTime(&milliseconds, begun_, ended_));
        return static_cast<double>(milliseconds) / 1e3;
    }
    double read(const void* at, bytes size, int times = 1) {
        start_reads(at, size, times);
        return finish_reads();
    }
    [[nodiscard]] bool reading() const { return cudaEventQuery(ended_) == cudaErrorNotReady; }
    [[nodiscard]] unsigned sum() const {
        unsigned value = 0;
        need(cudaMemcpyAsync(&value, sum_.get(), sizeof(value), cudaMemcpyDeviceToHost, stream_));
        need(cudaStreamSynchronize(stream_));
        return value;
    }

  private:
    device_words sum_;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t begun_ = nullptr;
    cudaEvent_t ended_ = nullptr;
    unsigned blocks_ = 0;
};

/// The same data, the same kernel, five places.
void measure_reads(bench::report& report, cuda_backend& backend, bytes size) {
    constexpr std::size_t repeats = 41;
    constexpr bytes page = 2_MiB;
    constexpr bytes large = 64_MiB;
    const std::size_t count = size / page;
    kernels device;
    const device_words plain{size};
    const chunk_set chunks{backend, count, page};
    const chunk_set scattered{backend, count, page};
    const chunk_set tails{backend, count - count / 2, page};
    const chunk_set large_chunks{backend, size / large, large};
    std::vector<device_chunk> shuffled = scattered.get();
    std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64{20'240'722});
    // A sequence that shares the first half of its pages with another.
    std::vector<device_chunk> sharing = tails.get();
    sharing.insert(sharing.begin(), chunks.get().begin(),
                   chunks.get().begin() + static_cast<std::ptrdiff_t>(count / 2));
    const mapped_words in_order{backend, chunks.get(), page};
    const mapped_words scrambled{backend, std::move(shuffled), page};
    const mapped_words aliased{backend, std::move(sharing), page};
    const mapped_words by_64_mib{backend, large_chunks.get(), large};

    void* const places[] = {plain.get(), in_order.get(), scrambled.get(), aliased.get(), by_64_mib.get()};
    static constexpr const char* names[] = {"plain", "in order", "scrambled", "aliased", "in order, 64MiB"};
    constexpr std::size_t kinds = std::size(places);
    unsigned expected = 0;
    for (std::size_t kind = 0; kind < kinds; ++kind) {
        device.fill(places[kind], size);
        device.read(places[kind], size);
        const unsigned seen = device.sum();
        if (kind == 0)
            expected = seen;
        if (seen != expected)
            throw std::runtime_error{std::string{"wrong data read: "} + names[kind]};
    }
    bench::rounds<kinds> timed{repeats};
    for (std::size_t round = 0; round < repeats; ++round) {
        for (std::size_t turn = 0; turn < kinds; ++turn) {
            const std::size_t kind = (turn + round) % kinds; // none always comes first
            timed[round][kind] = device.read(places[kind], size);
        }
    }
    const double volume = bench::gigabytes(size);
    for (std::size_t kind = 0; kind < kinds; ++kind) {
        const bench::samples ratio = timed.ratio(kind, 0);
        report.add({.name = std::string{"read "} + names[kind],
                    .metric = "read bandwidth",
                    .value = volume / timed.seconds(kind).median(),
                    .unit = "GB/s",
                    .limit = volume / timed.seconds(0).median(),
                    .ratio = ratio.median(), // time on mapped memory divided by time on plain memory
                    .spread = kind == 0 ? timed.seconds(0).spread() : ratio.spread(),
                    .repeats = repeats});
    }
}

/// How many reads take about that long.
int reads_for(kernels& device, const void* at, bytes size, double seconds) {
    device.read(at, size);
    return std::clamp(static_cast<int>(seconds / device.read(at, size)) + 1, 1, 400);
}

/// Reads go on while the tensors grow once, and while another thread grows and shrinks them without a pause.
void measure_while_growing(bench::report& report, cuda_backend& backend, bytes size,
                           const bench::vmm_plan& plan) {
    constexpr std::size_t repeats = 15;
    kernels device;
    const chunk_set chunks{backend, size / plan.page, plan.page};
    const mapped_words data{backend, chunks.get(), plan.page};
    device.fill(data.get(), size);
    bench::tensor_set<cuda_backend> set{backend, plan};
    set.fill_pool();
    const double grown = bench::gigabytes(set.grown());
    const std::string name = bench::growth_name(plan);
    set.grow_at_once();
    set.shrink();
    const double growing = bench::seconds_of([&] { set.grow_at_once(); });
    set.shrink();

    enum { quiet, disturbed, kinds };
    // Long enough that growth ends before the reads do, even when it is three times slower beside them.
    const int reads = reads_for(device, data.get(), size, std::max(0.02, 3 * growing));
    bench::rounds<kinds> once{repeats};
    bench::rounds<kinds> growth{repeats};
    std::size_t overlapped = 0;
    for (std::size_t round = 0; round < repeats; ++round) {
        once[round][quiet] = device.read(data.get(), size, reads);
        growth[round][quiet] = bench::seconds_of([&] { set.grow_at_once(); });
        set.shrink();
        device.start_reads(data.get(), size, reads);
        growth[round][disturbed] = bench::seconds_of([&] { set.grow_at_once(); });
        overlapped += device.reading() ? 1u : 0u;
        once[round][disturbed] = device.finish_reads();
        set.shrink();
    }
    const auto milliseconds = [&](const bench::rounds<kinds>& timed, std::size_t kind) {
        return timed.seconds(kind).median() * 1e3;
    };
    const auto add_slowed = [&](const std::string& metric, const bench::rounds<kinds>& timed) {
        const bench::samples slowed = timed.ratio(disturbed, quiet);
        report.add({.name = name,
                    .metric = metric,
                    .value = milliseconds(timed, disturbed),
                    .unit = "ms",
                    .limit = milliseconds(timed, quiet),
                    .ratio = slowed.median(),
                    .spread = slowed.spread(),
                    .repeats = repeats});
    };
    add_slowed("reads meanwhile", once);
    const bench::samples slower = growth.ratio(disturbed, quiet);
    report.add({.name = name,
                .metric = "beside reads",
                .value = grown / growth.seconds(disturbed).median(),
                .unit = "GB/s",
                .limit = grown / growth.seconds(quiet).median(),
                .ratio = slower.median(),
                .spread = slower.spread(),
                .repeats = repeats});
    report.add({.name = name,
                .metric = "reads outlasted it",
                .value = static_cast<double>(overlapped),
                .unit = "rounds",
                .limit = static_cast<double>(repeats),
                .repeats = repeats});

    std::atomic<bool> wanted{false};
    std::atomic<bool> running{false};
    std::atomic<bool> over{false};
    std::atomic<std::size_t> cycles{0};
    std::exception_ptr trouble;
    std::thread mapper{[&] {
        try {
            while (!over) {
                if (!wanted) {
                    running = false;
                    std::this_thread::yield();
                    continue;
                }
                running = true;
                set.grow_at_once();
                set.shrink();
                ++cycles;
            }
        } catch (...) {
            trouble = std::current_exception();
            over = true;
        }
        running = false;
    }};
    const auto turn = [&](bool on) {
        wanted = on;
        while (running != on && !over)
            std::this_thread::yield();
    };
    bench::rounds<kinds> always{repeats};
    double seconds = 0;
    try {
        for (std::size_t round = 0; round < repeats; ++round) {
            turn(false);
            always[round][quiet] = device.read(data.get(), size, reads);
            turn(true);
            seconds +=
                bench::seconds_of([&] { always[round][disturbed] = device.read(data.get(), size, reads); });
        }
    } catch (...) {
        over = true;
        mapper.join();
        throw;
    }
    turn(false);
    over = true;
    mapper.join();
    if (trouble)
        std::rethrow_exception(trouble);
    add_slowed("reads, no pause", always);
    report.add({.name = name,
                .metric = "mapped, no pause",
                .value = grown * static_cast<double>(cycles) / seconds,
                .unit = "GB/s",
                .repeats = repeats});
}

} // namespace

int main(int argc, char** argv) {
    const auto loaded = load_cuda_driver();
    if (loaded.failure.code != errc::ok) {
        std::cout << "bench_vmm: " << loaded.reason << '\n';
        return exit_no_device;
    }
    const auto opened = cuda_backend::try_open({.driver = loaded.driver});
    if (!opened) {
        std::cout << "bench_vmm: " << opened.reason << '\n';
        return exit_no_device;
    }
    try {
        cuda_backend& backend = *opened.backend;
        const device_report& found = backend.report();
        need(cudaSetDevice(found.ordinal));
        std::cout << backend.describe() << '\n';
        bench::report report{"bench_vmm", found.name + " (" + found.architecture + "), " + found.driver};
        std::size_t free = 0;
        std::size_t total = 0;
        need(cudaMemGetInfo(&free, &total));
        // A small device measures less: everything together needs about five times what is read.
        const bytes read = free >= (24_GiB).count() ? 4_GiB : round_up(bytes{free / 8}, 64_MiB);
        bench::vmm_plan plan;
        plan.most = std::min(plan.most, bytes{free / 4});
        while (plan.tensors > 1 && plan.page * plan.pages * plan.tensors > bytes{free / 5})
            plan.tensors /= 2;
        std::cout << "verbs ...\n" << std::flush;
        measure_verbs(report, backend, plan);
        std::cout << "growth ...\n" << std::flush;
        measure_growth(report, backend, loaded.driver, found.ordinal, plan);
        std::cout << "reading ...\n" << std::flush;
        measure_reads(report, backend, read);
        std::cout << "reading while growing ...\n" << std::flush;
        measure_while_growing(report, backend, read, plan);
        return report.finish(bench::json_option(argc, argv));
    } catch (const std::exception& failed) {
        std::cerr << "bench_vmm: " << failed.what() << '\n';
        return 1;
    }
}
