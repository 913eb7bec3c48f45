// SPDX-License-Identifier: Apache-2.0
// What does the driver of this GPU really do? One line with evidence for each thing about virtual memory that
// manuals leave open: costs, limits, what waits for what, what a forbidden access does. A single file without
// any header of the library:
//
//     nvcc -std=c++20 -O2 -arch=native vmm_probe.cu -o vmm_probe && ./vmm_probe --json probe.json
//
// Options: --json FILE · --device N · --total SECONDS (all together, 170) · --list · --run NAME (one
// experiment, in this process).
//
// Each experiment runs in a process of its own with a time box: one that faults its context, crashes or hangs
// spoils no other, and its memory returns with it. Exit code: 0 all settled, 1 some were not, 2 bad usage or
// a file that cannot be written, 77 no driver or no device.
//
// Beside the fields of every bench a record has "evidence". Where the unit is "yes/no" the value is 1 or 0;
// where it is "code" it is a CUresult.
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace {

using clock_type = std::chrono::steady_clock;
using std::size_t;

constexpr int exit_settled = 0;
constexpr int exit_unsettled = 1;
constexpr int exit_usage = 2;
constexpr int exit_no_device = 77;

constexpr size_t MiB = size_t{1} << 20;
constexpr size_t GiB = size_t{1} << 30;

// ---- the driver, loaded at run time ----

#define PROBE_REQUIRED(X)                                                                                    \
    X(cuInit)                                                                                                \
    X(cuDriverGetVersion)                                                                                    \
    X(cuGetErrorName)                                                                                        \
    X(cuDeviceGetCount)                                                                                      \
    X(cuDeviceGet)                                                                                           \
    X(cuDeviceGetName)                                                                                       \
    X(cuDeviceGetAttribute)                                                                                  \
    X(cuDeviceTotalMem)                                                                                      \
    X(cuMemGetInfo)                                                                                          \
    X(cuMemGetAllocationGranularity)                                                                         \
    X(cuMemAddressReserve)                                                                                   \
    X(cuMemAddressFree)                                                                                      \
    X(cuMemCreate)                                                                                           \
    X(cuMemRelease)                                                                                          \
    X(cuMemMap)                                                                                              \
    X(cuMemUnmap)                                                                                            \
    X(cuMemSetAccess)                                                                                        \
    X(cuMemGetAccess)                                                                                        \
    X(cuMemExportToShareableHandle)                                                                          \
    X(cuMemImportFromShareableHandle)                                                                        \
    X(cuMemRetainAllocationHandle)
#define PROBE_OPTIONAL(X) X(cuMemGetHandleForAddressRange)

#define PROBE_TEXT_(x) #x
#define PROBE_TEXT(x) PROBE_TEXT_(x)

/// Entries by their names in cuda.h; the symbols are those that cuda.h maps them to ("cuMemGetInfo_v2").
struct driver_table {
#define PROBE_MEMBER(name) decltype(&::name) name = nullptr;
    PROBE_REQUIRED(PROBE_MEMBER)
    PROBE_OPTIONAL(PROBE_MEMBER)
#undef PROBE_MEMBER
};

driver_table cu;

/// Empty, or why there is no driver.
std::string load_driver() {
    void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const why = dlerror();
        return std::string{"There is no CUDA driver: "} + (why == nullptr ? "libcuda.so.1" : why) + '.';
    }
    std::string missing;
#define PROBE_FIND(name) cu.name = reinterpret_cast<decltype(cu.name)>(dlsym(library, PROBE_TEXT(name)));
#define PROBE_NEED(name)                                                                                     \
    PROBE_FIND(name)                                                                                         \
    if (cu.name == nullptr)                                                                                  \
        missing = PROBE_TEXT(name);
    PROBE_REQUIRED(PROBE_NEED)
    PROBE_OPTIONAL(PROBE_FIND)
#undef PROBE_NEED
#undef PROBE_FIND
    return missing.empty() ? std::string{} : "The CUDA driver is too old: it has no " + missing + '.';
}

std::string name_of(CUresult code) {
    const char* name = nullptr;
    std::string text = std::to_string(static_cast<int>(code));
    if (cu.cuGetErrorName != nullptr && cu.cuGetErrorName(code, &name) == CUDA_SUCCESS && name != nullptr)
        text.append(" (").append(name).append(")");
    return text;
}

/// Ends an experiment that cannot go on.
struct failure : std::exception {
    explicit failure(std::string text) : text_{std::move(text)} {}
    [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

  private:
    std::string text_;
};

void need(CUresult code, const char* call) {
    if (code != CUDA_SUCCESS)
        throw failure{std::string{call} + " gives " + name_of(code)};
}
void need(cudaError_t code, const char* call) {
    if (code != cudaSuccess)
        throw failure{std::string{call} + " gives " + std::to_string(static_cast<int>(code)) + " (" +
                      cudaGetErrorName(code) + ")"};
}
#define NEED(call) need(call, #call)

// ---- records ----

struct record {
    std::string name; ///< the experiment, or a case of it
    std::string metric;
    double value = 0;
    std::string unit;
    std::string evidence{};
    std::optional<double> limit{};
    std::optional<double> ratio{};
    double spread = 0;
    size_t repeats = 1;
};

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char letter : text) {
        if (letter == '"' || letter == '\\')
            out += '\\';
        out += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
    return out + '"';
}
std::string number(double value, const char* format = "%.4g") {
    std::array<char, 40> text{};
    if (value == std::floor(value) && std::abs(value) < 1e15)
        format = "%.0f";
    std::snprintf(text.data(), text.size(), format, value);
    return text.data();
}
std::string json_number(std::optional<double> value) {
    return value && std::isfinite(*value) ? number(*value, "%.6g") : "null";
}
std::string to_json(const record& line) {
    return "{\"case\": " + quoted(line.name) + ", \"metric\": " + quoted(line.metric) +
           ", \"value\": " + json_number(line.value) + ", \"unit\": " + quoted(line.unit) +
           ", \"limit\": " + json_number(line.limit) + ", \"ratio\": " + json_number(line.ratio) +
           ", \"spread\": " + json_number(line.spread) + ", \"repeats\": " + std::to_string(line.repeats) +
           ", \"evidence\": " + quoted(line.evidence) + '}';
}

int records_descriptor = -1; ///< where a child process writes records, or nowhere

void write_line(const std::string& text) {
    for (size_t done = 0; records_descriptor >= 0 && done < text.size();) {
        const ssize_t wrote = ::write(records_descriptor, text.data() + done, text.size() - done);
        if (wrote <= 0)
            return;
        done += static_cast<size_t>(wrote);
    }
}

void print(const record& line) {
    const bool is_code = line.unit == "code";
    std::string text = "  " + line.name + ": " + line.metric + ": ";
    if (line.unit == "yes/no")
        text += line.value != 0 ? "yes" : "no";
    else if (!is_code)
        text += number(line.value) + ' ' + line.unit;
    if (line.ratio)
        text += ", ratio " + number(*line.ratio);
    if (line.spread > 0)
        text += ", ±" + number(line.spread * 100) + " %";
    if (is_code)
        text += line.evidence; // it begins with the code
    else if (!line.evidence.empty())
        text += "  [" + line.evidence + ']';
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
}
/// To the parent: there is nothing more to find out. What a process does after that, taken long over by the
/// driver or ended by a signal, settles nothing and unsettles nothing.
constexpr std::string_view end_mark = "!";
void say_ended() {
    std::fflush(stdout);
    write_line(std::string{end_mark} + '\n');
}
/// Shown and written at once: what was found before a crash counts.
void report(const record& line) {
    print(line);
    write_line(to_json(line) + '\n');
}
void answer(const std::string& name, const std::string& question, bool yes, const std::string& evidence) {
    report(
        {.name = name, .metric = question, .value = yes ? 1.0 : 0.0, .unit = "yes/no", .evidence = evidence});
}
void code(const std::string& name, const std::string& call, CUresult value,
          const std::string& evidence = {}) {
    report({.name = name,
            .metric = call,
            .value = static_cast<double>(value),
            .unit = "code",
            .evidence = evidence.empty() ? name_of(value) : name_of(value) + ", " + evidence});
}

// ---- timing ----

template <class Work>
double micros(Work&& work) {
    const auto start = clock_type::now();
    work();
    return std::chrono::duration<double, std::micro>(clock_type::now() - start).count();
}
double quantile(std::vector<double> values, double share) {
    if (values.empty())
        return 0;
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, values.size() - 1);
    return std::lerp(values[below], values[above], place - static_cast<double>(below));
}
double median(const std::vector<double>& values) { return quantile(values, 0.5); }
/// Half the distance between the quartiles, as a share of the median.
double spread(const std::vector<double>& values) {
    const double middle = median(values);
    return middle == 0 ? 0 : (quantile(values, 0.75) - quantile(values, 0.25)) / 2 / std::abs(middle);
}
record timed(std::string name, std::string metric, const std::vector<double>& values,
             std::string unit = "us") {
    return {.name = std::move(name),
            .metric = std::move(metric),
            .value = median(values),
            .unit = std::move(unit),
            .spread = spread(values),
            .repeats = values.size()};
}

/// When this experiment should come to its end.
clock_type::time_point experiment_ends = clock_type::time_point::max();
bool time_left(double share_of_second = 0) {
    return clock_type::now() + std::chrono::duration_cast<clock_type::duration>(
                                   std::chrono::duration<double>(share_of_second)) <
           experiment_ends;
}

// ---- the device ----

int device_ordinal = 0;
CUdevice device = 0;
size_t granule = 2 * MiB;

CUmemAllocationProp properties(int handle_types = 0, bool rdma = false) {
    CUmemAllocationProp made{};
    made.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    made.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    made.location.id = device;
    made.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(handle_types);
    made.allocFlags.gpuDirectRDMACapable = rdma ? 1 : 0;
    return made;
}
int attribute(CUdevice_attribute which) {
    int value = 0;
    return cu.cuDeviceGetAttribute(&value, which, device) == CUDA_SUCCESS ? value : -1;
}

/// Empty, or why there is no device.
std::string find_device() {
    if (std::string why = load_driver(); !why.empty())
        return why;
    if (const CUresult failed = cu.cuInit(0); failed != CUDA_SUCCESS)
        return "The CUDA driver finds no device that it can use: cuInit gives " + name_of(failed) + '.';
    int devices = 0;
    if (cu.cuDeviceGetCount(&devices) != CUDA_SUCCESS || devices == 0)
        return "The CUDA driver is loaded, but there is no CUDA device.";
    if (device_ordinal < 0 || device_ordinal >= devices ||
        cu.cuDeviceGet(&device, device_ordinal) != CUDA_SUCCESS)
        return "There is no CUDA device " + std::to_string(device_ordinal) + ": there are " +
               std::to_string(devices) + '.';
    return {};
}
/// Makes the primary context, which the kernels use too, current. Returns as find_device().
std::string open_device() {
    if (std::string why = find_device(); !why.empty())
        return why;
    NEED(cudaSetDevice(device_ordinal));
    NEED(cudaFree(nullptr));
    const CUmemAllocationProp plain = properties();
    NEED(cu.cuMemGetAllocationGranularity(&granule, &plain, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    return {};
}
size_t free_memory() {
    size_t free = 0;
    size_t total = 0;
    NEED(cu.cuMemGetInfo(&free, &total));
    return free;
}

// ---- owners of what the driver gives ----

struct addresses {
    explicit addresses(size_t bytes) : size{bytes} { NEED(cu.cuMemAddressReserve(&at, size, 0, 0, 0)); }
    addresses(const addresses&) = delete;
    addresses& operator=(const addresses&) = delete;
    ~addresses() { cu.cuMemAddressFree(at, size); }

    CUdeviceptr at = 0;
    size_t size;
};

struct memory {
    explicit memory(size_t bytes, int handle_types = 0, bool rdma = false) : size{bytes} {
        const CUmemAllocationProp made = properties(handle_types, rdma);
        NEED(cu.cuMemCreate(&handle, size, &made, 0));
        held = true;
    }
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory() { static_cast<void>(release()); }
    CUresult release() {
        if (!std::exchange(held, false))
            return CUDA_SUCCESS;
        return cu.cuMemRelease(handle);
    }

    CUmemGenericAllocationHandle handle = 0;
    size_t size;
    bool held = false;
};

CUresult allow(CUdeviceptr at, size_t size, int flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    CUmemAccessDesc grant{};
    grant.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    grant.location.id = device;
    grant.flags = static_cast<CUmemAccess_flags>(flags);
    return cu.cuMemSetAccess(at, size, &grant, 1);
}

/// `count` chunks of `unit` bytes and addresses for them, one after another.
struct pages {
    pages(size_t how_many, size_t bytes) : unit{bytes}, range{how_many * bytes} {
        for (size_t index = 0; index < how_many; ++index)
            chunks.push_back(std::make_unique<memory>(unit));
    }
    ~pages() { unmap(); }

    [[nodiscard]] size_t count() const { return chunks.size(); }
    [[nodiscard]] CUdeviceptr at(size_t index) const { return range.at + index * unit; }
    void map() {
        for (; mapped < count(); ++mapped)
            NEED(cu.cuMemMap(at(mapped), unit, 0, chunks[mapped]->handle, 0));
    }
    /// One call, and where that is refused one for each.
    void unmap() {
        if (mapped == 0 || cu.cuMemUnmap(range.at, mapped * unit) == CUDA_SUCCESS) {
            mapped = 0;
            return;
        }
        for (; mapped > 0; --mapped)
            cu.cuMemUnmap(at(mapped - 1), unit);
    }

    size_t unit;
    addresses range;
    std::vector<std::unique_ptr<memory>> chunks;
    size_t mapped = 0;
};

/// Memory of the host that kernels see, zeroed.
struct flags_on_host {
    flags_on_host() {
        void* made = nullptr;
        NEED(cudaHostAlloc(&made, 4096, cudaHostAllocMapped));
        std::memset(made, 0, 4096);
        word = static_cast<volatile int*>(made);
    }
    ~flags_on_host() { cudaFreeHost(const_cast<int*>(word)); }

    volatile int* word = nullptr;
};

struct stream {
    stream() { NEED(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;
    ~stream() { cudaStreamDestroy(handle); }
    void wait() const { NEED(cudaStreamSynchronize(handle)); }
    [[nodiscard]] bool busy() const { return cudaStreamQuery(handle) == cudaErrorNotReady; }

    cudaStream_t handle = nullptr;
};

struct event {
    event() { NEED(cudaEventCreate(&handle)); }
    event(const event&) = delete;
    event& operator=(const event&) = delete;
    ~event() { cudaEventDestroy(handle); }

    cudaEvent_t handle = nullptr;
};

// ---- kernels ----

__host__ __device__ inline unsigned mixed(unsigned value) {
    value ^= value >> 16;
    value *= 0x7feb352du;
    value ^= value >> 15;
    value *= 0x846ca68bu;
    return value ^ (value >> 16);
}

__device__ size_t thread_number() { return size_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ size_t thread_count() { return size_t{gridDim.x} * blockDim.x; }

__global__ void fill_words(unsigned* words, size_t count, unsigned seed) {
    for (size_t index = thread_number(); index < count; index += thread_count())
        words[index] = mixed(static_cast<unsigned>(index) + seed);
}
/// `through_texture`: by the read-only path, which has a cache of its own.
__global__ void count_wrong(const unsigned* words, size_t count, unsigned seed, unsigned long long* wrong,
                            bool through_texture) {
    unsigned long long mine = 0;
    for (size_t index = thread_number(); index < count; index += thread_count()) {
        const unsigned seen = through_texture ? __ldg(words + index) : words[index];
        mine += seen != mixed(static_cast<unsigned>(index) + seed) ? 1 : 0;
    }
    if (mine != 0)
        atomicAdd(wrong, mine);
}
/// Reads everything once, 16 bytes a load and four loads in flight; `times` times.
__global__ void read_reduce(const uint4* data, size_t count, unsigned* sink, int times) {
    unsigned sum = 0;
    const size_t step = thread_count();
    for (int round = 0; round < times; ++round) {
        size_t index = thread_number();
        for (; index + 3 * step < count; index += 4 * step) {
            const uint4 a = data[index];
            const uint4 b = data[index + step];
            const uint4 c = data[index + 2 * step];
            const uint4 d = data[index + 3 * step];
            sum += (a.x ^ a.y ^ a.z ^ a.w) + (b.x ^ b.y ^ b.z ^ b.w) + (c.x ^ c.y ^ c.z ^ c.w) +
                   (d.x ^ d.y ^ d.z ^ d.w);
        }
        for (; index < count; index += step)
            sum += data[index].x ^ data[index].y ^ data[index].z ^ data[index].w;
    }
    if (sum == 0x12345678u)
        *sink = sum;
}
__device__ unsigned long long nanoseconds() {
    unsigned long long now = 0;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}
/// Says that it runs, then until *stop is set, or for that long.
__global__ void spin(volatile int* started, volatile int* stop, unsigned long long longest) {
    const unsigned long long begun = nanoseconds();
    *started = 1;
    __threadfence_system();
    while (*stop == 0 && nanoseconds() - begun < longest) {
    }
}
__global__ void write_word(unsigned* where, unsigned value) { *where = value; }
__global__ void read_word(const unsigned* where, unsigned* to) { *to = *where; }
__global__ void nothing() {}
/// One thread writes through `one` and reads through `other`, the same memory, in the same kernel.
__global__ void alias_within(unsigned* one, unsigned* other, unsigned rounds, unsigned* stale_cached,
                             unsigned* stale_uncached) {
    for (unsigned round = 1; round <= rounds; ++round) {
        unsigned seen = 0;
        asm volatile("ld.global.ca.u32 %0, [%1];" : "=r"(seen) : "l"(other) : "memory");
        asm volatile("st.global.u32 [%0], %1;" : : "l"(one), "r"(round) : "memory");
        __threadfence();
        asm volatile("ld.global.ca.u32 %0, [%1];" : "=r"(seen) : "l"(other) : "memory");
        *stale_cached += seen != round ? 1u : 0u;
        asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(seen) : "l"(other) : "memory");
        *stale_uncached += seen != round ? 1u : 0u;
    }
}

constexpr unsigned block = 256;
unsigned blocks() { return static_cast<unsigned>(attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)) * 8; }

template <class T = unsigned>
T* pointer(CUdeviceptr at) {
    return reinterpret_cast<T*>(at);
}
void launch_fill(CUdeviceptr at, size_t bytes, unsigned seed, cudaStream_t on) {
    fill_words<<<blocks(), block, 0, on>>>(pointer(at), bytes / 4, seed);
    NEED(cudaGetLastError());
}
/// A word of plain device memory, zeroed.
template <class T>
struct plain_word {
    plain_word() {
        NEED(cudaMalloc(reinterpret_cast<void**>(&at), sizeof(T)));
        NEED(cudaMemset(at, 0, sizeof(T)));
    }
    plain_word(const plain_word&) = delete;
    plain_word& operator=(const plain_word&) = delete;
    ~plain_word() { cudaFree(at); }
    [[nodiscard]] T read() const {
        T value{};
        NEED(cudaMemcpy(&value, at, sizeof(T), cudaMemcpyDeviceToHost));
        return value;
    }

    T* at = nullptr;
};
unsigned long long wrong_words(CUdeviceptr at, size_t bytes, unsigned seed, cudaStream_t on) {
    const plain_word<unsigned long long> wrong;
    NEED(cudaDeviceSynchronize());
    count_wrong<<<blocks(), block, 0, on>>>(pointer(at), bytes / 4, seed, wrong.at, false);
    NEED(cudaGetLastError());
    NEED(cudaStreamSynchronize(on));
    return wrong.read();
}

std::string size_name(size_t bytes) {
    return bytes >= GiB   ? number(static_cast<double>(bytes) / static_cast<double>(GiB)) + "GiB"
           : bytes >= MiB ? number(static_cast<double>(bytes) / static_cast<double>(MiB)) + "MiB"
                          : number(static_cast<double>(bytes) / 1024) + "KiB";
}

// ---- experiments ----

/// What the device says of itself. The first line that goes to the parent names the machine.
void describe_device() {
    std::array<char, 256> name{};
    int version = 0;
    size_t total = 0;
    NEED(cu.cuDeviceGetName(name.data(), static_cast<int>(name.size()) - 1, device));
    NEED(cu.cuDriverGetVersion(&version));
    NEED(cu.cuDeviceTotalMem(&total, device));
    std::string kernel_module;
    std::ifstream module{"/proc/driver/nvidia/version"};
    if (std::getline(module, kernel_module); !kernel_module.empty())
        kernel_module = ", " + kernel_module;
    const std::string text = std::string{name.data()} + " (" +
                             std::to_string(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)) + '.' +
                             std::to_string(attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)) + "), " +
                             size_name(total) + ", CUDA driver " + std::to_string(version / 1000) + '.' +
                             std::to_string(version % 1000 / 10) + kernel_module;
    std::printf("  %s\n", text.c_str());
    write_line('@' + text + '\n');

    const std::pair<const char*, CUdevice_attribute> asked[] = {
        {"virtual memory", CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED},
        {"POSIX descriptors", CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED},
        {"fabric handles", CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED},
        {"GPUDirect RDMA with virtual memory", CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED},
        {"GPUDirect RDMA", CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED},
        {"dma-buf", CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED}};
    for (const auto& [what, which] : asked)
        answer("device", std::string{"attribute says "} + what, attribute(which) > 0,
               "attribute " + std::to_string(static_cast<int>(which)) + " = " +
                   std::to_string(attribute(which)));

    const std::pair<const char*, CUmemAllocationProp> kinds[] = {
        {"plain", properties()},
        {"descriptor", properties(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)},
        {"fabric", properties(CU_MEM_HANDLE_TYPE_FABRIC)},
        {"rdma", properties(0, true)}};
    for (const auto& [kind, made] : kinds) {
        for (const bool minimum : {true, false}) {
            size_t found = 0;
            const CUresult asked_for = cu.cuMemGetAllocationGranularity(
                &found, &made,
                minimum ? CU_MEM_ALLOC_GRANULARITY_MINIMUM : CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
            report({.name = "device",
                    .metric = std::string{minimum ? "minimum" : "recommended"} + " granularity, " + kind,
                    .value = static_cast<double>(found),
                    .unit = "B",
                    .evidence = name_of(asked_for)});
        }
    }
}

/// Microseconds of every verb by chunk size.
void measure_verbs() {
    std::vector<double> info;
    for (int round = 0; round < 50; ++round)
        info.push_back(micros([] { free_memory(); }));
    report(timed("verbs", "cuMemGetInfo", info));

    std::optional<double> first_byte_cost;
    for (const size_t size : {granule, 4 * MiB, 16 * MiB, 64 * MiB, 256 * MiB, GiB}) {
        if (size % granule != 0 || (size != granule && size <= granule) || free_memory() < 2 * size)
            continue;
        enum { reserve, create, map, access, again, unmap, release, free_addresses, kinds };
        std::array<std::vector<double>, kinds> took;
        const int repeats = size <= 64 * MiB ? 41 : 11;
        for (int round = -1; round < repeats && time_left(1); ++round) {
            CUdeviceptr at = 0;
            CUmemGenericAllocationHandle handle = 0;
            const CUmemAllocationProp made = properties();
            std::array<double, kinds> now{};
            now[reserve] = micros([&] { NEED(cu.cuMemAddressReserve(&at, size, 0, 0, 0)); });
            now[create] = micros([&] { NEED(cu.cuMemCreate(&handle, size, &made, 0)); });
            now[map] = micros([&] { NEED(cu.cuMemMap(at, size, 0, handle, 0)); });
            now[access] = micros([&] { NEED(allow(at, size)); });
            now[again] = micros([&] { NEED(allow(at, size)); });
            now[unmap] = micros([&] { NEED(cu.cuMemUnmap(at, size)); });
            now[release] = micros([&] { NEED(cu.cuMemRelease(handle)); });
            now[free_addresses] = micros([&] { NEED(cu.cuMemAddressFree(at, size)); });
            for (int kind = 0; round >= 0 && kind < kinds; ++kind)
                took[static_cast<size_t>(kind)].push_back(now[static_cast<size_t>(kind)]);
        }
        static constexpr const char* names[] = {"reserve",         "create", "map",     "set access",
                                                "set access anew", "unmap",  "release", "free addresses"};
        for (size_t kind = 0; kind < kinds; ++kind)
            report(timed("verbs " + size_name(size), names[kind], took[kind]));
        const double remap = (median(took[map]) + median(took[access]) + median(took[unmap])) /
                             (static_cast<double>(size) / static_cast<double>(MiB));
        first_byte_cost = first_byte_cost.value_or(remap);
        report({.name = "verbs " + size_name(size),
                .metric = "map + set access + unmap",
                .value = remap,
                .unit = "us/MiB",
                .evidence = "ratio: how many times cheaper a byte than in chunks of " + size_name(granule),
                .limit = *first_byte_cost,
                .ratio = *first_byte_cost / remap,
                .repeats = took[map].size()});
    }
    for (const size_t size : {GiB, 64 * GiB, 1024 * GiB}) {
        std::vector<double> reserve;
        std::vector<double> release;
        for (int round = 0; round < 11; ++round) {
            CUdeviceptr at = 0;
            CUresult made = CUDA_SUCCESS;
            reserve.push_back(micros([&] { made = cu.cuMemAddressReserve(&at, size, 0, 0, 0); }));
            if (made != CUDA_SUCCESS) {
                code("verbs " + size_name(size), "reserve addresses alone", made);
                return;
            }
            release.push_back(micros([&] { NEED(cu.cuMemAddressFree(at, size)); }));
        }
        report(timed("verbs " + size_name(size), "reserve addresses alone", reserve));
        report(timed("verbs " + size_name(size), "free addresses alone", release));
    }
}

/// One set-access, and one unmap, over n pages against one for each page.
void measure_batches() {
    for (const size_t count : {size_t{1}, size_t{16}, size_t{256}}) {
        pages run{count, granule};
        std::vector<double> access_run;
        std::vector<double> access_each;
        std::vector<double> unmap_run;
        std::vector<double> unmap_each;
        for (int round = -1; round < 15 && time_left(2); ++round) {
            run.map();
            const double one = micros([&] { NEED(allow(run.range.at, run.range.size)); });
            const double away = micros([&] { NEED(cu.cuMemUnmap(run.range.at, run.range.size)); });
            run.mapped = 0;
            run.map();
            const double each = micros([&] {
                for (size_t index = 0; index < count; ++index)
                    NEED(allow(run.at(index), run.unit));
            });
            const double away_each = micros([&] {
                for (size_t index = 0; index < count; ++index)
                    NEED(cu.cuMemUnmap(run.at(index), run.unit));
            });
            run.mapped = 0;
            if (round < 0)
                continue;
            access_run.push_back(one);
            access_each.push_back(each);
            unmap_run.push_back(away);
            unmap_each.push_back(away_each);
        }
        const std::string name = "batch of " + std::to_string(count);
        const auto compare = [&](const char* verb, const std::vector<double>& together,
                                 const std::vector<double>& apart) {
            record line = timed(name, std::string{"one "} + verb, together);
            line.limit = median(apart);
            line.ratio = median(apart) / median(together);
            line.evidence =
                std::string{"limit: us of one "} + verb + " a page; ratio: times cheaper in one call";
            report(line);
        };
        compare("set access", access_run, access_each);
        compare("unmap", unmap_run, unmap_each);
    }
}

/// Which verbs wait for a kernel that runs and does not touch what they touch.
void find_waiting() {
    constexpr unsigned long long longest = 120'000'000; // ns
    const flags_on_host flags;
    const stream work;
    spin<<<1, 1, 0, work.handle>>>(flags.word, flags.word, 1000); // loads the module
    NEED(cudaGetLastError());
    work.wait();

    const size_t size = 16 * granule;
    const addresses range{size};
    memory chunk{size};
    std::optional<memory> fresh;
    CUdeviceptr scratch = 0;
    void* plain = nullptr;
    const auto map = [&] { NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0)); };
    const auto unmap = [&] { NEED(cu.cuMemUnmap(range.at, size)); };
    const auto idle = [] {};
    struct verb {
        const char* name;
        std::function<void()> before, call, after;
    };
    const verb verbs[] = {
        {"reserve", idle, [&] { NEED(cu.cuMemAddressReserve(&scratch, size, 0, 0, 0)); },
         [&] { NEED(cu.cuMemAddressFree(scratch, size)); }},
        {"free addresses", [&] { NEED(cu.cuMemAddressReserve(&scratch, size, 0, 0, 0)); },
         [&] { NEED(cu.cuMemAddressFree(scratch, size)); }, idle},
        {"create", idle, [&] { fresh.emplace(size); }, [&] { fresh.reset(); }},
        {"release", [&] { fresh.emplace(size); }, [&] { fresh.reset(); }, idle},
        {"map", idle, map, unmap},
        {"set access", map, [&] { NEED(allow(range.at, size)); }, unmap},
        {"unmap",
         [&] {
             map();
             NEED(allow(range.at, size));
         },
         unmap, idle},
        {"cuMemGetInfo", idle, [&] { free_memory(); }, idle},
        {"cudaMalloc", idle, [&] { NEED(cudaMalloc(&plain, size)); }, [&] { NEED(cudaFree(plain)); }},
        {"cudaFree", [&] { NEED(cudaMalloc(&plain, size)); }, [&] { NEED(cudaFree(plain)); }, idle}};
    for (const verb& one : verbs) {
        std::vector<double> alone;
        for (int round = 0; round < 9; ++round) {
            one.before();
            alone.push_back(micros(one.call));
            one.after();
        }
        one.before();
        flags.word[0] = 0;
        flags.word[64] = 0;
        spin<<<1, 1, 0, work.handle>>>(flags.word, flags.word + 64, longest);
        NEED(cudaGetLastError());
        while (flags.word[0] == 0 && time_left()) {
        }
        const double under = micros(one.call);
        const bool still_running = work.busy();
        flags.word[64] = 1;
        work.wait();
        one.after();
        answer("waiting", std::string{one.name} + " waits for a running kernel", !still_running,
               "idle " + number(median(alone)) + " us, under a kernel " + number(under) +
                   " us, which then still ran: " + (still_running ? "yes" : "no"));
    }
}

/// Is work slowed while another thread maps and unmaps, in the very reservation that it reads?
void measure_disturbance() {
    const size_t read_bytes = std::min<size_t>(2 * GiB, free_memory() / 8 / granule * granule);
    const size_t grown = 32;
    pages read{read_bytes / granule, granule};
    // Behind the pages that are read, in a reservation of its own size, lie those that come and go.
    pages moving{grown, granule};
    const addresses shared{read.range.size + moving.range.size};
    for (size_t index = 0; index < read.count(); ++index)
        NEED(cu.cuMemMap(shared.at + index * granule, granule, 0, read.chunks[index]->handle, 0));
    NEED(allow(shared.at, read.range.size));
    const CUdeviceptr tail = shared.at + read.range.size;

    const stream work;
    const plain_word<unsigned> sink;
    launch_fill(shared.at, read.range.size, 7, work.handle);
    work.wait();
    const event begun;
    const event ended;
    const auto read_time = [&] {
        NEED(cudaEventRecord(begun.handle, work.handle));
        for (int launch = 0; launch < 20; ++launch)
            read_reduce<<<blocks(), block, 0, work.handle>>>(pointer<uint4>(shared.at), read.range.size / 16,
                                                             sink.at, 1);
        NEED(cudaGetLastError());
        NEED(cudaEventRecord(ended.handle, work.handle));
        work.wait();
        float milliseconds = 0;
        NEED(cudaEventElapsedTime(&milliseconds, begun.handle, ended.handle));
        return static_cast<double>(milliseconds);
    };
    const auto launch_time = [&] {
        return micros([&] {
                   for (int launch = 0; launch < 2000; ++launch)
                       nothing<<<1, 32, 0, work.handle>>>();
                   NEED(cudaGetLastError());
                   work.wait();
               }) /
               2000;
    };

    std::atomic<bool> go{false};
    std::atomic<bool> running{false};
    std::atomic<bool> over{false};
    std::atomic<unsigned long> cycles{0};
    std::atomic<int> failed{0};
    std::thread mapper{[&] {
        if (cudaSetDevice(device_ordinal) != cudaSuccess)
            failed = 1;
        while (!over) {
            if (!go || failed != 0) {
                running = false;
                std::this_thread::yield();
                continue;
            }
            running = true;
            CUresult worst = CUDA_SUCCESS;
            const auto tried = [&](CUresult done) { worst = done == CUDA_SUCCESS ? worst : done; };
            for (size_t index = 0; index < grown; ++index)
                tried(cu.cuMemMap(tail + index * granule, granule, 0, moving.chunks[index]->handle, 0));
            tried(allow(tail, grown * granule));
            tried(cu.cuMemUnmap(tail, grown * granule));
            failed = static_cast<int>(worst);
            ++cycles;
        }
        running = false;
    }};
    std::vector<double> quiet, disturbed, launches, disturbed_launches, slowed, launches_slowed;
    double seconds = 0;
    const auto set = [&](bool wanted) {
        go = wanted;
        while (running != wanted && failed == 0)
            std::this_thread::yield();
    };
    std::string trouble;
    try {
        read_time();
        launch_time();
        for (int round = 0; round < 15 && time_left(1) && failed == 0; ++round) {
            set(false);
            quiet.push_back(read_time());
            launches.push_back(launch_time());
            set(true);
            seconds -= std::chrono::duration<double>(clock_type::now().time_since_epoch()).count();
            disturbed.push_back(read_time());
            disturbed_launches.push_back(launch_time());
            set(false);
            seconds += std::chrono::duration<double>(clock_type::now().time_since_epoch()).count();
            slowed.push_back(disturbed.back() / quiet.back());
            launches_slowed.push_back(disturbed_launches.back() / launches.back());
        }
    } catch (const failure& seen) {
        trouble = seen.what();
    }
    over = true;
    mapper.join();
    cu.cuMemUnmap(shared.at, read.range.size);
    if (!trouble.empty())
        throw failure{trouble};
    if (failed != 0)
        throw failure{"the mapping thread met " + name_of(static_cast<CUresult>(failed.load()))};
    const double mapped_rate =
        static_cast<double>(cycles) * static_cast<double>(grown * granule) / seconds / 1e9;
    const std::string meanwhile = "limit: alone; meanwhile " + std::to_string(cycles.load()) +
                                  " cycles of 32 chunks, " + number(mapped_rate) +
                                  " GB/s mapped and unmapped";
    record line = timed("disturbance", "20 reads of " + size_name(read_bytes) + " while another thread maps",
                        disturbed, "ms");
    line.limit = median(quiet);
    line.ratio = median(slowed);
    line.spread = spread(slowed);
    line.evidence = meanwhile;
    report(line);
    line = timed("disturbance", "a launch while another thread maps", disturbed_launches);
    line.limit = median(launches);
    line.ratio = median(launches_slowed);
    line.spread = spread(launches_slowed);
    line.evidence = meanwhile;
    report(line);
}

/// One chunk at two addresses.
void check_aliases() {
    const size_t size = 32 * MiB;
    memory chunk{size};
    const addresses range{2 * size};
    NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
    NEED(cu.cuMemMap(range.at + size, size, 0, chunk.handle, 0));
    NEED(allow(range.at, 2 * size));
    const stream work;
    for (const bool texture : {false, true}) {
        const plain_word<unsigned long long> wrong;
        const unsigned rounds = 200;
        for (unsigned round = 0; round < rounds; ++round) {
            const CUdeviceptr written = round % 2 == 0 ? range.at : range.at + size;
            const CUdeviceptr other = round % 2 == 0 ? range.at + size : range.at;
            launch_fill(written, size, round * 977, work.handle);
            count_wrong<<<blocks(), block, 0, work.handle>>>(pointer(other), size / 4, round * 977, wrong.at,
                                                             texture);
            NEED(cudaGetLastError());
        }
        work.wait();
        const unsigned long long stale = wrong.read();
        answer("aliases",
               std::string{"the next kernel sees what was written through the other address"} +
                   (texture ? ", read-only path" : ""),
               stale == 0,
               std::to_string(stale) + " stale words of " + std::to_string(rounds * (size / 4)) + " in " +
                   std::to_string(rounds) + " rounds, no synchronisation but the kernels' order");
    }
    const plain_word<unsigned> cached;
    const plain_word<unsigned> uncached;
    const unsigned rounds = 1000;
    alias_within<<<1, 1, 0, work.handle>>>(pointer(range.at), pointer(range.at + size), rounds, cached.at,
                                           uncached.at);
    NEED(cudaGetLastError());
    work.wait();
    answer("aliases", "a thread sees in the same kernel what it wrote through the other address",
           cached.read() == 0,
           std::to_string(cached.read()) + " of " + std::to_string(rounds) +
               " cached reads were stale, and " + std::to_string(uncached.read()) +
               " of as many past the first-level cache");
    NEED(cu.cuMemUnmap(range.at, size));
    NEED(cu.cuMemUnmap(range.at + size, size));
}

/// Is a handle needed while its memory is mapped, and when does the memory return?
void check_release() {
    const size_t size = 256 * MiB;
    const stream work;
    free_memory();
    const size_t before = free_memory();
    memory chunk{size};
    const addresses range{size};
    NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
    NEED(allow(range.at, size));
    launch_fill(range.at, size, 3, work.handle);
    work.wait();
    const size_t mapped = free_memory();
    code("release", "release of a mapped handle", chunk.release());
    const size_t released = free_memory();
    const unsigned long long wrong = wrong_words(range.at, size, 3, work.handle);
    launch_fill(range.at, size, 4, work.handle);
    const unsigned long long wrong_after = wrong_words(range.at, size, 4, work.handle);
    const auto mib = [&](size_t free) {
        return number((static_cast<double>(before) - static_cast<double>(free)) / static_cast<double>(MiB)) +
               " MiB";
    };
    answer("release", "memory lives on behind its addresses after its handle is released",
           wrong == 0 && wrong_after == 0,
           std::to_string(wrong) + " and " + std::to_string(wrong_after) + " wrong words; in use: mapped " +
               mib(mapped) + ", released " + mib(released));
    CUmemGenericAllocationHandle again = 0;
    const CUresult retained = cu.cuMemRetainAllocationHandle(&again, pointer<void>(range.at));
    code("release", "retain from the address after that", retained);
    NEED(cu.cuMemUnmap(range.at, size));
    const size_t unmapped = free_memory();
    if (retained == CUDA_SUCCESS)
        NEED(cu.cuMemRelease(again));
    const size_t gone = free_memory();
    answer("release", "memory returns with its last mapping and reference",
           gone + size / 2 > before && (retained != CUDA_SUCCESS || unmapped + size / 2 < before),
           "in use: unmapped with a retained handle " + mib(unmapped) + ", that released too " + mib(gone));
}

/// Can reading alone be allowed? What a write does then is seen by the experiments that fault.
void check_read_only() {
    const size_t size = granule;
    memory chunk{size};
    const addresses range{size};
    const stream work;
    NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
    NEED(allow(range.at, size));
    launch_fill(range.at, size, 5, work.handle);
    work.wait();
    const auto told = [&] {
        unsigned long long flags = 99;
        CUmemLocation who{};
        who.type = CU_MEM_LOCATION_TYPE_DEVICE;
        who.id = device;
        const CUresult asked = cu.cuMemGetAccess(&flags, &who, range.at);
        return "cuMemGetAccess gives " + name_of(asked) + ", flags " + std::to_string(flags);
    };
    const auto try_access = [&](const char* what, int flags) {
        const CUresult granted = allow(range.at, size, flags);
        code("read only", what, granted, told());
        return granted;
    };
    if (try_access("set access to read", CU_MEM_ACCESS_FLAGS_PROT_READ) == CUDA_SUCCESS)
        answer("read only", "a kernel reads it", wrong_words(range.at, size, 5, work.handle) == 0,
               "no fault");
    try_access("set access back to read and write", CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    try_access("set access to none", CU_MEM_ACCESS_FLAGS_PROT_NONE);
    if (try_access("set access to read and write after none", CU_MEM_ACCESS_FLAGS_PROT_READWRITE) !=
        CUDA_SUCCESS) {
        NEED(cu.cuMemUnmap(range.at, size));
        return;
    }
    const unsigned long long wrong = wrong_words(range.at, size, 5, work.handle);
    answer("read only", "the content is as before", wrong == 0, std::to_string(wrong) + " words differ");
    NEED(cu.cuMemUnmap(range.at, size));
    NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
    try_access("set access to read of a fresh mapping", CU_MEM_ACCESS_FLAGS_PROT_READ);
    NEED(cu.cuMemUnmap(range.at, size));
}

/// What a forbidden access does. It may leave the context unusable: a process of its own for each.
enum class forbidden { kernel_write, copy_write, read_without_access, read_after_none, read_unmapped };
void fault(forbidden what) {
    const size_t size = granule;
    memory chunk{size};
    const addresses range{2 * size};
    const plain_word<unsigned> sink;
    read_word<<<1, 1>>>(sink.at, sink.at); // loads the module
    NEED(cudaDeviceSynchronize());
    NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
    const bool no_access = what == forbidden::read_without_access;
    if (!no_access)
        NEED(allow(range.at, size));
    if (!no_access) {
        write_word<<<1, 1>>>(pointer(range.at), 42u);
        NEED(cudaDeviceSynchronize());
    }
    // Where the driver does not take access away there is nothing to forbid, which is an answer too.
    CUresult taken = CUDA_SUCCESS;
    if (what == forbidden::kernel_write || what == forbidden::copy_write)
        taken = allow(range.at, size, CU_MEM_ACCESS_FLAGS_PROT_READ);
    if (what == forbidden::read_after_none)
        taken = allow(range.at, size, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    if (taken != CUDA_SUCCESS) {
        code("forbidden",
             what == forbidden::read_after_none ? "set access to none, before a kernel reads"
                                                : "set access to read, before a write",
             taken, "so it was not tried");
        NEED(cu.cuMemUnmap(range.at, size));
        return;
    }
    const char* name = "";
    cudaError_t launched = cudaSuccess;
    switch (what) {
    case forbidden::kernel_write:
        name = "a kernel writes where reading is allowed";
        write_word<<<1, 1>>>(pointer(range.at), 43u);
        launched = cudaGetLastError();
        break;
    case forbidden::copy_write:
        name = "a memset writes where reading is allowed";
        launched = cudaMemsetAsync(pointer<void>(range.at), 1, 4096, nullptr);
        break;
    case forbidden::read_without_access:
        name = "a kernel reads what is mapped without access";
        read_word<<<1, 1>>>(pointer(range.at), sink.at);
        launched = cudaGetLastError();
        break;
    case forbidden::read_after_none:
        name = "a kernel reads after access was set to none";
        read_word<<<1, 1>>>(pointer(range.at), sink.at);
        launched = cudaGetLastError();
        break;
    case forbidden::read_unmapped:
        name = "a kernel reads reserved addresses without memory";
        read_word<<<1, 1>>>(pointer(range.at + size), sink.at);
        launched = cudaGetLastError();
        break;
    }
    const cudaError_t waited = cudaDeviceSynchronize();
    size_t free = 0;
    size_t total = 0;
    const CUresult after = cu.cuMemGetInfo(&free, &total);
    const CUresult unmapped = cu.cuMemUnmap(range.at, size);
    const CUresult released = chunk.release();
    report({.name = "forbidden",
            .metric = name,
            .value = static_cast<double>(static_cast<int>(waited)),
            .unit = "code",
            .evidence = std::string{"launch "} + cudaGetErrorName(launched) + ", then waiting " +
                        cudaGetErrorName(waited) + "; afterwards cuMemGetInfo " + name_of(after) +
                        ", unmap " + name_of(unmapped) + ", release " + name_of(released)});
    say_ended();
    _exit(exit_settled); // the context may be past any orderly end
}

/// What is refused, and with what. Each case makes its own things and may leave them behind.
void check_refusals() {
    const size_t g = granule;
    const auto expect = [](const std::string& what, bool refused, CUresult seen) {
        const bool as_documented = (seen != CUDA_SUCCESS) == refused;
        code("refusals", what, seen,
             std::string{refused ? "documented as refused" : "documented as allowed"} +
                 (as_documented ? "" : ": DIFFERS"));
    };
    const CUmemAllocationProp plain = properties();
    CUmemGenericAllocationHandle made = 0;
    CUdeviceptr at = 0;
    expect("create half a granule", true, cu.cuMemCreate(&made, g / 2, &plain, 0));
    expect("create nothing", true, cu.cuMemCreate(&made, 0, &plain, 0));
    expect("reserve nothing", true, cu.cuMemAddressReserve(&at, 0, 0, 0, 0));
    expect("reserve 4097 bytes", true, cu.cuMemAddressReserve(&at, 4097, 0, 0, 0));
    expect("reserve with an alignment of 3 granules", true, cu.cuMemAddressReserve(&at, g, 3 * g, 0, 0));
    expect("reserve one host page", false, cu.cuMemAddressReserve(&at, 4096, 0, 0, 0));
    {
        const bool aligned = cu.cuMemAddressReserve(&at, 4 * g, GiB, 0, 0) == CUDA_SUCCESS && at % GiB == 0;
        answer("refusals", "an alignment of 1 GiB is kept", aligned, "address " + std::to_string(at));
    }
    memory two{2 * g};
    memory one{g};
    memory other{g};
    const addresses range{8 * g};
    // What is mapped although it should not be is taken away again.
    const auto map = [&](CUdeviceptr where, size_t size, size_t offset, const memory& chunk) {
        const CUresult mapped = cu.cuMemMap(where, size, offset, chunk.handle, 0);
        if (mapped == CUDA_SUCCESS)
            cu.cuMemUnmap(where, size);
        return mapped;
    };
    expect("map at half a granule", true, map(range.at + g / 2, g, 0, one));
    expect("map from an offset", true, map(range.at, g, g, two));
    expect("map more than the chunk", true, map(range.at, 2 * g, 0, one));
    expect("map where nothing is reserved", true, map(range.at + 64 * GiB, g, 0, one));
    const CUresult half = map(range.at, g, 0, two);
    answer("refusals", "the first half of a chunk can be mapped", half == CUDA_SUCCESS, name_of(half));
    NEED(cu.cuMemMap(range.at, 2 * g, 0, two.handle, 0));
    NEED(cu.cuMemMap(range.at + 2 * g, g, 0, one.handle, 0));
    NEED(cu.cuMemMap(range.at + 4 * g, g, 0, other.handle, 0));
    expect("map onto a mapping", true, cu.cuMemMap(range.at + 2 * g, g, 0, other.handle, 0));
    expect("free addresses with mappings", true, cu.cuMemAddressFree(range.at, range.size));
    expect("free half of a reservation", true, cu.cuMemAddressFree(range.at, range.size / 2));
    expect("set access over a hole", true, allow(range.at + 2 * g, 3 * g));
    expect("set access where nothing is mapped", true, allow(range.at + 3 * g, g));
    expect("set access beyond the reservation", true, allow(range.at + 4 * g, 5 * g));
    expect("set access of half a granule", true, allow(range.at + 2 * g, g / 2));
    expect("set access of half a mapping of two granules", true, allow(range.at, g));
    expect("set access over two mappings", false, allow(range.at, 3 * g));
    expect("set access of one of two neighbours", false, allow(range.at + 2 * g, g));
    expect("set access to writing alone", true, allow(range.at, 2 * g, 2));
    expect("unmap half of a mapping", true, cu.cuMemUnmap(range.at, g));
    expect("unmap over a hole", true, cu.cuMemUnmap(range.at + 2 * g, 3 * g));
    expect("unmap where nothing is mapped", true, cu.cuMemUnmap(range.at + 6 * g, g));
    expect("unmap two neighbours in one call", false, cu.cuMemUnmap(range.at, 3 * g));
    CUmemGenericAllocationHandle retained = 0;
    NEED(cu.cuMemMap(range.at, 2 * g, 0, two.handle, 0));
    expect("retain from an address inside a mapping", false,
           cu.cuMemRetainAllocationHandle(&retained, pointer<void>(range.at + g)));
    answer("refusals", "a retained handle has the number of the first", retained == two.handle,
           std::to_string(retained) + " and " + std::to_string(two.handle));
    int descriptor = -1;
    expect("export what was not created for it", true,
           cu.cuMemExportToShareableHandle(&descriptor, one.handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                           0));
    cu.cuMemUnmap(range.at, 2 * g);
    cu.cuMemUnmap(range.at + 4 * g, g);
}

/// Handles that are gone. A driver may crash on them: the last of the refusals, by itself.
void check_stale_handles() {
    const addresses range{granule};
    memory chunk{granule};
    NEED(chunk.release());
    code("stale handles", "map a released handle", cu.cuMemMap(range.at, granule, 0, chunk.handle, 0));
    code("stale handles", "release twice", cu.cuMemRelease(chunk.handle));
    code("stale handles", "release what never was a handle", cu.cuMemRelease(12345));
}

/// The other process of check_handles(): imports, finds the pattern, leaves another.
int be_peer(std::string_view kind, const std::string& handle, size_t size) {
    CUmemGenericAllocationHandle imported = 0;
    if (kind == "descriptor") {
        const std::intptr_t number = std::atoi(handle.c_str());
        NEED(cu.cuMemImportFromShareableHandle(&imported, reinterpret_cast<void*>(number),
                                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    } else {
        CUmemFabricHandle name{};
        for (size_t index = 0; index < sizeof(name.data) && 2 * index + 1 < handle.size(); ++index)
            name.data[index] =
                static_cast<unsigned char>(std::strtoul(handle.substr(2 * index, 2).c_str(), nullptr, 16));
        NEED(cu.cuMemImportFromShareableHandle(&imported, &name, CU_MEM_HANDLE_TYPE_FABRIC));
    }
    const addresses range{size};
    NEED(cu.cuMemMap(range.at, size, 0, imported, 0));
    NEED(allow(range.at, size));
    const stream work;
    const unsigned long long wrong = wrong_words(range.at, size, 11, work.handle);
    if (wrong != 0)
        throw failure{std::to_string(wrong) + " words differ in the other process"};
    launch_fill(range.at, size, 12, work.handle);
    work.wait();
    NEED(cu.cuMemUnmap(range.at, size));
    NEED(cu.cuMemRelease(imported));
    return exit_settled;
}

/// Runs this program with those words and waits at most that long. Its exit code, 1000 + signal, or -1.
int run_self(const std::vector<std::string>& words, double seconds, pid_t* left_running = nullptr) {
    std::vector<std::string> all{"/proc/self/exe"};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<char*> arguments;
    for (std::string& word : all)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child = -1;
    if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) != 0)
        return -1;
    if (left_running != nullptr) {
        *left_running = child;
        return 0;
    }
    const auto end = clock_type::now() + std::chrono::duration<double>(seconds);
    int ended = 0;
    while (::waitpid(child, &ended, WNOHANG) == 0) {
        if (clock_type::now() > end) {
            ::kill(child, SIGKILL);
            ::waitpid(child, &ended, 0);
            return -1;
        }
        ::usleep(2000);
    }
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : 1000 + WTERMSIG(ended);
}

/// Which kinds of handles and flags really work, up to another process that reads what was written.
void check_handles() {
    struct kind {
        const char* name;
        int type;
        bool rdma;
    };
    const kind kinds[] = {{"descriptor", CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, false},
                          {"fabric", CU_MEM_HANDLE_TYPE_FABRIC, false},
                          {"rdma", 0, true},
                          {"descriptor and rdma", CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, true},
                          {"descriptor or fabric",
                           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR | CU_MEM_HANDLE_TYPE_FABRIC, false}};
    const stream work;
    for (const kind& one : kinds) {
        const std::string name = std::string{"handles, "} + one.name;
        const CUmemAllocationProp made = properties(one.type, one.rdma);
        size_t unit = granule;
        cu.cuMemGetAllocationGranularity(&unit, &made, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
        const size_t size = (8 * MiB + unit - 1) / unit * unit;
        CUmemGenericAllocationHandle handle = 0;
        const CUresult created = cu.cuMemCreate(&handle, size, &made, 0);
        code(name, "create", created);
        if (created != CUDA_SUCCESS)
            continue;
        const addresses range{size};
        NEED(cu.cuMemMap(range.at, size, 0, handle, 0));
        NEED(allow(range.at, size));
        launch_fill(range.at, size, 11, work.handle);
        work.wait();
        if (one.rdma && cu.cuMemGetHandleForAddressRange != nullptr) {
            int descriptor = -1;
            const CUresult exported = cu.cuMemGetHandleForAddressRange(
                &descriptor, range.at, size, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
            code(name, "dma-buf of the range", exported);
            if (exported == CUDA_SUCCESS)
                ::close(descriptor);
        }
        for (const int as : {static_cast<int>(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                             static_cast<int>(CU_MEM_HANDLE_TYPE_FABRIC)}) {
            if ((one.type & as) == 0)
                continue;
            const bool descriptor_kind = as == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
            const std::string what = descriptor_kind ? "descriptor" : "fabric";
            int descriptor = -1;
            CUmemFabricHandle fabric{};
            const CUresult exported = cu.cuMemExportToShareableHandle(
                descriptor_kind ? static_cast<void*>(&descriptor) : static_cast<void*>(&fabric), handle,
                static_cast<CUmemAllocationHandleType>(as), 0);
            code(name, "export as " + what, exported);
            if (exported != CUDA_SUCCESS)
                continue;
            std::string word;
            int inherited = -1;
            CUmemGenericAllocationHandle here = 0;
            CUresult imported = CUDA_SUCCESS;
            if (descriptor_kind) {
                inherited = ::dup(descriptor); // without FD_CLOEXEC
                word = std::to_string(inherited);
                imported = cu.cuMemImportFromShareableHandle(
                    &here, reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)),
                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
            } else {
                for (const unsigned char byte : fabric.data) {
                    std::array<char, 3> hex{};
                    std::snprintf(hex.data(), hex.size(), "%02x", byte);
                    word += hex.data();
                }
                imported = cu.cuMemImportFromShareableHandle(&here, &fabric, CU_MEM_HANDLE_TYPE_FABRIC);
            }
            code(name, "import of the " + what + " in the same process", imported);
            if (imported == CUDA_SUCCESS)
                NEED(cu.cuMemRelease(here));
            launch_fill(range.at, size, 11, work.handle);
            work.wait();
            const int peer = run_self(
                {"--device", std::to_string(device_ordinal), "--peer", what, word, std::to_string(size)}, 15);
            const unsigned long long wrong = wrong_words(range.at, size, 12, work.handle);
            answer(name, "another process reads and writes it by its " + what,
                   peer == exit_settled && wrong == 0,
                   "the process ended with " + std::to_string(peer) + ", " + std::to_string(wrong) +
                       " words are not what it wrote");
            if (descriptor_kind) {
                ::close(inherited);
                ::close(descriptor);
            }
        }
        NEED(cu.cuMemUnmap(range.at, size));
        NEED(cu.cuMemRelease(handle));
    }

#if defined(SYS_pidfd_open) && defined(SYS_pidfd_getfd)
    pid_t other = -1;
    run_self({"--idle"}, 0, &other);
    const long process = ::syscall(SYS_pidfd_open, other, 0);
    const int open_failed = process < 0 ? errno : 0;
    const long taken = process < 0 ? -1 : ::syscall(SYS_pidfd_getfd, process, 1, 0);
    const int take_failed = process < 0 ? 0 : taken < 0 ? errno : 0;
    answer("handles", "a descriptor can be taken from another process (pidfd_getfd)", taken >= 0,
           std::string{"pidfd_open: "} + std::strerror(open_failed) +
               ", pidfd_getfd: " + std::strerror(take_failed));
    if (taken >= 0)
        ::close(static_cast<int>(taken));
    if (process >= 0)
        ::close(static_cast<int>(process));
    if (other > 0) {
        ::kill(other, SIGKILL);
        ::waitpid(other, nullptr, 0);
    }
#endif
}

/// Captured work and addresses whose memory is changed between replays.
void check_graphs() {
    const addresses range{granule};
    const addresses elsewhere{granule};
    memory first{granule};
    memory second{granule};
    const auto put = [&](memory& chunk, unsigned value) {
        NEED(cu.cuMemMap(elsewhere.at, granule, 0, chunk.handle, 0));
        NEED(allow(elsewhere.at, granule));
        write_word<<<1, 1>>>(pointer(elsewhere.at), value);
        NEED(cudaDeviceSynchronize());
        NEED(cu.cuMemUnmap(elsewhere.at, granule));
    };
    put(first, 100);
    put(second, 200);
    const stream work;
    const plain_word<unsigned> seen;
    read_word<<<1, 1, 0, work.handle>>>(seen.at, seen.at); // loads the module
    work.wait();
    NEED(cu.cuMemMap(range.at, granule, 0, first.handle, 0));
    NEED(allow(range.at, granule));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    NEED(cudaStreamBeginCapture(work.handle, cudaStreamCaptureModeRelaxed));
    read_word<<<1, 1, 0, work.handle>>>(pointer(range.at), seen.at);
    NEED(cudaStreamEndCapture(work.handle, &graph));
    NEED(cudaGraphInstantiate(&ready, graph, 0));
    const auto replay = [&] {
        NEED(cudaGraphLaunch(ready, work.handle));
        work.wait();
        return seen.read();
    };
    const unsigned before = replay();
    NEED(cu.cuMemUnmap(range.at, granule));
    NEED(cu.cuMemMap(range.at, granule, 0, second.handle, 0));
    NEED(allow(range.at, granule));
    const unsigned after = replay();
    answer("graphs", "a graph replays over memory that was remapped under its addresses",
           before == 100 && after == 200,
           "read " + std::to_string(before) + " (100 is right), then " + std::to_string(after) +
               " (200 is right)");
    NEED(cudaGraphExecDestroy(ready));
    NEED(cudaGraphDestroy(graph));

    NEED(cudaStreamBeginCapture(work.handle, cudaStreamCaptureModeGlobal));
    const CUresult mapped = cu.cuMemMap(elsewhere.at, granule, 0, first.handle, 0);
    const CUresult granted = allow(elsewhere.at, granule);
    const CUresult unmapped = cu.cuMemUnmap(elsewhere.at, granule);
    graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(work.handle, &graph);
    answer("graphs", "mapping during a capture is allowed",
           mapped == CUDA_SUCCESS && granted == CUDA_SUCCESS && unmapped == CUDA_SUCCESS &&
               ended == cudaSuccess,
           "map " + name_of(mapped) + ", set access " + name_of(granted) + ", unmap " + name_of(unmapped) +
               ", end of capture " + cudaGetErrorName(ended));
    if (graph != nullptr)
        cudaGraphDestroy(graph);
    cu.cuMemUnmap(range.at, granule);
}

/// Cycles of map, set-access and unmap by several threads at once.
void measure_threads() {
    std::optional<double> alone;
    for (const unsigned count : {1u, 2u, 4u, 8u}) {
        std::vector<std::unique_ptr<pages>> own;
        for (unsigned index = 0; index < count; ++index)
            own.push_back(std::make_unique<pages>(1, granule));
        std::atomic<unsigned long> cycles{0};
        std::atomic<int> failed{0};
        std::atomic<bool> over{false};
        std::vector<std::thread> threads;
        const auto begun = clock_type::now();
        for (unsigned index = 0; index < count; ++index) {
            threads.emplace_back([&, index] {
                if (cudaSetDevice(device_ordinal) != cudaSuccess)
                    failed = 1;
                const pages& mine = *own[index];
                while (!over && failed == 0) {
                    CUresult done = cu.cuMemMap(mine.at(0), granule, 0, mine.chunks[0]->handle, 0);
                    if (done == CUDA_SUCCESS)
                        done = allow(mine.at(0), granule);
                    if (done == CUDA_SUCCESS)
                        done = cu.cuMemUnmap(mine.at(0), granule);
                    if (done != CUDA_SUCCESS)
                        failed = static_cast<int>(done);
                    ++cycles;
                }
            });
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{700});
        over = true;
        for (std::thread& one : threads)
            one.join();
        const double rate =
            static_cast<double>(cycles) / std::chrono::duration<double>(clock_type::now() - begun).count();
        if (failed != 0)
            throw failure{"a thread met " + name_of(static_cast<CUresult>(failed.load()))};
        alone = alone.value_or(rate);
        report({.name = "threads",
                .metric = "map + set access + unmap by " + std::to_string(count),
                .value = rate,
                .unit = "cycles/s",
                .evidence = "all threads together; limit: one thread",
                .limit = *alone,
                .ratio = rate / *alone});
    }
}

/// Does fresh memory show what the same process wrote before?
void check_scrubbing() {
    const size_t size = 512 * MiB;
    const stream work;
    const auto nonzero = [&](CUdeviceptr at) {
        std::vector<unsigned> words(size / 4);
        NEED(cudaMemcpy(words.data(), pointer<void>(at), size, cudaMemcpyDeviceToHost));
        return static_cast<size_t>(
            std::count_if(words.begin(), words.end(), [](unsigned word) { return word != 0; }));
    };
    for (int round = 0; round < 2; ++round) {
        memory chunk{size};
        const addresses range{size};
        NEED(cu.cuMemMap(range.at, size, 0, chunk.handle, 0));
        NEED(allow(range.at, size));
        const size_t shown = nonzero(range.at);
        answer("scrubbing",
               round == 0 ? "memory is zero when it is first created"
                          : "memory is zero when it is created anew",
               shown == 0, std::to_string(shown) + " of " + std::to_string(size / 4) + " words are not zero");
        launch_fill(range.at, size, 17, work.handle);
        work.wait();
        NEED(cu.cuMemUnmap(range.at, size));
    }
}

/// What a forked child meets that calls the driver.
void check_fork() {
    std::fflush(stdout);
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(5);
        size_t free = 0;
        size_t total = 0;
        const int seen = static_cast<int>(cu.cuMemGetInfo(&free, &total));
        _exit(seen <= 250 ? seen : 251);
    }
    int ended = 0;
    ::waitpid(child, &ended, 0);
    if (WIFEXITED(ended))
        code("fork", "cuMemGetInfo in a forked child", static_cast<CUresult>(WEXITSTATUS(ended)),
             "251 stands for any greater one");
    else
        answer("fork", "a forked child may ask the driver", false,
               "it ended by signal " + std::to_string(WTERMSIG(ended)) + " (14: it hung for 5 s)");
    code("fork", "cuMemGetInfo in the parent afterwards", [] {
        size_t free = 0;
        size_t total = 0;
        return cu.cuMemGetInfo(&free, &total);
    }());
}

size_t status_kib(const char* key) {
    std::ifstream lines{"/proc/self/status"};
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(key))
            return std::strtoull(line.c_str() + std::strlen(key), nullptr, 10);
    }
    return 0;
}
size_t host_mappings() {
    std::ifstream lines{"/proc/self/maps"};
    size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
    }
    return count;
}

/// How many accessible mappings there can be: one small chunk, mapped again and again.
void find_mapping_limit() {
    constexpr size_t wanted = 600'000;
    constexpr size_t batch = 2000;
    memory chunk{granule};
    const addresses range{wanted * granule};
    const size_t resident = status_kib("VmRSS:");
    const size_t lines = host_mappings();
    const size_t free = free_memory();
    size_t mapped = 0;
    size_t accessible = 0;
    CUresult stopped = CUDA_SUCCESS;
    std::string where = "nowhere";
    std::vector<double> map_cost;
    std::vector<double> access_cost;
    double spent = 0;
    auto next_word = clock_type::now() + std::chrono::seconds{5};
    // A quarter of the time is kept for taking the mappings away.
    const auto begun = clock_type::now();
    const auto stop_at = begun + (experiment_ends - begun) * 2 / 3;
    while (mapped < wanted && stopped == CUDA_SUCCESS && clock_type::now() < stop_at) {
        const size_t first = mapped;
        const double map_time = micros([&] {
            while (mapped < std::min(first + batch, wanted) && stopped == CUDA_SUCCESS) {
                stopped = cu.cuMemMap(range.at + mapped * granule, granule, 0, chunk.handle, 0);
                mapped += stopped == CUDA_SUCCESS ? 1 : 0;
            }
        });
        if (stopped != CUDA_SUCCESS)
            where = "cuMemMap";
        const double access_time = micros([&] {
            const CUresult granted = mapped == first
                                         ? CUDA_SUCCESS
                                         : allow(range.at + first * granule, (mapped - first) * granule);
            if (granted == CUDA_SUCCESS) {
                accessible = mapped;
                return;
            }
            stopped = granted;
            where = "cuMemSetAccess";
            for (accessible = first; accessible < mapped; ++accessible) { // the exact place
                if (allow(range.at + accessible * granule, granule) != CUDA_SUCCESS)
                    break;
            }
        });
        const auto made = static_cast<double>(std::max<size_t>(mapped - first, 1));
        map_cost.push_back(map_time / made);
        access_cost.push_back(access_time / made);
        spent += map_time + access_time;
        if (clock_type::now() > next_word) {
            std::printf("  ... %zu mappings, %.1f us each lately\n", accessible,
                        (map_time + access_time) / made);
            std::fflush(stdout);
            next_word += std::chrono::seconds{5};
        }
    }
    const bool reached = stopped != CUDA_SUCCESS;
    const auto each = static_cast<double>(std::max<size_t>(accessible, 1));
    report({.name = "mappings",
            .metric = reached ? "ceiling of accessible mappings" : "accessible mappings, no ceiling met",
            .value = static_cast<double>(accessible),
            .unit = "mappings",
            .evidence = reached ? "shows in " + where + " as " + name_of(stopped)
                                : std::string{mapped >= wanted ? "all that were tried" : "the time was up"},
            .limit = static_cast<double>(wanted)});
    report({.name = "mappings",
            .metric = "device memory that the driver takes for a mapping",
            .value = (static_cast<double>(free) - static_cast<double>(free_memory())) / each,
            .unit = "B"});
    report(
        {.name = "mappings",
         .metric = "host memory that the driver takes for a mapping",
         .value = (static_cast<double>(status_kib("VmRSS:")) - static_cast<double>(resident)) * 1024 / each,
         .unit = "B"});
    report({.name = "mappings",
            .metric = "lines of /proc/self/maps that came with them",
            .value = static_cast<double>(host_mappings()) - static_cast<double>(lines),
            .unit = "lines"});
    const auto compare = [&](const char* metric, const std::vector<double>& cost) {
        const size_t tenth = std::max<size_t>(cost.size() / 10, 1);
        if (cost.size() < 2)
            return;
        // The batch that met the ceiling is not like the others.
        const size_t end = cost.size() - (reached ? 1 : 0);
        const double early =
            median({cost.begin(), cost.begin() + static_cast<std::ptrdiff_t>(std::min(tenth, end))});
        const double late = median({cost.begin() + static_cast<std::ptrdiff_t>(end - std::min(tenth, end)),
                                    cost.begin() + static_cast<std::ptrdiff_t>(end)});
        report({.name = "mappings",
                .metric = metric,
                .value = late,
                .unit = "us",
                .evidence = "of the last tenth; limit: of the first tenth; calls over " +
                            std::to_string(batch) + " mappings",
                .limit = early,
                .ratio = late / early,
                .repeats = cost.size()});
    };
    compare("map, each", map_cost);
    compare("set access, each of a long run", access_cost);
    size_t left = mapped;
    const double away = micros([&] {
        while (left > 0 && time_left(0.5)) {
            const size_t count = std::min(batch, left);
            if (cu.cuMemUnmap(range.at + (left - count) * granule, count * granule) != CUDA_SUCCESS)
                break;
            left -= count;
        }
    });
    report({.name = "mappings",
            .metric = "unmap, each of a long run",
            .value = left == mapped ? 0 : away / static_cast<double>(mapped - left),
            .unit = "us",
            .evidence = std::to_string(left) + " of " + std::to_string(mapped) +
                        " were left to the end of the process"});
    if (left != 0) {
        say_ended();
        _exit(exit_settled);
    }
}

struct experiment {
    const char* name;
    double seconds; ///< time box
    void (*run)();
    bool may_crash = false; ///< ended by a signal it is settled: that is what the driver does
};

constexpr experiment experiments[] = {
    {"device", 20, describe_device},
    {"verbs", 20, measure_verbs},
    {"batches", 20, measure_batches},
    {"waiting", 15, find_waiting},
    {"disturbance", 20, measure_disturbance},
    {"aliases", 15, check_aliases},
    {"release", 10, check_release},
    {"read_only", 10, check_read_only},
    {"fault_kernel_write", 10, [] { fault(forbidden::kernel_write); }},
    {"fault_copy_write", 10, [] { fault(forbidden::copy_write); }},
    {"fault_no_access", 10, [] { fault(forbidden::read_without_access); }},
    {"fault_after_none", 10, [] { fault(forbidden::read_after_none); }},
    {"fault_unmapped", 10, [] { fault(forbidden::read_unmapped); }},
    {"refusals", 10, check_refusals},
    {"stale_handles", 10, check_stale_handles, true},
    {"handles", 40, check_handles},
    {"graphs", 10, check_graphs},
    {"threads", 15, measure_threads},
    {"scrubbing", 15, check_scrubbing},
    {"fork", 10, check_fork},
    {"mappings", 60, find_mapping_limit},
};
double whole_run = 170; ///< seconds

// ---- running them ----

/// In this process. 77 where there is no device, 1 where it came to no end.
int run_experiment(const experiment& one, double seconds) {
    experiment_ends = clock_type::now() + std::chrono::duration_cast<clock_type::duration>(
                                              std::chrono::duration<double>(seconds * 0.9));
    try {
        if (const std::string why = open_device(); !why.empty()) {
            std::printf("%s\n", why.c_str());
            return exit_no_device;
        }
        one.run();
    } catch (const std::exception& ended) {
        answer(one.name, "the experiment came to its end", false, ended.what());
        std::fflush(stdout);
        _exit(exit_unsettled); // destructors have run; the driver's own may hang after a fault
    }
    say_ended();
    return exit_settled;
}

struct child_outcome {
    int code = -1; ///< exit code, 1000 + signal, or -1 where it was killed at the end of its time
    std::vector<std::string> lines;
    double seconds = 0;
};

/// In a process of its own, which leads a group so that what it starts ends with it.
child_outcome run_child(const experiment& one, double seconds) {
    constexpr int place = 9;
    child_outcome outcome;
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return outcome;
    std::fflush(stdout);
    const auto begun = clock_type::now();
    const pid_t child = ::fork();
    if (child == 0) {
        ::setpgid(0, 0);
        ::dup2(ends[1], place);
        const std::string limit = number(seconds, "%.3f");
        const std::string ordinal = std::to_string(device_ordinal);
        ::execl("/proc/self/exe", "vmm_probe", "--run", one.name, "--records", "9", "--seconds",
                limit.c_str(), "--device", ordinal.c_str(), static_cast<char*>(nullptr));
        _exit(exit_usage);
    }
    ::close(ends[1]);
    auto end =
        begun + std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(seconds));
    std::string text;
    bool killed = child < 0;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - clock_type::now()).count();
        pollfd ready{ends[0], POLLIN, 0};
        const int polled = left <= 0 ? 0 : ::poll(&ready, 1, static_cast<int>(left));
        if (polled < 0 && errno == EINTR)
            continue;
        if (polled <= 0) {
            killed = true;
            break;
        }
        std::array<char, 4096> buffer{};
        const ssize_t got = ::read(ends[0], buffer.data(), buffer.size());
        if (got <= 0)
            break;
        text.append(buffer.data(), static_cast<size_t>(got));
        if (text.ends_with("\n!\n")) // what comes now is the driver's own end, which may take long
            end = std::min(end, clock_type::now() + std::chrono::seconds{5});
    }
    // After the pipe is closed the process has a moment to end, then it is made to.
    int ended = 0;
    bool gone = false;
    for (int tries = 0; child > 0 && !gone && tries < 2000; ++tries) {
        const bool late = killed || clock_type::now() > end;
        if (late && tries % 100 == 0) {
            ::kill(-child, SIGKILL);
            ::kill(child, SIGKILL);
        }
        gone = ::waitpid(child, &ended, WNOHANG) == child;
        if (!gone)
            ::usleep(5000);
        killed = killed || (late && !gone);
    }
    ::close(ends[0]);
    if (gone && !killed)
        outcome.code = WIFEXITED(ended) ? WEXITSTATUS(ended) : 1000 + WTERMSIG(ended);
    for (size_t start = 0, stop = 0; (stop = text.find('\n', start)) != std::string::npos; start = stop + 1)
        outcome.lines.push_back(text.substr(start, stop - start));
    outcome.seconds = std::chrono::duration<double>(clock_type::now() - begun).count();
    return outcome;
}

std::string why_unsettled(const child_outcome& outcome) {
    if (outcome.code < 0)
        return "killed after " + number(outcome.seconds) + " s";
    if (outcome.code >= 1000)
        return "ended by signal " + std::to_string(outcome.code - 1000);
    return "ended with " + std::to_string(outcome.code);
}

int run_all(const std::string& json_file) {
    const auto begun = clock_type::now();
    const auto elapsed = [&] { return std::chrono::duration<double>(clock_type::now() - begun).count(); };
    std::vector<std::string> lines;
    std::string machine = "unknown";
    int unsettled = 0;
    for (const experiment& one : experiments) {
        const double left = whole_run - elapsed();
        std::printf("== %s (%.0f s of %.0f) ==\n", one.name, elapsed(), whole_run);
        std::string evidence;
        if (left < 3) {
            evidence = "not run: the time was up";
        } else {
            const child_outcome outcome = run_child(one, std::min(one.seconds, left));
            if (outcome.code == exit_no_device)
                return exit_no_device;
            bool ended = false;
            for (const std::string& line : outcome.lines) {
                if (line.starts_with('@'))
                    machine = line.substr(1);
                else if (line == end_mark)
                    ended = true;
                else
                    lines.push_back(line);
            }
            if (outcome.code >= 1000 && one.may_crash) {
                const record crash{.name = one.name,
                                   .metric = "the driver crashes",
                                   .value = 1.0,
                                   .unit = "yes/no",
                                   .evidence = "signal " + std::to_string(outcome.code - 1000)};
                print(crash);
                lines.push_back(to_json(crash));
            } else if (!ended)
                evidence = why_unsettled(outcome);
        }
        record line{.name = one.name,
                    .metric = "settled",
                    .value = evidence.empty() ? 1.0 : 0.0,
                    .unit = "yes/no",
                    .evidence = evidence};
        if (!evidence.empty()) {
            ++unsettled;
            print(line);
        }
        lines.push_back(to_json(line));
    }
    std::printf("%zu experiments in %.0f s, %d not settled\n", std::size(experiments), elapsed(), unsettled);
    if (!json_file.empty()) {
        std::ofstream file{json_file};
        file << "{\"bench\": \"vmm_probe\", \"machine\": " << quoted(machine) << ", \"records\": [";
        const char* separator = "\n  ";
        for (const std::string& line : lines) {
            file << separator << line;
            separator = ",\n  ";
        }
        file << "\n]}\n";
        file.flush();
        if (!file) {
            std::fprintf(stderr, "vmm_probe: cannot write %s\n", json_file.c_str());
            return exit_usage;
        }
    }
    return unsettled == 0 ? exit_settled : exit_unsettled;
}

int usage() {
    std::fprintf(stderr,
                 "usage: vmm_probe [--json FILE] [--device N] [--total SECONDS] [--run NAME] [--list]\n");
    return exit_usage;
}

} // namespace

int main(int count, char** arguments) {
    std::string json_file;
    std::string wanted;
    std::vector<std::string> peer;
    double seconds = 60;
    for (int index = 1; index < count; ++index) {
        const std::string_view word = arguments[index];
        const int left = count - index - 1;
        if (word == "--list") {
            for (const experiment& one : experiments)
                std::printf("%s\n", one.name);
            return exit_settled;
        } else if (word == "--idle") { // for check_handles()
            ::sleep(60);
            return exit_settled;
        } else if (word == "--json" && left >= 1) {
            json_file = arguments[++index];
        } else if (word == "--run" && left >= 1) {
            wanted = arguments[++index];
        } else if (word == "--device" && left >= 1) {
            device_ordinal = std::atoi(arguments[++index]);
        } else if (word == "--total" && left >= 1) {
            whole_run = std::atof(arguments[++index]);
        } else if (word == "--seconds" && left >= 1) {
            seconds = std::atof(arguments[++index]);
        } else if (word == "--records" && left >= 1) {
            records_descriptor = std::atoi(arguments[++index]);
            ::fcntl(records_descriptor, F_SETFD, FD_CLOEXEC);
        } else if (word == "--peer" && left >= 3) {
            peer = {arguments[index + 1], arguments[index + 2], arguments[index + 3]};
            index += 3;
        } else {
            return usage();
        }
    }
    if (!peer.empty()) {
        try {
            if (const std::string why = open_device(); !why.empty())
                throw failure{why};
            return be_peer(peer[0], peer[1], std::strtoull(peer[2].c_str(), nullptr, 10));
        } catch (const std::exception& ended) {
            std::printf("  (the other process: %s)\n", ended.what());
            std::fflush(stdout);
            _exit(exit_unsettled);
        }
    }
    if (wanted.empty())
        return run_all(json_file);
    for (const experiment& one : experiments) {
        if (wanted == one.name)
            return run_experiment(one, seconds);
    }
    return usage();
}
