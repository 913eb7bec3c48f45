// SPDX-License-Identifier: Apache-2.0
//
// The base of every adaptor: a backend whose verbs go to another backend, each through one function of the
// adaptor, so that an adaptor says only what it adds. The refinements of the upstream are in
// forwarding_refinements.hpp. It decides nothing and adds nothing to what a verb returns.
#pragma once

#include <vtensor/adaptors/call.hpp>
#include <vtensor/adaptors/detail/chunk_table.hpp>
#include <vtensor/adaptors/detail/forwarding_refinements.hpp>
#include <vtensor/core/concepts.hpp>

#include <cstdint>
#include <mutex>

namespace vtensor::adaptors::detail {

/// `Adaptor` has a member `around(const call&, next)` that is `noexcept`, visible to `around_access`, and
/// returns `next()`, which calls the upstream, or a failure instead. It may be called from any thread.
///
/// The size of a chunk that was created or imported through this adaptor is known to the verbs that take the
/// chunk. `create` and `destroy` are therefore one at a time; the other verbs run side by side.
template <backend Upstream, class Adaptor>
class forwarding : public stream_verbs<Upstream, Adaptor>,
                   public export_verbs<Upstream, Adaptor>,
                   public peer_verbs<Upstream, Adaptor> {
  public:
    using upstream_type = Upstream;
    using chunk_type = typename Upstream::chunk_type;

    forwarding(const forwarding&) = delete;
    forwarding& operator=(const forwarding&) = delete;

    /// The backend below, which outlives this one.
    [[nodiscard]] Upstream& upstream() const noexcept { return *upstream_; }

    // ---- queries ----

    [[nodiscard]] bytes granularity() const noexcept { return upstream_->granularity(); }
    [[nodiscard]] bool can_alias() const noexcept requires aliasing_backend<Upstream> {
        return upstream_->can_alias();
    }
    [[nodiscard]] bool host_visible() const noexcept requires host_visible_backend<Upstream> {
        return upstream_->host_visible();
    }

    // ---- verbs ----

    [[nodiscard]] result<address> reserve(bytes size, bytes align) noexcept {
        call seen{verb::reserve, {}, size};
        return through(seen, [&] {
            auto reserved = upstream_->reserve(size, align);
            if (reserved)
                seen.where = *reserved;
            return reserved;
        });
    }
    [[nodiscard]] status release(address where, bytes size) noexcept {
        return through({verb::release, where, size}, [&] { return upstream_->release(where, size); });
    }
    [[nodiscard]] result<chunk_type> create(bytes size) noexcept {
        call seen{verb::create, {}, size};
        return through(seen, [&]() -> result<chunk_type> {
            const std::lock_guard lock{mutex_};
            return remember(upstream_->create(size), seen);
        });
    }
    [[nodiscard]] status destroy(chunk_type chunk) noexcept {
        return through(with_chunk(verb::destroy, {}, chunk), [&] {
            const std::lock_guard lock{mutex_};
            const status outcome = upstream_->destroy(chunk);
            if (outcome)
                known_.remove(chunk);
            return outcome;
        });
    }
    [[nodiscard]] status map(address where, chunk_type chunk) noexcept {
        return through(with_chunk(verb::map, where, chunk), [&] { return upstream_->map(where, chunk); });
    }
    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        return through({verb::set_access, where, size, 0, allowed},
                       [&] { return upstream_->set_access(where, size, allowed); });
    }
    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        return through({verb::unmap, where, size}, [&] { return upstream_->unmap(where, size); });
    }

  protected:
    explicit forwarding(Upstream& upstream) noexcept : upstream_{&upstream} {}
    ~forwarding() = default;

  private:
    friend class export_verbs<Upstream, Adaptor>;

    /// `seen` may be written to by `next`, which has what the backend answered.
    template <class Next>
    auto through(const call& seen, Next next) noexcept {
        return around_access::around(static_cast<Adaptor&>(*this), seen, next);
    }

    /// What is known of a chunk: its size, and its number among those of this adaptor.
    struct chunk_facts {
        bytes size{};
        std::uint64_t number = 0;
    };

    [[nodiscard]] call with_chunk(verb what, address where, const chunk_type& chunk) const noexcept {
        const std::lock_guard lock{mutex_};
        const chunk_facts* const known = known_.find(chunk);
        return known != nullptr ? call{what, where, known->size, known->number} : call{what, where};
    }

    /// Enters a new chunk; where there is no room to do so the chunk is given back. The mutex is held.
    result<chunk_type> remember(result<chunk_type> made, call& seen) noexcept {
        if (!made)
            return made;
        if (!known_.add(*made, chunk_facts{seen.size, last_number_ + 1})) {
            static_cast<void>(upstream_->destroy(*made));
            return error{errc::out_of_memory, seen.what, 0, seen.size};
        }
        seen.chunk = ++last_number_;
        return made;
    }

    Upstream* upstream_;
    mutable std::mutex mutex_; ///< guards what is below
    chunk_table<chunk_type, chunk_facts> known_;
    std::uint64_t last_number_ = 0;
};

} // namespace vtensor::adaptors::detail
