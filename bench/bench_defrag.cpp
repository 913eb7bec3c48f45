// SPDX-License-Identifier: Apache-2.0
// What does it cost to bring the rows together that an eviction leaves, by copying and by remapping?
//
// A tensor of 64 MiB on host memory keeps 20 % of its rows: at random, in clusters of 64, or the last ones.
// "time" is one call of try_defragment until every page of the rows that stay has been read again, because a
// page that was mapped anew is met with a fault; the ratio of "hybrid" is that to the quickest other policy
// that gave back as many pages, round by round: the median, over as many rounds as it takes to know it within
// 3 % (40 at most; its spread is half the interval that has it with a probability of 95 %). "moving" is the
// bandwidth of compaction, bytes copied (read once, written once) by the time of the call, planning and
// book-keeping included, on a tensor whose growth policy keeps its pages, so that none is unmapped;
// "unmapping" is what giving them back takes then. "row moves" is the same for the moves alone. The limit of
// both is one memcpy of as many bytes in the same memory, in the same round; "reading" is what remains of it
// where the rows that move are only read, each line asked for ahead: scattered rows cannot be moved faster
// than that. Before each, other memory is written, so that nothing of the tensor is in a cache. Times are
// processor times of the thread, kernel included.
#include "support/bench_report.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/measure_costs.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <vector>

using namespace vtensor;

namespace {

constexpr bytes tensor_size = 64_MiB;
constexpr std::size_t repeats = 12;
constexpr std::size_t most_repeats = 40; ///< where the machine is restless

/// Gives pages back, or for the time of a measurement keeps them.
struct growth_by_wish {
    const bool* keep;

    [[nodiscard]] page_count target(const growth_state& state) const noexcept {
        return *keep ? std::max(state.mapped, state.needed) : state.needed;
    }
};
using tensor_type = virtual_tensor<std::byte, host_backend, growth_by_wish, eviction::by_caller>;

enum class pattern { random, clusters, front };
constexpr std::array<const char*, 3> pattern_names{"random 20%", "clustered 20%", "front dropped"};

std::vector<slot_type> kept_rows(pattern way, std::size_t rows) {
    std::mt19937_64 engine{7};
    std::vector<slot_type> kept;
    const auto add = [&](std::size_t slot) { kept.push_back(static_cast<slot_type>(slot)); };
    constexpr std::size_t cluster = 64;
    for (std::size_t slot = 0; slot < rows; ++slot) {
        if (way == pattern::random && engine() % 5 == 0)
            add(slot);
        if (way == pattern::front && slot >= rows - rows / 5)
            add(slot);
        if (way == pattern::clusters && slot % cluster == 0 && engine() % 5 == 0) {
            for (std::size_t inside = 0; inside < std::min(cluster, rows - slot); ++inside)
                add(slot + inside);
        }
    }
    return kept;
}

/// One policy's figures over the rounds.
struct figures {
    std::vector<double> whole; ///< seconds until the rows can be read
    double copied = 0;         ///< bytes
    double remapped = 0;       ///< pages that changed places
    bytes mapped{};            ///< afterwards

    [[nodiscard]] double median() const { return bench::samples{whole}.median(); }
};

double seconds_since(bench::thread_clock::time_point start) {
    return std::chrono::duration<double>(bench::thread_clock::now() - start).count();
}

/// What is measured again and again: a tensor, and what the rounds share.
struct scene {
    scene(bytes page, bytes row, pattern way)
        : pool{memory, {.chunk_size = page}},
          tensor{pool, {row.count()}, tensor_size / row, growth_by_wish{&keep}},
          kept{kept_rows(way, tensor.max_rows())},
          other(tensor_size.count()) {}

    host_backend memory;
    chunk_pool<host_backend> pool;
    bool keep = false;
    tensor_type tensor;
    std::vector<slot_type> kept;
    std::vector<std::byte> other;
    defrag::plan plan; ///< used again, as a caller does

    /// All rows are there and were written, and lie in no cache. The chunks are new: no policy begins with
    /// neighbours that another one has parted.
    void fill(int value) {
        tensor.resize(0);
        throw_if_failed(pool.trim());
        tensor.resize(tensor.max_rows());
        std::memset(tensor.data(), value, tensor_size.count());
        std::memset(other.data(), value, other.size());
        bench::keep(other[0]);
    }

    template <class Policy>
    void run(const Policy& policy, figures& into) {
        fill(1);
        tensor.evict(kept);
        const auto start = bench::thread_clock::now();
        throw_if_failed(tensor.try_defragment(policy, plan));
        const volatile std::byte* const data = tensor.data();
        for (std::size_t offset = 0; offset < tensor.stats().used.count(); offset += 4096)
            static_cast<void>(data[offset]);
        into.whole.push_back(seconds_since(start));
        into.copied = static_cast<double>((tensor.row_bytes() * plan.rows_copied()).count());
        into.mapped = tensor.mapped_bytes();
        std::size_t blocks = 0;
        for (const defrag::block_move& move : plan.blocks)
            blocks += move.count;
        into.remapped =
            static_cast<double>(tensor.row_bytes() * (plan.block_rows * blocks) / tensor.stats().page);
    }

    /// Seconds of compaction without unmapping, and of unmapping.
    std::array<double, 2> move() {
        fill(2);
        tensor.evict(kept);
        keep = true;
        auto start = bench::thread_clock::now();
        throw_if_failed(tensor.try_defragment(defrag::compact{}, plan));
        const double moving = seconds_since(start);
        keep = false;
        start = bench::thread_clock::now();
        tensor.trim();
        return {moving, seconds_since(start)};
    }

    /// Seconds of compaction's row moves alone.
    double move_rows() {
        fill(2);
        tensor.evict(kept);
        const defrag::state now{tensor.positions(), tensor.rows(), tensor.row_bytes()};
        throw_if_failed(defrag::compact{}.plan(now, plan));
        const auto start = bench::thread_clock::now();
        detail::move_rows(tensor.data(), tensor.row_bytes(), plan.rows);
        return seconds_since(start);
    }

    /// Seconds of reading the rows that compaction moves.
    double read_rows() {
        fill(2);
        tensor.evict(kept);
        const defrag::state now{tensor.positions(), tensor.rows(), tensor.row_bytes()};
        throw_if_failed(defrag::compact{}.plan(now, plan));
        const std::size_t row = tensor.row_bytes().count();
        const auto start = bench::thread_clock::now();
        detail::rows_ahead coming{tensor.data(), row, plan.rows};
        coming.ask(6144);
        std::array<std::uint64_t, 8> sums{}; // of lines, all rows are multiples of
        for (const defrag::row_move& one : plan.rows) {
            const std::size_t size = one.count * row;
            coming.ask(size);
            const std::byte* const from = tensor.data() + one.from * row;
            for (std::size_t offset = 0; offset < size; offset += sizeof sums) {
                std::array<std::uint64_t, 8> line{};
                std::memcpy(line.data(), from + offset, sizeof line);
                for (std::size_t part = 0; part < line.size(); ++part)
                    sums[part] += line[part];
            }
        }
        const double spent = seconds_since(start);
        bench::keep(sums[0]);
        return spent;
    }

    /// Bytes a second of a memcpy of `size` bytes from one half of the tensor to the other.
    double copy(std::size_t size) {
        fill(3);
        const auto start = bench::thread_clock::now();
        std::memcpy(tensor.data(), tensor.data() + tensor_size.count() / 2, size);
        const double spent = seconds_since(start);
        bench::keep(tensor.data()[size / 2]);
        return static_cast<double>(size) / spent;
    }
};

/// A median, and how well it is known.
struct known_ratio {
    double median = 1;
    double within = 1; ///< half the interval that it lies in with a probability of 95 %

    explicit known_ratio(const bench::samples& of) : median{of.median()} {
        const double share = 1 / std::sqrt(static_cast<double>(of.count())); // of the ranks, each side
        within = (of.quantile(std::min(1.0, 0.5 + share)) - of.quantile(std::max(0.0, 0.5 - share))) / 2;
    }
};

/// Hybrid's time divided by that of the quickest other policy that gave back as much.
known_ratio hybrid_to_best(const std::array<figures, 4>& found) {
    const figures& hybrid = found[3];
    const figures* best = &found[0];
    for (const std::size_t other : {1u, 2u}) {
        if (found[other].mapped <= hybrid.mapped && found[other].median() < best->median())
            best = &found[other];
    }
    std::vector<double> ratios;
    for (std::size_t round = 0; round < hybrid.whole.size(); ++round)
        ratios.push_back(hybrid.whole[round] / best->whole[round]);
    return known_ratio{bench::samples{ratios}};
}

void measure(bench::report& report, bytes page, bytes row, pattern way) {
    scene now{page, row, way};
    const defrag::hybrid hybrid{measure_costs(now.pool)};
    now.tensor.append(now.tensor.max_rows());
    std::array<figures, 4> found;
    std::vector<double> plain;
    std::vector<double> moving;
    std::vector<double> unmapping;
    std::vector<double> share;
    std::vector<double> rows_alone;
    std::vector<double> share_alone;
    std::vector<double> reading;
    std::vector<double> share_read;
    const auto run_policies = [&](std::size_t round) {
        for (std::size_t turn = 0; turn < found.size(); ++turn) { // each comes first as often as last
            switch ((round + turn) % found.size()) {
            case 0:
                now.run(defrag::compact{}, found[0]);
                break;
            case 1:
                now.run(defrag::swap_with_last{}, found[1]);
                break;
            case 2:
                now.run(defrag::remap{}, found[2]);
                break;
            default:
                now.run(hybrid, found[3]);
            }
        }
    };
    for (std::size_t round = 0; round <= repeats; ++round) {
        if (round == 1) { // the first round only warms up
            found = {};
            plain.clear();
            moving.clear();
            rows_alone.clear();
            reading.clear();
            unmapping.clear();
        }
        const auto [moved, unmapped] = now.move();
        moving.push_back(moved);
        unmapping.push_back(unmapped);
        plain.push_back(now.copy((now.tensor.row_bytes() * now.plan.rows_copied()).count()));
        rows_alone.push_back(now.move_rows());
        reading.push_back(now.read_rows());
        run_policies(round);
    }
    known_ratio hybrid_ratio = hybrid_to_best(found);
    for (std::size_t round = repeats + 1; round <= most_repeats && hybrid_ratio.within > 0.03; ++round) {
        run_policies(round);
        hybrid_ratio = hybrid_to_best(found);
    }
    for (std::size_t round = 0; round < repeats; ++round) {
        share.push_back(found[0].copied / moving[round] / plain[round]);
        share_alone.push_back(found[0].copied / rows_alone[round] / plain[round]);
        share_read.push_back(found[0].copied / reading[round] / plain[round]);
    }
    const std::string name = std::string{pattern_names[static_cast<std::size_t>(way)]} + ", rows " +
                             to_string(row) + ", pages " + to_string(page);
    const bench::samples bandwidth{plain};
    const auto add_bandwidth = [&](const char* metric, const std::vector<double>& seconds,
                                   const std::vector<double>& shares) {
        const bench::samples ratio{shares};
        report.add({.name = name,
                    .metric = metric,
                    .value = found[0].copied / bench::samples{seconds}.median() * 1e-9,
                    .unit = "GB/s",
                    .limit = bandwidth.median() * 1e-9,
                    .ratio = ratio.median(),
                    .spread = ratio.spread(),
                    .repeats = repeats});
    };
    add_bandwidth("reading (compact)", reading, share_read);
    add_bandwidth("row moves (compact)", rows_alone, share_alone);
    add_bandwidth("moving (compact)", moving, share);
    const bench::samples tail{unmapping};
    report.add({.name = name,
                .metric = "unmapping",
                .value = tail.median() * 1e3,
                .unit = "ms",
                .spread = tail.spread(),
                .repeats = repeats});
    constexpr std::array<const char*, 4> policies{"compact", "swap_with_last", "remap", "hybrid"};
    for (std::size_t index = 0; index < policies.size(); ++index) {
        const figures& one = found[index];
        report.add({.name = name,
                    .metric = std::string{"time "} + policies[index],
                    .value = one.median() * 1e3,
                    .unit = "ms",
                    .ratio = index == 3 ? std::optional{hybrid_ratio.median} : std::nullopt,
                    .spread = index == 3 ? hybrid_ratio.within : bench::samples{one.whole}.spread(),
                    .repeats = one.whole.size()});
        report.add({.name = name,
                    .metric = std::string{"copied "} + policies[index],
                    .value = one.copied / (1 << 20),
                    .unit = "MiB",
                    .repeats = repeats});
        report.add({.name = name,
                    .metric = std::string{"remapped "} + policies[index],
                    .value = one.remapped,
                    .unit = "pages",
                    .repeats = repeats});
        report.add({.name = name,
                    .metric = std::string{"mapped after "} + policies[index],
                    .value = static_cast<double>(one.mapped.count()) / (1 << 20),
                    .unit = "MiB",
                    .repeats = repeats});
    }
}

} // namespace

int main(int argc, char** argv) {
    bench::report report{"bench_defrag"};
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB}) {
        for (const bytes row : {256_B, 1_KiB, 4_KiB}) {
            for (const pattern way : {pattern::random, pattern::clusters, pattern::front}) {
                std::cerr << "pages " << to_string(page) << ", rows " << to_string(row) << ", "
                          << pattern_names[static_cast<std::size_t>(way)] << " ...\n";
                measure(report, page, row, way);
            }
        }
    }
    return report.finish(bench::json_option(argc, argv));
}
