// SPDX-License-Identifier: Apache-2.0
//
// A million tokens through a sliding window, by unmapping behind it and by a ring: memory by the kernel's own
// figure is constant, and so is the number of calls a token.
#include "support/catch.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/ring_tensor.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t tokens = 1'000'000;
constexpr std::size_t window = 1024;
constexpr std::size_t row_words = 64; // 256 bytes
constexpr bytes page = 16_KiB;
constexpr std::size_t rows_a_page = 64;

/// What the kernel says, at its least and most.
struct figures {
    bytes least{~std::size_t{0}};
    bytes most{};
    std::size_t samples = 0;

    void look() {
        const bytes now = kernel_memory_file_bytes();
        least = std::min(least, now);
        most = std::max(most, now);
        ++samples;
    }
};

} // namespace

TEST_CASE("a window that slides by unmapping behind it takes constant memory") {
    host_backend host;
    adaptors::counting counted{host};
    chunk_pool<adaptors::counting<host_backend>> pool{counted, {.chunk_size = page}};
    // A page more than the window, for its ragged front, and the page that is being filled.
    virtual_tensor<std::uint32_t, adaptors::counting<host_backend>, growth::exact, eviction::by_caller>
        tensor{pool, {row_words}, window + 2 * rows_a_page};
    std::vector<slot_type> kept;
    figures memory;
    std::size_t wrong = 0;
    std::size_t calls = 0;
    defrag::plan plan;
    for (std::size_t token = 0; token < tokens; ++token) {
        const auto row = tensor.append(1);
        row(0, 0) = static_cast<std::uint32_t>(token);
        row(0, row_words - 1) = static_cast<std::uint32_t>(token) * 7;
        if (tensor.live_rows() < window + rows_a_page)
            continue;
        // What has left the window dies a page at a time; attention masks the rest by position.
        const std::size_t first = tensor.rows() - window;
        kept.resize(window);
        std::iota(kept.begin(), kept.end(), static_cast<slot_type>(first));
        tensor.evict(kept);
        if (!tensor.try_defragment(defrag::remap{}, plan) || !plan.rows.empty())
            ++wrong;
        if (token < 4 * window)
            calls = counted.snapshot()[verb::map].calls;
        if (token >= 2 * window && (token / rows_a_page) % 16 == 0)
            memory.look();
        const auto view = std::as_const(tensor).view();
        const std::size_t last = tensor.rows() - 1;
        const std::size_t oldest = tensor.rows() - window;
        wrong += view(last, 0) != token || view(oldest, 0) != token + 1 - window ||
                         view(oldest, row_words - 1) != static_cast<std::uint32_t>(token + 1 - window) * 7 ||
                         tensor.positions()[oldest] != token + 1 - window
                     ? 1u
                     : 0u;
    }
    CHECK(wrong == 0);
    CHECK(tensor.next_position() == tokens);
    CHECK(memory.samples > 500);
    CHECK(memory.most - memory.least <= page);
    CHECK(memory.most <= bytes{window * row_words * 4} + 2 * page);
    // As many pages are mapped anew for the last tokens as for the first.
    const double early = static_cast<double>(calls) / (4 * window);
    const double late = static_cast<double>(counted.snapshot()[verb::map].calls) / tokens;
    CHECK(late < 1.5 * early);
    CHECK(tensor.verify());
    CHECK(pool.verify());
}

TEST_CASE("a window that slides in a ring takes constant memory") {
    host_backend host;
    adaptors::counting counted{host};
    chunk_pool<adaptors::counting<host_backend>> pool{counted, {.chunk_size = page}};
    ring_tensor<std::uint32_t, adaptors::counting<host_backend>> ring{pool, {row_words}, window};
    figures memory;
    std::size_t wrong = 0;
    for (std::size_t token = 0; token < tokens; ++token) {
        const auto row = ring.append(1);
        row(0, 0) = static_cast<std::uint32_t>(token);
        row(0, row_words - 1) = static_cast<std::uint32_t>(token) * 7;
        const auto view = std::as_const(ring).view();
        const std::size_t oldest = token + 1 - view.extents[0];
        wrong += view(0, 0) != oldest || view(view.extents[0] - 1, 0) != token ||
                         view(0, row_words - 1) != static_cast<std::uint32_t>(oldest) * 7 ||
                         ring.first_position() != oldest
                     ? 1u
                     : 0u;
        if (token >= window && token % 1000 == 0)
            memory.look();
    }
    CHECK(wrong == 0);
    CHECK(ring.rows() == window);
    CHECK(memory.samples > 500);
    CHECK(memory.most == memory.least);
    CHECK(memory.most == bytes{window * row_words * 4});
    CHECK(counted.snapshot()[verb::map].calls == 2 * window / rows_a_page);
    CHECK(counted.snapshot()[verb::unmap].calls == 0);
}
