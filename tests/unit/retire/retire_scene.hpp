// SPDX-License-Identifier: Apache-2.0
//
// What the tests of retiring pages share: host memory with simulated streams, calls counted and made to fail,
// and kernels that read rows and know what has to be there when they run.
#pragma once

#include "support/catch.hpp"
#include "support/proc_maps.hpp"
#include "support/stream_model.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/memory/chunk_pool.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace vtensor::testing {

template <class Stream>
using device_of = stream_model<host_backend, Stream>;
template <class Stream>
using counted_of = adaptors::counting<device_of<Stream>>;
template <class Stream>
using backend_of = adaptors::failing<counted_of<Stream>>;

using retire_backend = backend_of<model_stream>;
using retire_pool = chunk_pool<retire_backend, std::mutex>;
using retire_range = retiring_range<retire_pool>;
template <class Growth = growth::exact>
using retire_tensor = virtual_tensor<std::uint32_t, retire_backend, Growth, eviction::keep_all, std::mutex>;

constexpr bytes retire_page = 4_KiB;
constexpr std::size_t page_words = 1024; ///< a row of the tensors here: a page

/// A device with two streams and a pool.
template <class Stream>
struct retire_scene_of {
    explicit retire_scene_of(const chunk_pool_options& options = {}, const host_options& machine = {})
        : host{machine}, pool{backend, options} {}
    retire_scene_of(const retire_scene_of&) = delete;
    retire_scene_of& operator=(const retire_scene_of&) = delete;
    ~retire_scene_of() {
        check_sound();
        CHECK(wrong_reads == 0);
    }

    host_backend host;
    device_of<Stream> device{host};
    counted_of<Stream> counted{device};
    backend_of<Stream> backend{counted};
    chunk_pool<backend_of<Stream>, std::mutex> pool;
    Stream first = device.make_stream();
    Stream second = device.make_stream();
    std::size_t wrong_reads = 0;

    [[nodiscard]] auto& queue() { return pool.retiring(); }
    [[nodiscard]] std::size_t calls(verb what) const { return counted.snapshot()[what].calls; }
    [[nodiscard]] std::size_t pages_in_use() const { return pool.stats().in_use / pool.chunk_size(); }

    void check_sound() {
        for (const std::string& violation : device.violations())
            FAIL_CHECK(violation);
        CHECK(pool.verify());
        CHECK(queue().verify());
        const retire_stats stats = queue().stats();
        CHECK(stats.retired == stats.revived + stats.reclaimed + stats.retiring);
    }

    /// Words [from, to) of the memory at `where` get their numbers plus `salt`.
    static void write(address where, std::size_t from, std::size_t to, std::uint32_t salt) {
        for (std::size_t word = from; word < to; ++word)
            where.to_pointer<std::uint32_t>()[word] = static_cast<std::uint32_t>(word) + salt;
    }
    static std::size_t wrong_words(address where, std::size_t from, std::size_t to, std::uint32_t salt) {
        std::size_t wrong = 0;
        for (std::size_t word = from; word < to; ++word)
            wrong += where.to_pointer<const std::uint32_t>()[word] != static_cast<std::uint32_t>(word) + salt;
        return wrong;
    }
    /// Queues a kernel that reads these words.
    void read(Stream stream, address where, std::size_t from, std::size_t to, std::uint32_t salt) {
        device.launch(stream, where + bytes{from * 4}, bytes{(to - from) * 4},
                      [=, this] { wrong_reads += wrong_words(where, from, to, salt); });
    }
};

using retire_scene = retire_scene_of<model_stream>;

/// The states of a range's pages, a letter each: a(ccessible), m(apped), r(etiring), and . for reserved.
template <class Range>
[[nodiscard]] std::string states(const Range& range) {
    std::string letters;
    for (std::size_t page = 0; page < range.limit().count(); ++page) {
        switch (range.state(page_index{page})) {
        case page_state::accessible:
            letters += 'a';
            break;
        case page_state::mapped:
            letters += 'm';
            break;
        case page_state::retiring:
            letters += 'r';
            break;
        case page_state::reserved:
            letters += '.';
        }
    }
    return letters;
}

/// The kernel agrees with the states: which pages it has mapped, and which can be read.
template <class Range>
void check_states(const Range& range, const std::string& expected) {
    CHECK(states(range) == expected);
    CHECK(range.verify());
    for (std::size_t page = 0; page < expected.size(); ++page) {
        const auto kernel = kernel_range(range.start() + page * range.page_size(), range.page_size());
        CAPTURE(page, expected);
        const bool readable = expected[page] == 'a' || expected[page] == 'r';
        CHECK(kernel.accessible == (readable ? range.page_size() : 0_B));
    }
}

} // namespace vtensor::testing
