// SPDX-License-Identifier: Apache-2.0
//
// A chunk as a pool sees it: the backend's handle with a reference count, an owner, and its place in the
// pool's lists. Plain data; the pool alone changes it.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <boost/intrusive/list.hpp>

#include <cstddef>
#include <cstdint>

namespace vtensor {

/// Whose data a chunk holds, for pools that keep owners apart: a tenant, a user, a request. Any number of the
/// caller's choosing; 0 where he does not care.
enum class owner_id : std::uint64_t {};

namespace detail {

template <backend Backend>
struct chunk_node : boost::intrusive::list_base_hook<> {
    typename Backend::chunk_type handle{};
    std::size_t references = 0;
    owner_id owner{};
    owner_id written_by{}; ///< meaningful where `written`
    bool written = false;  ///< some owner has seen it since it was created
};

template <backend Backend>
using chunk_list = boost::intrusive::list<chunk_node<Backend>>;

} // namespace detail

template <backend Backend, mutex_type Mutex>
class chunk_pool;

/// One reference to a pool's chunk: a pointer in size, copied freely, counted by hand through the pool. The
/// default value is no chunk.
template <backend Backend>
class pooled_chunk {
  public:
    constexpr pooled_chunk() noexcept = default;

    /// The backend's own handle, for mapping it.
    [[nodiscard]] typename Backend::chunk_type handle() const noexcept { return entry_->handle; }
    explicit constexpr operator bool() const noexcept { return entry_ != nullptr; }
    friend constexpr bool operator==(pooled_chunk, pooled_chunk) noexcept = default;

  private:
    template <backend B, mutex_type M>
    friend class chunk_pool;

    explicit constexpr pooled_chunk(detail::chunk_node<Backend>& entry) noexcept : entry_{&entry} {}

    detail::chunk_node<Backend>* entry_ = nullptr;
};

} // namespace vtensor
