// SPDX-License-Identifier: Apache-2.0
// How close does attention on the CPU come to what one thread can read, what do scores cost, and does it
// matter that the cache lies in mapped memory?
//
// decode: one query on 8 KV heads of 131,072 rows of 128 elements (half-precision: 512 MiB of keys and
// values; float32: 65,536 rows), G query heads a KV head, one thread. The value is bytes of keys and values a
// second; the limit is what a plain vectorised sum over the same bytes reads, interleaved with the kernel;
// the ratio compares the two round by round. 2 MiB pages. decode+scores: the same with the probabilities
// written; the ratio is its time over the time without. prefill: 2,048 queries on 2,048 rows, not causal, 4
// query heads on 1 KV head: 4 · queries · rows · width · heads operations. mapped/plain: decode over virtual
// tensors against decode over plain memory, both of 4 KiB pages (a memory file has no others unless the
// machine allows huge pages for shared memory); the ratio is the time over mapped memory divided by the time
// over plain memory.
#include "support/attention_cache.hpp"
#include "support/bench_report.hpp"

#include <vtensor/attention/host.hpp>

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using namespace vtensor::bench;

namespace {

constexpr std::size_t width = 128;
constexpr std::size_t kv_heads = 8;
constexpr std::size_t cache_bytes = std::size_t{512} << 20;
constexpr std::size_t repeats = 15;

template <class T>
inline constexpr std::size_t rows_of = cache_bytes / (2 * kv_heads * width * sizeof(T));

template <class T>
const char* const name_of = "f32";
template <>
const char* const name_of<float16> = "f16";
template <>
const char* const name_of<bfloat16> = "bf16";

void attend_or_throw(const status& outcome) { throw_if_failed(outcome); }

/// One query on every head of a cache, its memory included.
template <class T>
class decode_step {
  public:
    decode_step(const kv_cache<T>& cache, std::size_t group, bool scored)
        : heads_{cache.heads()},
          queries_(group * heads_.size() * width),
          output_(queries_.size()),
          scores_{std::max<std::size_t>(1, scored ? group * heads_.size() * cache.rows * sizeof(float) : 0),
                  plain_pages::huge} {
        fill_random(std::span{queries_}, 99);
        const std::size_t query_heads = group * heads_.size();
        one_ = {.queries = make_view(std::as_const(queries_).data(), 1, query_heads, width),
                .heads = heads_,
                .output = make_view(output_.data(), 1, query_heads, width)};
        if (scored)
            one_.scores = make_view(static_cast<float*>(scores_.data()), query_heads, 1, cache.rows);
    }
    decode_step(const decode_step&) = delete;
    decode_step& operator=(const decode_step&) = delete;

    void operator()() const {
        attend_or_throw(
            attention::host{}(attention::problem<T>{.sequences = {&one_, 1}}, attention::inline_executor{}));
        keep(output_);
    }

  private:
    std::vector<attention::kv_head<T>> heads_;
    std::vector<float> queries_;
    std::vector<float> output_;
    plain_memory scores_;
    attention::sequence<T> one_;
};

double gigabytes_a_second(std::size_t bytes, double seconds) {
    return static_cast<double>(bytes) / seconds * 1e-9;
}

template <class T>
void measure_decode(report& results, const kv_cache<T>& cache, std::size_t group) {
    const decode_step<T> step{cache, group, false};
    const auto read = [&] { keep(read_all(cache.keys[0], cache.bytes())); };
    const auto timed = interleave<thread_clock>(repeats, read, step);
    results.add({.name = std::string{"decode "} + name_of<T> + " G=" + std::to_string(group),
                 .metric = "KV read",
                 .value = gigabytes_a_second(cache.bytes(), timed.seconds(1).median()),
                 .unit = "GB/s",
                 .limit = gigabytes_a_second(cache.bytes(), timed.seconds(0).median()),
                 .ratio = timed.ratio(0, 1).median(),
                 .spread = timed.ratio(0, 1).spread(),
                 .repeats = repeats});
}

template <class T>
void measure_scores(report& results, const kv_cache<T>& cache, std::size_t group) {
    const decode_step<T> without{cache, group, false};
    const decode_step<T> with{cache, group, true};
    const auto timed = interleave<thread_clock>(repeats, without, with);
    results.add({.name = std::string{"decode+scores "} + name_of<T> + " G=" + std::to_string(group),
                 .metric = "time",
                 .value = timed.seconds(1).median() * 1e3,
                 .unit = "ms",
                 .limit = timed.seconds(0).median() * 1e3,
                 .ratio = timed.ratio(1, 0).median(),
                 .spread = timed.ratio(1, 0).spread(),
                 .repeats = repeats});
}

template <class T>
void measure_decode_cases(report& results, std::initializer_list<std::size_t> groups,
                          std::initializer_list<std::size_t> scored_groups) {
    const plain_memory memory{cache_bytes, plain_pages::huge};
    const auto cache = cut<T>(memory, kv_heads, rows_of<T>, width);
    cache.fill();
    for (const std::size_t group : groups)
        measure_decode(results, cache, group);
    for (const std::size_t group : scored_groups)
        measure_scores(results, cache, group);
}

template <class T>
void measure_prefill(report& results) {
    constexpr std::size_t length = 2048;
    constexpr std::size_t group = 4;
    const plain_memory memory{2 * length * width * sizeof(T), plain_pages::huge};
    const auto cache = cut<T>(memory, 1, length, width);
    cache.fill();
    const auto heads = cache.heads();
    std::vector<float> queries(length * group * width);
    std::vector<float> output(queries.size());
    fill_random(std::span{queries}, 7);
    const attention::sequence<T> one{.queries =
                                         make_view(std::as_const(queries).data(), length, group, width),
                                     .heads = heads,
                                     .output = make_view(output.data(), length, group, width)};
    const auto attend = [&] {
        attend_or_throw(
            attention::host{}(attention::problem<T>{.sequences = {&one, 1}, .options = {.causal = false}},
                              attention::inline_executor{}));
        keep(output);
    };
    const auto timed = interleave<thread_clock>(5, attend);
    const double operations = 4.0 * length * length * width * group;
    results.add({.name = std::string{"prefill "} + name_of<T> + " 2048x2048",
                 .metric = "arithmetic",
                 .value = operations / timed.seconds(0).median() * 1e-9,
                 .unit = "GFLOP/s",
                 .spread = timed.seconds(0).spread(),
                 .repeats = 5});
}

void measure_mapped(report& results) {
    using T = float16;
    const plain_memory memory{cache_bytes, plain_pages::small};
    const auto plain_cache = cut<T>(memory, kv_heads, rows_of<T>, width);
    plain_cache.fill();
    const decode_step<T> plain{plain_cache, 4, false};
    const auto against = [&](chunk_order order, const char* name) {
        const mapped_memory<T> mapped_rows{kv_heads, rows_of<T>, width, order};
        mapped_rows.cache().fill();
        const decode_step<T> mapped{mapped_rows.cache(), 4, false};
        const auto timed = interleave<thread_clock>(2 * repeats, plain, mapped);
        results.add({.name = name,
                     .metric = "time",
                     .value = timed.seconds(1).median() * 1e3,
                     .unit = "ms",
                     .limit = timed.seconds(0).median() * 1e3,
                     .ratio = timed.ratio(1, 0).median(),
                     .spread = timed.ratio(1, 0).spread(),
                     .repeats = 2 * repeats});
    };
    against(chunk_order::in_order, "mapped/plain");
    against(chunk_order::scrambled, "mapped/plain scrambled");
}

void measure(report& results) {
    measure_decode_cases<float16>(results, {1, 4, 8}, {4, 8});
    measure_decode_cases<bfloat16>(results, {1, 4, 8}, {});
    measure_decode_cases<float>(results, {1, 4, 8}, {});
    measure_prefill<float>(results);
    measure_prefill<float16>(results);
    measure_prefill<bfloat16>(results);
    measure_mapped(results);
}

} // namespace

int main(int count, char** arguments) {
    try {
        report results{"bench_attention_host"};
        measure(results);
        return results.finish(json_option(count, arguments));
    } catch (const std::exception& failure) {
        std::cerr << "bench_attention_host: " << failure.what() << '\n';
        return 2;
    }
}
