// SPDX-License-Identifier: Apache-2.0
#include "app/kv_memory.hpp"

#include "io/input_error.hpp"

#include <vtensor/backends/host.hpp>

#include <utility>

namespace decoder {

namespace {

class host_memory final : public kv_memory {
  public:
    explicit host_memory(bool huge_pages)
        : backend_{{.pages = huge_pages ? vtensor::host_pages::huge : vtensor::host_pages::system}} {}

    [[nodiscard]] vtensor::bytes granularity() const noexcept override { return backend_.granularity(); }
    [[nodiscard]] std::unique_ptr<kv_cache> make_cache(const kv_shape& shape,
                                                       const kv_options& options) override {
        return make_kv_cache(backend_, shape, options);
    }
    [[nodiscard]] std::unique_ptr<kv_cache> make_evicting_cache(const kv_shape& shape,
                                                                const kv_options& options,
                                                                eviction_options&& eviction) override {
        eviction.counted = [this] { return backend_.kernel_physical_bytes(); };
        return decoder::make_evicting_cache(backend_, shape, options, std::move(eviction));
    }
    [[nodiscard]] std::unique_ptr<managed_sequences> make_sequences(const kv_shape& shape,
                                                                    const kv_options& options) override {
        return make_managed_sequences(backend_, shape, options);
    }
    [[nodiscard]] memory_facts facts() override {
        return {backend_.describe(), std::string{backend_.huge_pages().reason}, "kernel",
                "st_blocks of the memory file", backend_.kernel_physical_bytes()};
    }

  private:
    vtensor::host_backend backend_;
};

} // namespace

std::unique_ptr<kv_cache> kv_memory::make_evicting_cache(const kv_shape&, const kv_options&,
                                                         eviction_options&&) {
    refuse("--evict is for --backend host; leave one of them out");
}

std::unique_ptr<managed_sequences> kv_memory::make_sequences(const kv_shape&, const kv_options&) {
    refuse("--batch is for --backend host; leave one of them out");
}

std::unique_ptr<kv_memory> open_memory(memory_kind kind, bool huge_pages) {
    switch (kind) {
    case memory_kind::host:
        return std::make_unique<host_memory>(huge_pages);
    case memory_kind::cuda:
        return open_cuda_memory();
    case memory_kind::cuda_sim:
        return open_simulated_cuda_memory();
    }
    return nullptr;
}

} // namespace decoder
