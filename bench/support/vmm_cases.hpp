// SPDX-License-Identifier: Apache-2.0
//
// What a device's virtual memory costs through the library: each verb by chunk size and batch, and growth
// cold, pooled, at once and page by page, beside the bare calls of the driver. It knows no kernel, so that
// the same is measured over a simulated driver.
#pragma once

#include "bench_report.hpp"

#include <vtensor/backends/chunk_size.hpp>
#include <vtensor/backends/cuda/driver.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

namespace vtensor::bench {

/// How much is measured. `prefix` begins every case.
struct vmm_plan {
    std::string prefix{};
    std::size_t tensors = 64; ///< 32 layers of keys and values
    std::size_t pages = 32;   ///< by which each grows
    bytes page = 2_MiB;
    std::size_t repeats = 15;
    bytes most = 8_GiB; ///< of physical memory in one measurement
};

[[nodiscard]] inline std::string short_name(bytes size) {
    std::string text = to_string(size);
    text.erase(text.find(' '), 1);
    return text;
}
[[nodiscard]] inline double gigabytes(bytes size) noexcept { return static_cast<double>(size.count()) / 1e9; }

template <class Work>
[[nodiscard]] double seconds_of(Work work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// ---- verbs ----

/// Microseconds a chunk of every verb: chunks one by one, and runs with one set-access and one unmap.
template <backend Backend>
void measure_verbs(report& to, Backend& backend, const vmm_plan& plan) {
    using nanoseconds = std::chrono::nanoseconds;
    using member = nanoseconds chunk_cost::*;
    struct figure {
        const char* verb;
        member cost;
        bool by_run; ///< one call for the whole run
    };
    static constexpr figure figures[] = {{"create", &chunk_cost::create, false},
                                         {"map", &chunk_cost::map, false},
                                         {"set access", &chunk_cost::set_access, true},
                                         {"unmap", &chunk_cost::unmap, true},
                                         {"destroy", &chunk_cost::destroy, false}};
    for (const bytes size : {2_MiB, 16_MiB, 64_MiB, 256_MiB}) {
        if (size % backend.granularity() != bytes{0})
            continue;
        std::array<double, std::size(figures)> alone{};
        for (const std::size_t batch : {std::size_t{1}, std::size_t{16}, std::size_t{256}}) {
            if (size * batch > plan.most)
                continue;
            std::vector<chunk_cost> costs;
            for (std::size_t round = 0; round <= plan.repeats; ++round) {
                const chunk_cost cost = measure_chunk_cost(backend, size, batch).value();
                if (round > 0) // the first warms up
                    costs.push_back(cost);
            }
            for (std::size_t index = 0; index < std::size(figures); ++index) {
                const figure& one = figures[index];
                std::vector<double> micros;
                for (const chunk_cost& cost : costs)
                    micros.push_back(static_cast<double>((cost.*one.cost).count()) / 1e3);
                const samples timed{std::move(micros)};
                if (batch == 1)
                    alone[index] = timed.median();
                record line{.name = plan.prefix + short_name(size) + " x " + std::to_string(batch),
                            .metric = one.verb,
                            .value = timed.median(),
                            .unit = "us/chunk",
                            .spread = timed.spread(),
                            .repeats = timed.count()};
                if (one.by_run && batch > 1) { // how many times cheaper than chunk by chunk
                    line.limit = alone[index];
                    line.ratio = alone[index] / timed.median();
                }
                to.add(std::move(line));
            }
        }
    }
}

// ---- growth ----

/// The calls of the driver that growing comes down to, without any book-keeping: chunks and addresses for
/// some tensors. Throws std::runtime_error where the driver refuses.
class bare_calls {
  public:
    bare_calls(const cuda_driver& driver, int device, const vmm_plan& plan)
        : driver_{driver}, device_{device}, plan_{plan} {
        need(driver_.device_primary_ctx_retain(&context_, device_));
        need(driver_.ctx_push_current(context_));
        cuda::abi::allocation_prop made{};
        made.type = cuda::abi::allocation_type::pinned;
        made.location = {cuda::abi::location_type::device, device_};
        for (std::size_t index = 0; index < plan_.tensors; ++index) {
            ranges_.push_back(0);
            need(driver_.mem_address_reserve(&ranges_.back(), run(), 0, 0, 0));
        }
        for (std::size_t index = 0; index < plan_.tensors * plan_.pages; ++index) {
            chunks_.push_back(0);
            need(driver_.mem_create(&chunks_.back(), plan_.page.count(), &made, 0));
        }
    }
    bare_calls(const bare_calls&) = delete;
    bare_calls& operator=(const bare_calls&) = delete;
    ~bare_calls() {
        for (const auto chunk : chunks_)
            driver_.mem_release(chunk);
        for (const auto range : ranges_)
            driver_.mem_address_free(range, run());
        driver_.ctx_pop_current(&context_);
        driver_.device_primary_ctx_release(device_);
    }

    void grow() {
        const cuda::abi::access_desc access{{cuda::abi::location_type::device, device_},
                                            cuda::abi::access_flags::read_write};
        for (std::size_t tensor = 0; tensor < plan_.tensors; ++tensor) {
            for (std::size_t page = 0; page < plan_.pages; ++page)
                need(driver_.mem_map(ranges_[tensor] + page * plan_.page.count(), plan_.page.count(), 0,
                                     chunks_[tensor * plan_.pages + page], 0));
            need(driver_.mem_set_access(ranges_[tensor], run(), &access, 1));
        }
    }
    void shrink() {
        for (const auto range : ranges_)
            need(driver_.mem_unmap(range, run()));
    }

  private:
    [[nodiscard]] std::size_t run() const noexcept { return (plan_.page * plan_.pages).count(); }
    static void need(int code) {
        if (code != cuda::abi::code::success)
            throw std::runtime_error{"the driver gives " + std::to_string(code)};
    }

    cuda_driver driver_;
    int device_;
    vmm_plan plan_;
    cuda::abi::context context_ = nullptr;
    std::vector<cuda::abi::device_pointer> ranges_;
    std::vector<cuda::abi::allocation_handle> chunks_;
};

/// Tensors of one page a row on one pool, which grow and shrink together.
template <backend Backend>
class tensor_set {
  public:
    tensor_set(Backend& backend, const vmm_plan& plan)
        : plan_{plan}, pool_{backend, {.chunk_size = plan.page}} {
        for (std::size_t index = 0; index < plan_.tensors; ++index)
            tensors_.emplace_back(pool_, row_shape{plan_.page.count()}, plan_.pages);
    }

    /// Each tensor by all its pages: one set-access a tensor.
    void grow_at_once() {
        for (auto& tensor : tensors_)
            tensor.resize(plan_.pages);
    }
    /// Page by page, tensor after tensor: one set-access a page.
    void grow_by_pages() {
        for (std::size_t page = 1; page <= plan_.pages; ++page) {
            for (auto& tensor : tensors_)
                tensor.resize(page);
        }
    }
    void shrink() {
        for (auto& tensor : tensors_)
            tensor.resize(0);
    }
    void empty_pool() { throw_if_failed(pool_.trim(0)); }
    void fill_pool() { throw_if_failed(pool_.prefill(plan_.tensors * plan_.pages)); }
    [[nodiscard]] bytes grown() const noexcept { return plan_.page * plan_.pages * plan_.tensors; }

  private:
    vmm_plan plan_;
    chunk_pool<Backend> pool_;
    std::vector<virtual_tensor<std::byte, Backend>> tensors_;
};

[[nodiscard]] inline std::string growth_name(const vmm_plan& plan) {
    return plan.prefix + "grow " + std::to_string(plan.tensors) + " x " + short_name(plan.page * plan.pages);
}

/// `driver` and `device` are those of the backend.
template <backend Backend>
void measure_growth(report& to, Backend& backend, const cuda_driver& driver, int device,
                    const vmm_plan& plan) {
    enum { at_once, by_pages, cold, bare, shrinking, kinds };
    rounds<kinds> timed{plan.repeats};
    const double size = gigabytes(plan.page * plan.pages * plan.tensors);
    {
        tensor_set<Backend> set{backend, plan};
        bare_calls calls{driver, device, plan};
        for (std::size_t round = 0; round <= plan.repeats; ++round) {
            std::array<double, kinds> now{};
            set.empty_pool();
            now[cold] = seconds_of([&] { set.grow_at_once(); });
            set.shrink();
            now[at_once] = seconds_of([&] { set.grow_at_once(); });
            now[shrinking] = seconds_of([&] { set.shrink(); });
            now[by_pages] = seconds_of([&] { set.grow_by_pages(); });
            set.shrink();
            now[bare] = seconds_of([&] { calls.grow(); });
            calls.shrink();
            if (round > 0) // the first warms up
                timed[round - 1] = now;
        }
    }
    const std::string name = growth_name(plan);
    const auto rate = [&](std::size_t kind) { return size / timed.seconds(kind).median(); };
    const auto add = [&](const char* metric, std::size_t kind) {
        const samples seconds = timed.seconds(kind);
        to.add({.name = name,
                .metric = metric,
                .value = rate(kind),
                .unit = "GB/s",
                .spread = seconds.spread(),
                .repeats = seconds.count()});
    };
    add("by pages", by_pages);
    add("cold", cold);
    add("shrinking", shrinking);
    // Time through the library divided by the time of the driver's calls alone.
    const samples over_bare = timed.ratio(at_once, bare);
    to.add({.name = name,
            .metric = "at once",
            .value = rate(at_once),
            .unit = "GB/s",
            .limit = rate(bare),
            .ratio = over_bare.median(),
            .spread = over_bare.spread(),
            .repeats = over_bare.count()});
    // How many times faster than with one set-access a page.
    const samples faster = timed.ratio(by_pages, at_once);
    to.add({.name = name,
            .metric = "pages / at once",
            .value = timed.seconds(at_once).median() * 1e3,
            .unit = "ms",
            .limit = timed.seconds(by_pages).median() * 1e3,
            .ratio = faster.median(),
            .spread = faster.spread(),
            .repeats = faster.count()});
}

} // namespace vtensor::bench
