// SPDX-License-Identifier: Apache-2.0
// What does it cost to grow a tensor to 1 GiB, in time and in peak memory, against allocating anew and
// copying?
//
// Both sides are filled to 1 GiB in pieces of 1 MiB. Timed is growing alone: for the vector the calls that
// allocate and copy, for the tensor the calls that map pages of a filled pool. "with writing" adds the
// writing of the data, because fresh or remapped memory is touched for the first time there. Peak memory is
// the process's high-water mark of resident memory by the kernel's count, in a process of its own for each
// side; for the vector, which holds the old and the new array while it copies, at least the two together.
#include "support/bench_report.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace vtensor;

namespace {

constexpr bytes final_size = 1_GiB;
constexpr bytes piece = 1_MiB;
constexpr std::size_t pieces = final_size / piece;
constexpr std::size_t repeats = 7;

/// What one run of one side cost.
struct cost {
    double growing = 0; ///< seconds
    double writing = 0; ///< seconds
    double peak = 0;    ///< bytes allocated or mapped at most
};

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The process's high-water mark of resident memory, in bytes.
double peak_resident() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) * 1024;
}

/// Runs one side in a child process, so that its high-water mark is its own.
template <class Side>
cost measure_apart(Side side) {
    int ends[2];
    if (::pipe(ends) != 0)
        return {};
    if (::fork() == 0) {
        const double before = peak_resident();
        cost spent = side();
        spent.peak = std::max(spent.peak, peak_resident() - before);
        const bool sent = ::write(ends[1], &spent, sizeof spent) == static_cast<ssize_t>(sizeof spent);
        ::_exit(sent ? 0 : 1);
    }
    ::close(ends[1]);
    cost spent{};
    const bool received = ::read(ends[0], &spent, sizeof spent) == static_cast<ssize_t>(sizeof spent);
    ::close(ends[0]);
    int status = 0;
    ::wait(&status);
    if (!received || status != 0)
        throw std::runtime_error{"a measuring process failed"};
    return spent;
}

/// Adds pieces with `grow`, which returns where the new piece lies, and writes each.
template <class Grow>
cost fill(Grow grow) {
    cost spent;
    for (std::size_t index = 0; index < pieces; ++index) {
        auto start = std::chrono::steady_clock::now();
        std::byte* const fresh = grow();
        spent.growing += seconds_since(start);
        start = std::chrono::steady_clock::now();
        std::memset(fresh, static_cast<int>(index % 251 + 1), piece.count());
        spent.writing += seconds_since(start);
    }
    return spent;
}

/// Doubles by allocating and copying, as std::vector does; without its zeroing of the new part.
cost grow_by_copying() {
    std::byte* data = nullptr;
    std::size_t capacity = 0;
    std::size_t size = 0;
    std::size_t peak = 0;
    cost spent = fill([&] {
        if (size + piece.count() > capacity) {
            const std::size_t old = capacity;
            capacity = capacity == 0 ? piece.count() : 2 * capacity;
            peak = std::max(peak, old + capacity);
            auto* const larger = new std::byte[capacity];
            if (size != 0)
                std::memcpy(larger, data, size);
            delete[] data;
            data = larger;
        }
        size += piece.count();
        return data + size - piece.count();
    });
    bench::keep(data[size - 1]);
    delete[] data;
    spent.peak = static_cast<double>(peak);
    return spent;
}

template <class Growth>
cost grow_by_mapping(bytes page) {
    host_backend memory;
    chunk_pool<host_backend> pool{memory, {.chunk_size = page}};
    throw_if_failed(pool.prefill(final_size / page));
    virtual_tensor<std::byte, host_backend, Growth> tensor{pool, {piece.count()}, pieces};
    const cost spent = fill([&] { return tensor.append(1).data; });
    bench::keep(tensor.data()[final_size.count() - 1]);
    return spent;
}

template <class Growth>
void compare(bench::report& report, const std::string& name, bytes page) {
    std::vector<double> growing;
    std::vector<double> growing_by_copy;
    std::vector<double> total;
    std::vector<double> total_by_copy;
    std::vector<double> faster;
    std::vector<double> total_faster;
    std::vector<double> peak;
    std::vector<double> peak_by_copy;
    for (std::size_t round = 0; round < repeats; ++round) {
        const cost copied = measure_apart(grow_by_copying);
        const cost mapped = measure_apart([&] { return grow_by_mapping<Growth>(page); });
        growing.push_back(mapped.growing * 1e3);
        growing_by_copy.push_back(copied.growing * 1e3);
        total.push_back((mapped.growing + mapped.writing) * 1e3);
        total_by_copy.push_back((copied.growing + copied.writing) * 1e3);
        faster.push_back(copied.growing / mapped.growing);
        total_faster.push_back((copied.growing + copied.writing) / (mapped.growing + mapped.writing));
        const double size = static_cast<double>(final_size.count());
        peak.push_back(mapped.peak / size);
        peak_by_copy.push_back(copied.peak / size);
    }
    const auto add = [&](const std::string& metric, const std::vector<double>& values,
                         const std::string& unit, const std::vector<double>& limits,
                         const std::vector<double>& ratios) {
        const bench::samples ratio{ratios};
        report.add({.name = name,
                    .metric = metric,
                    .value = bench::samples{values}.median(),
                    .unit = unit,
                    .limit = bench::samples{limits}.median(),
                    .ratio = ratio.median(),
                    .spread = ratio.spread(),
                    .repeats = ratio.count()});
    };
    add("time growing", growing, "ms", growing_by_copy, faster);
    add("with writing", total, "ms", total_by_copy, total_faster);
    add("peak memory", peak, "x final", peak_by_copy, peak);
}

} // namespace

int main(int argc, char** argv) {
    bench::report report{"bench_growth"};
    std::cerr << "growing to 1 GiB, " << repeats << " times each way ...\n";
    compare<growth::geometric<2, 1>>(report, "grow 1GiB", 2_MiB); // the factor of the vector beside it
    compare<growth::fixed<32>>(report, "grow 1GiB fixed<32>", 2_MiB);
    compare<growth::exact>(report, "grow 1GiB exact", 2_MiB);
    return report.finish(bench::json_option(argc, argv));
}
