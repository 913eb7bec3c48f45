// SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend: the contract over the driver's virtual memory (cuMem*). Nothing of the toolkit is needed
// to build it, and the driver is loaded when a backend is made: a program with it starts on a machine without
// a GPU and is told that there is none. docs/device-backends.md is its manual.
#pragma once

#include <vtensor/backends/cuda/driver.hpp>
#include <vtensor/backends/cuda/open.hpp>
#include <vtensor/backends/detail/device_backend.hpp>
#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vtensor {

/// How to make a `cuda_backend`.
struct cuda_options {
    int device = 0; ///< ordinal as CUDA_VISIBLE_DEVICES counts; not read where `context` is given
    /// The caller's own context, which must outlive the backend. Null: the device's primary context, which
    /// the runtime API uses too, is retained.
    CUctx_st* context = nullptr;
    granularity_choice granularity = granularity_choice::minimum;
    /// The most mappings that may exist at once; 0 leaves it to the driver.
    std::size_t max_mappings = 0;
    /// Devices that are given access whenever this one is.
    std::vector<int> peers{};
    /// Whether chunks can be exported, and as what. Off where it does not work: see `report()`.
    sharing_wish sharing = sharing_wish::none;
    /// Chunks that GPUDirect RDMA may register. Off where it does not work: see `report()`.
    bool gpu_direct_rdma = false;
    remap_callback on_remap{};
    /// A table to use instead of loading the driver.
    std::optional<cuda_driver> driver{};
};

/// Memory of one CUDA device. Verbs may be called from any thread: the context is made current around each
/// call where it is not already. Not movable: pools and tensors point at it and must be gone before it. What
/// was left reserved or created goes with it. `device_vmm.hpp` has the verbs, `device_streams.hpp` streams
/// and events, `device_sharing.hpp` export and import.
class cuda_backend : public detail::device_sharing<cuda::api> {
  public:
    using options_type = cuda_options;
    using opening = backend_opening<cuda_backend>;

    /// Throws `device_failure` where there is no driver, no such device, or virtual memory does not work on
    /// it; `out_of_memory` where there is too little to try it.
    explicit cuda_backend(const cuda_options& options = {})
        : detail::device_sharing<cuda::api>{detail::device_or_throw(open(options))} {}

    /// The same without exceptions: a backend, or the code and the sentence.
    [[nodiscard]] static opening try_open(const cuda_options& options = {}) noexcept {
        return detail::try_open<cuda_backend>([&] { return open(options); });
    }

  private:
    template <class Backend, class Open>
    friend backend_opening<Backend> detail::try_open(Open) noexcept;

    explicit cuda_backend(detail::opened_device<cuda::api>&& opened)
        : detail::device_sharing<cuda::api>{std::move(opened)} {}

    static detail::device_opening<cuda::api> open(const cuda_options& options) {
        cuda_driver driver;
        if (options.driver) {
            driver = *options.driver;
        } else {
            auto loaded = load_cuda_driver();
            if (!loaded)
                return {std::nullopt, loaded.failure, std::move(loaded.reason)};
            driver = loaded.driver;
        }
        return cuda::open_device(driver, options.device, options.context,
                                 {.granularity = options.granularity,
                                  .max_mappings = options.max_mappings,
                                  .sharing = options.sharing,
                                  .gpu_direct_rdma = options.gpu_direct_rdma,
                                  .plain_where_broken = false,
                                  .peers = options.peers,
                                  .on_remap = options.on_remap,
                                  .quirks = {}});
    }
};

static_assert(backend<cuda_backend>);
static_assert(aliasing_backend<cuda_backend>);
static_assert(host_visible_backend<cuda_backend>); // the query says no
static_assert(stream_ordered_backend<cuda_backend>);
static_assert(exportable_backend<cuda_backend>);
static_assert(peer_access_backend<cuda_backend>);

} // namespace vtensor
