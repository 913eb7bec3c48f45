// SPDX-License-Identifier: Apache-2.0
//
// The HIP backend: the contract over the runtime's virtual memory (hipMem*). Nothing of ROCm is needed to
// build it, and the runtime is loaded when a backend is made: a program with it starts on a machine without a
// GPU and is told that there is none. docs/device-backends.md is its manual.
#pragma once

#include <vtensor/backends/detail/device_backend.hpp>
#include <vtensor/backends/hip/driver.hpp>
#include <vtensor/backends/hip/open.hpp>
#include <vtensor/core/concepts.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vtensor {

/// How to make a `hip_backend`.
struct hip_options {
    int device = 0; ///< ordinal as HIP_VISIBLE_DEVICES counts
    granularity_choice granularity = granularity_choice::minimum;
    /// The most mappings that may exist at once; 0 leaves it to the runtime.
    std::size_t max_mappings = 0;
    /// Devices that are given access whenever this one is.
    std::vector<int> peers{};
    /// Whether chunks can be exported. Off where it does not work: see `report()`.
    sharing_wish sharing = sharing_wish::none;
    /// Chunks that RDMA may register. Off where it does not work: see `report()`.
    bool gpu_direct_rdma = false;
    /// Where virtual memory does not work, a reservation is a plain allocation of its whole size, and mapping
    /// is book-keeping: a chunk's bytes do not follow it to another address, and `can_alias()` is false.
    /// False: then there is no backend.
    bool allow_plain_allocation = true;
    remap_callback on_remap{};
    /// In place of what hip/quirks.hpp says of the runtime and the device.
    std::optional<device_quirks> quirks{};
    /// A table to use instead of loading the runtime.
    std::optional<hip_driver> driver{};
};

/// Memory of one HIP device. Verbs may be called from any thread: the device is made current around each call
/// where it is not already. Not movable: pools and tensors point at it and must be gone before it. What was
/// left reserved or created goes with it. `device_vmm.hpp` has the verbs, `device_streams.hpp` streams and
/// events, `device_sharing.hpp` export and import.
class hip_backend : public detail::device_sharing<hip::api> {
  public:
    using options_type = hip_options;
    using opening = backend_opening<hip_backend>;

    /// Throws `device_failure` where there is no runtime, no such device, or it cannot be used;
    /// `out_of_memory` where there is too little to try it.
    explicit hip_backend(const hip_options& options = {})
        : detail::device_sharing<hip::api>{detail::device_or_throw(open(options))} {}

    /// The same without exceptions: a backend, or the code and the sentence.
    [[nodiscard]] static opening try_open(const hip_options& options = {}) noexcept {
        return detail::try_open<hip_backend>([&] { return open(options); });
    }

    /// Whether reservations are plain allocations; `report().virtual_memory.reason` says why.
    [[nodiscard]] bool is_plain() const noexcept { return this->native_.plain(); }
    [[nodiscard]] const device_quirks& quirks() const noexcept { return this->native_.quirks(); }

  private:
    template <class Backend, class Open>
    friend backend_opening<Backend> detail::try_open(Open) noexcept;

    explicit hip_backend(detail::opened_device<hip::api>&& opened)
        : detail::device_sharing<hip::api>{std::move(opened)} {}

    static detail::device_opening<hip::api> open(const hip_options& options) {
        hip_driver driver;
        if (options.driver) {
            driver = *options.driver;
        } else {
            auto loaded = load_hip_driver();
            if (!loaded)
                return {std::nullopt, loaded.failure, std::move(loaded.reason)};
            driver = loaded.driver;
        }
        return hip::open_device(driver, options.device, options.quirks,
                                {.granularity = options.granularity,
                                 .max_mappings = options.max_mappings,
                                 .sharing = options.sharing,
                                 .gpu_direct_rdma = options.gpu_direct_rdma,
                                 .plain_where_broken = options.allow_plain_allocation,
                                 .peers = options.peers,
                                 .on_remap = options.on_remap,
                                 .quirks = {}});
    }
};

static_assert(backend<hip_backend>);
static_assert(aliasing_backend<hip_backend>);
static_assert(host_visible_backend<hip_backend>); // the query says no
static_assert(stream_ordered_backend<hip_backend>);
static_assert(exportable_backend<hip_backend>);
static_assert(peer_access_backend<hip_backend>);

} // namespace vtensor
