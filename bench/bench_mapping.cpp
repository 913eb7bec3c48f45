// SPDX-License-Identifier: Apache-2.0
// What does mapping a page cost through the whole stack, against the bare system calls that it comes down to?
// A tensor of one chunk a row grows row by row and shrinks row by row, every chunk from a filled pool; beside
// it the same mmap calls are made without any book-keeping. `ratio` is the time through the stack divided by
// that. Both in processor time of the thread.
#include "support/bench_report.hpp"
#include "support/raw_mapping.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <string>

using namespace vtensor;

namespace {

constexpr std::size_t repeats = 41;

/// A tensor whose row is one chunk, with every chunk it can need waiting in the pool.
struct stack {
    stack(bytes chunk, std::size_t chunks)
        : pool{memory, {.chunk_size = chunk}}, tensor{pool, {chunk.count()}, chunks} {
        throw_if_failed(pool.prefill(chunks));
    }

    host_backend memory;
    chunk_pool<host_backend> pool;
    virtual_tensor<std::byte, host_backend> tensor;
};

/// Times `through` the stack against the bare calls for the same chunks, one by one.
template <class Through>
void compare(bench::report& report, const std::string& name, stack& side, bytes chunk, std::size_t chunks,
             Through through) {
    const bench::raw_mapping raw{chunk.count(), chunks};
    const auto timed = bench::interleave<bench::thread_clock>(
        repeats, [&] { through(side.tensor); },
        [&] {
            for (std::size_t index = 0; index < chunks; ++index)
                raw.map(index);
            for (std::size_t index = chunks; index-- > 0;)
                raw.unmap(index);
        });
    const double scale = 1e6 / static_cast<double>(chunks);
    const auto ratio = timed.ratio(0, 1);
    report.add({.name = name,
                .metric = "map + unmap",
                .value = timed.seconds(0).median() * scale,
                .unit = "us/chunk",
                .limit = timed.seconds(1).median() * scale,
                .ratio = ratio.median(),
                .spread = ratio.spread(),
                .repeats = ratio.count()});
}

/// Chunk by chunk, as decode steps map; then all at once, as a prefill maps.
void measure(bench::report& report, bytes chunk, std::size_t chunks) {
    std::string size = to_string(chunk);
    size.erase(size.find(' '), 1);
    stack side{chunk, chunks};
    compare(report, "map " + size, side, chunk, chunks, [&](auto& tensor) {
        for (std::size_t rows = 1; rows <= chunks; ++rows)
            tensor.resize(rows);
        for (std::size_t rows = chunks; rows-- > 0;)
            tensor.resize(rows);
    });
    compare(report, "map " + size + " x " + std::to_string(chunks), side, chunk, chunks, [&](auto& tensor) {
        tensor.resize(chunks);
        tensor.resize(0);
    });
}

} // namespace

int main(int argc, char** argv) {
    bench::report report{"bench_mapping"};
    measure(report, 2_MiB, 512);
    measure(report, 64_KiB, 2048);
    measure(report, 4_KiB, 4096);
    return report.finish(bench::json_option(argc, argv));
}
