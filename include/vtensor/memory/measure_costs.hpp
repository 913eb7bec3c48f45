// SPDX-License-Identifier: Apache-2.0
//
// What moving rows and pages costs on one pool, measured on memory of that very pool: once, at the start of a
// program, for policies that choose between the two.
#pragma once

#include <vtensor/core/abilities.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/memory/cold_memory.hpp>
#include <vtensor/memory/page_exchange.hpp>
#include <vtensor/memory/retiring_range.hpp>
#include <vtensor/memory/row_moves.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <vector>

namespace vtensor {

namespace detail {

/// Pages of a pool for the time of a measurement, and the clocked moves on them.
template <class Pool>
class cost_probe {
  public:
    using backend_type = typename Pool::backend_type;
    using stream_type = stream_of<Pool>;

    static constexpr bytes small_row{256};
    static constexpr int repeats = 7;
    static constexpr int cold_repeats = 3; ///< it takes longer to make memory cold than to copy it
    static constexpr std::uint32_t most_pages = 1024;

    cost_probe(page_range<Pool>& range, std::size_t pages, const stream_type* stream)
        : range_{range}, pages_{pages}, stream_{stream} {}

    [[nodiscard]] result<defrag::costs> measure() {
        defrag::costs found;
        const bytes half = range_.page_size() * (pages_ / 2);
        // Long and short runs of the same bytes, from every second row of the upper half.
        const std::size_t rows = half / small_row;
        std::vector<defrag::row_move> moves;
        for (std::size_t row = 0; row < rows / 2; ++row)
            moves.push_back({static_cast<slot_type>(rows + 2 * row), static_cast<slot_type>(row), 1});
        const defrag::row_move whole[] = {
            {static_cast<slot_type>(rows), 0, static_cast<std::uint32_t>(rows / 2)}};
        const auto apart = fastest([&] { return copy(moves); }, cold_repeats, [&] { cool(); });
        const auto together = fastest([&] { return copy(whole); }, cold_repeats, [&] { cool(); });
        // A run of pages changes places, and then every second one: as many runs as pages.
        const auto middle = static_cast<std::uint32_t>(pages_ / 2);
        const std::uint32_t count = std::min(middle, most_pages);
        const defrag::block_move all[] = {{middle, 0, count}};
        std::vector<defrag::block_move> scattered;
        for (std::uint32_t page = 0; page < count; page += 2)
            scattered.push_back({middle + page, page, 1});
        const auto in_one = fastest([&] { return exchange(all); }, cold_repeats, [&] { overwrite(count); });
        const auto in_many =
            fastest([&] { return exchange(scattered); }, cold_repeats, [&] { overwrite(count); });
        const auto waited = fastest([&] { return wait(); });
        for (const auto* one : {&apart, &together, &in_one, &in_many, &waited}) {
            if (!*one)
                return one->error();
        }
        const double copied = static_cast<double>((small_row * (rows / 2)).count());
        found.copied_byte = *together / copied;
        found.copied_run = std::max(0.0, *apart - *together) / static_cast<double>(moves.size());
        // Two runs in one case, in the other as many as pages.
        const double of_one = *in_one / static_cast<double>(2 * count);
        const double of_many = *in_many / static_cast<double>(2 * scattered.size());
        found.remapped_run = std::max(0.0, of_many - of_one) * count / std::max(1.0, count - 1.0);
        found.remapped_page = std::max(of_one / 2, of_one - found.remapped_run / count);
        found.waited = *waited;
        return found;
    }

  private:
    /// The least of several times, in microseconds: what disturbs only adds. `before` is not timed.
    template <class Work, class Before>
    [[nodiscard]] static result<double> fastest(Work work, int times, Before before) noexcept {
        double least = 0;
        for (int repeat = 0; repeat < times; ++repeat) {
            before();
            const auto start = std::chrono::steady_clock::now();
            if (const status outcome = work(); !outcome)
                return outcome;
            const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
            least = repeat == 0 ? spent.count() : std::min(least, spent.count());
        }
        return std::max(least, 1e-6);
    }
    template <class Work>
    [[nodiscard]] static result<double> fastest(Work work) noexcept {
        return fastest(work, repeats, [] {});
    }
    /// Rows that are to move were seldom used a moment before.
    void cool() noexcept {
        const bytes half = range_.page_size() * (pages_ / 2);
        if (stream_ == nullptr)
            detail::cool(range_.start().template to_pointer<const std::byte>() + half.count(), half);
    }

    /// So were the page tables of pages that are to change places, and what else the system knows of them:
    /// these nobody can take out of the caches, but what is written can take their places: the pages that
    /// stay where they are, which large pages may have none of.
    void overwrite(std::size_t count) noexcept {
        if (stream_ != nullptr)
            return;
        const std::size_t unused = pages_ / 2 - count;
        for (const std::size_t first : {count, pages_ / 2 + count})
            std::memset(range_.start().template to_pointer<std::byte>() +
                            (range_.page_size() * first).count(),
                        2, (range_.page_size() * unused).count());
    }

    [[nodiscard]] status copy(std::span<const defrag::row_move> moves) noexcept {
        if constexpr (has_streams<Pool>) {
            if (stream_ != nullptr) {
                row_copies<backend_type> copies{range_.pool().backend(), range_.start(), small_row, *stream_};
                const status outcome = copies.queue(moves);
                return outcome ? wait() : outcome;
            }
        }
        move_rows(range_.start().template to_pointer<std::byte>(), small_row, moves);
        return {};
    }
    /// Until the pages have been read again, where the CPU can.
    [[nodiscard]] status exchange(std::span<const defrag::block_move> moves) noexcept {
        page_exchange<backend_type> pages;
        if (const status outcome = pages.prepare(range_.pages(), moves, 1, range_.accessible()); !outcome)
            return outcome;
        const status outcome = exchange(pages);
        if (outcome && stream_ == nullptr) {
            for (const defrag::block_move& move : moves) {
                touch(move.from, move.count);
                touch(move.to, move.count);
            }
        }
        return outcome;
    }
    [[nodiscard]] status exchange(page_exchange<backend_type>& pages) noexcept {
        if constexpr (has_streams<Pool>)
            return range_.exchange(pages, nullptr);
        else
            return range_.exchange(pages);
    }
    void touch(std::size_t first, std::size_t count) const noexcept {
        constexpr std::size_t step = 4096; // no page of a processor is smaller
        const std::size_t size = range_.page_size().count();
        const volatile std::byte* const pages = range_.start().template to_pointer<const std::byte>();
        for (std::size_t offset = first * size; offset < (first + count) * size; offset += step)
            static_cast<void>(pages[offset]);
    }
    [[nodiscard]] status wait() noexcept {
        if constexpr (has_streams<Pool>) {
            if (stream_ != nullptr)
                return range_.pool().retiring().wait_for(*stream_);
        }
        return {};
    }

    page_range<Pool>& range_;
    std::size_t pages_;
    const stream_type* stream_;
};

template <class Pool>
[[nodiscard]] result<defrag::costs> measure_costs(Pool& pool, bytes memory,
                                                  const stream_of<Pool>* stream) noexcept {
    const bool is_reached = reaches_memory(pool.backend());
    if (!is_reached && stream == nullptr)
        return error{errc::unsupported, verb::measure, 0, bytes{0}};
    try {
        for (std::size_t pages =
                 std::max<std::size_t>(4, pages_for(memory, pool.chunk_size()).count() / 4 * 4);
             ; pages = pages / 8 * 4) {
            auto range = page_range<Pool>::create(pool, page_count{pages}, owner_id{});
            if (!range)
                return range.error();
            const status grown = range->grow_to(page_count{pages});
            if (!grown && is_shortage(grown.code()) && pages > 4)
                continue;
            if (!grown)
                return grown.error();
            if (is_reached)
                std::memset(range->start().to_pointer(), 1, (pool.chunk_size() * pages).count());
            return cost_probe<Pool>{*range, pages, stream}.measure();
        }
    } catch (const std::bad_alloc&) {
        return error{errc::out_of_memory, verb::measure, 0, memory};
    }
}

} // namespace detail

/// Moves rows and pages of `memory` bytes of the pool's chunks (less where there are fewer, at least four
/// pages) a few times: a fraction of a second. The chunks are free again afterwards. What the CPU copies is
/// taken out of its caches first. `unsupported` where nobody can copy: memory that the CPU does not reach,
/// and no stream.
template <class Pool>
[[nodiscard]] result<defrag::costs> try_measure_costs(Pool& pool, bytes memory = bytes{32u << 20}) noexcept {
    return detail::measure_costs(pool, memory, static_cast<const detail::stream_of<Pool>*>(nullptr));
}
/// The same by copies on the stream, which has nothing else to do meanwhile.
template <class Pool>
[[nodiscard]] result<defrag::costs>
try_measure_costs(Pool& pool, bytes memory,
                  const detail::stream_of<Pool>& stream) noexcept requires detail::has_streams<Pool> {
    return detail::measure_costs(pool, memory, &stream);
}
/// The throwing form.
template <class Pool>
[[nodiscard]] defrag::costs measure_costs(Pool& pool, bytes memory = bytes{32u << 20}) {
    return try_measure_costs(pool, memory).value();
}

} // namespace vtensor
