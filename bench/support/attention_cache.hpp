// SPDX-License-Identifier: Apache-2.0
//
// What the attention benches attend to: KV caches of random elements in different kinds of memory, and the
// fastest plain read of the same bytes by one thread.
#pragma once

#include <vtensor/attention/detail/highway.hpp>
#include <vtensor/attention/problem.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <vector>

#include <sys/mman.h>

namespace vtensor::bench {

/// Which pages plain memory is made of.
enum class plain_pages : std::uint8_t {
    small, ///< 4 KiB, as those of a memory file
    huge,  ///< 2 MiB where the kernel grants them on advice
};

/// Memory straight from the kernel, as malloc takes it for large blocks.
class plain_memory {
  public:
    plain_memory(std::size_t size, plain_pages pages) : size_{size} {
        data_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data_ == MAP_FAILED)
            throw std::bad_alloc{};
        ::madvise(data_, size, pages == plain_pages::huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    ~plain_memory() { ::munmap(data_, size_); }
    plain_memory(const plain_memory&) = delete;
    plain_memory& operator=(const plain_memory&) = delete;

    [[nodiscard]] void* data() const noexcept { return data_; }

  private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Fills with random elements of [−1, 1).
template <class T>
void fill_random(std::span<T> elements, std::uint32_t seed) {
    std::uint32_t state = seed * 2654435761u + 1;
    for (T& element : elements) {
        state = state * 1664525u + 1013904223u;
        element = from_float<T>(static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f);
    }
}

/// Keys and values of several heads, each head's rows one after the other.
template <class T>
struct kv_cache {
    std::size_t rows = 0;
    std::size_t width = 0;
    std::vector<T*> keys; ///< one a head
    std::vector<T*> values;

    void fill() const {
        for (std::size_t head = 0; head < keys.size(); ++head) {
            fill_random(std::span{keys[head], rows * width}, static_cast<std::uint32_t>(2 * head));
            fill_random(std::span{values[head], rows * width}, static_cast<std::uint32_t>(2 * head + 1));
        }
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return 2 * keys.size() * rows * width * sizeof(T); }

    [[nodiscard]] std::vector<attention::kv_head<T>> heads() const {
        std::vector<attention::kv_head<T>> described(keys.size());
        for (std::size_t head = 0; head < keys.size(); ++head)
            described[head] = {.keys = keys[head],
                               .values = values[head],
                               .key_stride = static_cast<std::ptrdiff_t>(width),
                               .value_stride = static_cast<std::ptrdiff_t>(width),
                               .rows = rows};
        return described;
    }
};

/// A cache cut out of one block of memory.
template <class T>
[[nodiscard]] kv_cache<T> cut(const plain_memory& memory, std::size_t heads, std::size_t rows,
                              std::size_t width) {
    kv_cache<T> cache{.rows = rows, .width = width, .keys = {}, .values = {}};
    auto* next = static_cast<T*>(memory.data());
    for (std::size_t head = 0; head < heads; ++head) {
        cache.keys.push_back(next);
        cache.values.push_back(next + rows * width);
        next += 2 * rows * width;
    }
    return cache;
}

/// In which order a tensor's pages meet the chunks of the memory file.
enum class chunk_order : std::uint8_t { in_order, scrambled };

/// A cache in virtual tensors over the host backend, one tensor a head for keys and one for values.
template <class T>
class mapped_memory {
  public:
    mapped_memory(std::size_t heads, std::size_t rows, std::size_t width, chunk_order order)
        : pool_{backend_, {.chunk_size = 2_MiB}} {
        if (order == chunk_order::scrambled)
            scramble(2 * heads * pages_for(bytes_of(rows, width), 2_MiB).count());
        for (std::size_t index = 0; index < 2 * heads; ++index) {
            tensors_.push_back(std::make_unique<tensor>(pool_, row_shape{width}, rows));
            tensors_.back()->resize(rows);
        }
        cache_ = {.rows = rows, .width = width, .keys = {}, .values = {}};
        for (std::size_t head = 0; head < heads; ++head) {
            cache_.keys.push_back(tensors_[2 * head]->data());
            cache_.values.push_back(tensors_[2 * head + 1]->data());
        }
    }

    [[nodiscard]] const kv_cache<T>& cache() const noexcept { return cache_; }

  private:
    using tensor = virtual_tensor<T, host_backend>;
    using pool = typename tensor::pool_type;

    static vtensor::bytes bytes_of(std::size_t rows, std::size_t width) {
        return vtensor::bytes{rows * width * sizeof(T)};
    }

    /// Takes all chunks and gives them back in random order: the pool hands out the last one first.
    void scramble(std::size_t count) {
        std::vector<typename pool::chunk> chunks(count);
        throw_if_failed(pool_.acquire(chunks));
        std::ranges::shuffle(chunks, std::mt19937{1});
        for (const auto chunk : chunks)
            pool_.release(chunk);
    }

    host_backend backend_;
    pool pool_;
    std::vector<std::unique_ptr<tensor>> tensors_;
    kv_cache<T> cache_;
};

/// Reads every byte once: the sum of all 32-bit words, by vectors in eight chains.
[[nodiscard]] inline std::uint32_t read_all(const void* data, std::size_t size) {
    namespace hn = hwy::HWY_NAMESPACE;
    const hn::ScalableTag<std::uint32_t> words;
    const std::size_t lanes = hn::Lanes(words);
    const auto* next = static_cast<const std::uint32_t*>(data);
    auto sum0 = hn::Zero(words), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    auto sum4 = sum0, sum5 = sum0, sum6 = sum0, sum7 = sum0;
    for (std::size_t left = size / (32 * lanes); left != 0; --left, next += 8 * lanes) {
        sum0 = hn::Add(sum0, hn::Load(words, next));
        sum1 = hn::Add(sum1, hn::Load(words, next + lanes));
        sum2 = hn::Add(sum2, hn::Load(words, next + 2 * lanes));
        sum3 = hn::Add(sum3, hn::Load(words, next + 3 * lanes));
        sum4 = hn::Add(sum4, hn::Load(words, next + 4 * lanes));
        sum5 = hn::Add(sum5, hn::Load(words, next + 5 * lanes));
        sum6 = hn::Add(sum6, hn::Load(words, next + 6 * lanes));
        sum7 = hn::Add(sum7, hn::Load(words, next + 7 * lanes));
    }
    sum0 = hn::Add(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)),
                   hn::Add(hn::Add(sum4, sum5), hn::Add(sum6, sum7)));
    return hn::GetLane(hn::SumOfLanes(words, sum0));
}

} // namespace vtensor::bench
