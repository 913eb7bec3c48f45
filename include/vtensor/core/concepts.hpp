// SPDX-License-Identifier: Apache-2.0
//
// Every concept of the library. A backend maps memory, a growth policy decides how much, an eviction policy
// decides what stays, an executor runs tasks, an attention policy computes on views. The tables in
// docs/concepts.md say what each expression means, returns and refuses; this header is the part of them that
// a compiler can check.
#pragma once

#include <vtensor/core/element.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/mutex.hpp>
#include <vtensor/core/units.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace vtensor {

/// The life of one page of a reservation: reserved → mapped → accessible → retiring → reserved.
enum class page_state : std::uint8_t {
    reserved,   ///< an address without memory: touching it faults
    mapped,     ///< a chunk lies behind it; touching it still faults
    accessible, ///< may be read, and written where the access says so
    retiring,   ///< given up by its tensor, still mapped for work already queued
};

/// What a mapped range allows.
enum class access_mode : std::uint8_t { none, read, read_write };

// ---- backends ----

/// A handle to physical memory: a small value that compares equal to its copies. The default value is no
/// chunk.
template <class C>
concept chunk_handle = std::regular<C> && std::is_trivially_copyable_v<C>;

/// Virtual memory: reserve addresses, create chunks, map one onto the other. Every verb is `noexcept`, may be
/// called from any thread, changes nothing when it fails, and refuses what docs/concepts.md says with the
/// code it says.
template <class B>
concept backend = chunk_handle<typename B::chunk_type> &&
    requires(B& backend, const B& constant, address where, bytes size, typename B::chunk_type chunk,
             access_mode allowed) {
    { constant.granularity() }
    noexcept->std::same_as<bytes>;
    { backend.reserve(size, size) }
    noexcept->std::same_as<result<address>>;
    { backend.release(where, size) }
    noexcept->std::same_as<status>;
    { backend.create(size) }
    noexcept->std::same_as<result<typename B::chunk_type>>;
    { backend.destroy(chunk) }
    noexcept->std::same_as<status>;
    { backend.map(where, chunk) }
    noexcept->std::same_as<status>;
    { backend.set_access(where, size, allowed) }
    noexcept->std::same_as<status>;
    { backend.unmap(where, size) }
    noexcept->std::same_as<status>;
};

/// One chunk may be mapped at several addresses at once.
template <class B>
concept aliasing_backend = backend<B> && requires(const B& constant) {
    { constant.can_alias() }
    noexcept->std::same_as<bool>;
};

/// The CPU may read and write accessible addresses directly.
template <class B>
concept host_visible_backend = backend<B> && requires(const B& constant) {
    { constant.host_visible() }
    noexcept->std::same_as<bool>;
};

/// Work queued on streams, events between them, copies and fills in stream order.
template <class B>
concept stream_ordered_backend = backend<B> && std::copyable<typename B::stream_type> &&
    std::copyable<typename B::event_type> &&
    requires(B& backend, typename B::stream_type stream, typename B::event_type event, address to,
             address from, bytes size, std::byte value) {
    { backend.create_event() }
    noexcept->std::same_as<result<typename B::event_type>>;
    { backend.destroy_event(event) }
    noexcept->std::same_as<status>;
    { backend.record(event, stream) }
    noexcept->std::same_as<status>;
    { backend.query(event) }
    noexcept->std::same_as<result<bool>>;
    { backend.wait(event) }
    noexcept->std::same_as<status>;
    { backend.wait(stream, event) }
    noexcept->std::same_as<status>;
    { backend.copy(to, from, size, stream) }
    noexcept->std::same_as<status>;
    { backend.fill(to, value, size, stream) }
    noexcept->std::same_as<status>;
};

/// A chunk becomes an operating-system handle that another process turns back into a chunk.
template <class B>
concept exportable_backend = backend<B> && std::movable<typename B::os_handle_type> &&
    requires(B& backend, const B& constant, typename B::chunk_type chunk, typename B::os_handle_type handle,
             bytes size) {
    { constant.can_export() }
    noexcept->std::same_as<bool>;
    { backend.export_chunk(chunk) }
    noexcept->std::same_as<result<typename B::os_handle_type>>;
    { backend.import_chunk(std::move(handle), size) }
    noexcept->std::same_as<result<typename B::chunk_type>>;
};

/// Several devices reach the same addresses; each needs its own grant.
template <class B>
concept peer_access_backend = backend<B> && std::regular<typename B::device_type> &&
    requires(B& backend, const B& constant, typename B::device_type device, address where, bytes size,
             access_mode allowed) {
    { constant.can_reach(device) }
    noexcept->std::same_as<bool>;
    { backend.set_peer_access(where, size, allowed, device) }
    noexcept->std::same_as<status>;
};

// ---- policies ----

/// What a growth policy decides from. `needed` ≤ `limit`, `mapped` ≤ `limit`.
struct growth_state {
    page_count mapped; ///< pages that are mapped now
    page_count needed; ///< pages that the rows occupy after the operation
    page_count limit;  ///< pages that the reservation has
};

/// How many pages to have mapped now. The answer is clamped to [needed, limit]; what lies beyond `needed` is
/// a wish, given up when memory is short.
template <class G>
concept growth_policy = std::copyable<G> && requires(const G& policy, const growth_state& state) {
    { policy.target(state) }
    noexcept->std::same_as<page_count>;
};

/// A growth policy that also says how many pages a mapper thread should have mapped before they are needed.
template <class G>
concept look_ahead_policy = growth_policy<G> && requires(const G& policy, const growth_state& state) {
    { policy.ahead(state) }
    noexcept->std::same_as<page_count>;
};

/// What a sharing policy decides from, when the first rows of one tensor are to be those of another too.
struct sharing_state {
    page_count whole;         ///< pages that these rows fill: what can be mapped a second time
    page_count writable;      ///< of them, those that may be written so far, and may not once they are shared
    page_count mapped;        ///< pages that the tensor which receives the rows has mapped already
    bytes page;               ///< one page
    std::size_t aliases = 0;  ///< references to chunks of the pool, beyond the first to each
    bool behind_work = false; ///< on a stream: queued work has to be waited for before pages change
};

/// How many of the whole pages, from the first on, are mapped a second time; the others are copied. Clamped
/// to `whole`.
template <class S>
concept sharing_policy = std::copyable<S> && requires(const S& policy, const sharing_state& state) {
    { policy.pages(state) }
    noexcept->std::same_as<page_count>;
};

/// Where a manager of sequences finds memory when there is none left.
enum class reclaim_source : std::uint8_t {
    look_ahead,  ///< what is mapped for the next tokens of running sequences
    lazily_held, ///< pages of released sequences that hold nothing any more
    prefixes,    ///< recorded prefixes that no sequence uses, the one used longest ago first
    sequences,   ///< running sequences of lower priority, or younger ones of the same: they are preempted
    surplus,     ///< what running sequences have mapped beyond that: they took over pages of longer ones
};

/// What a reclaim policy decides from.
struct reclaim_state {
    bytes missing;               ///< an estimate; 0 where it is not known
    std::uint32_t exhausted = 0; ///< bit s: source s has nothing left

    [[nodiscard]] constexpr bool has(reclaim_source source) const noexcept {
        return (exhausted >> static_cast<unsigned>(source) & 1u) == 0;
    }
};

/// Which source is taken from next; none: give up. Asked again after each piece that was given back.
template <class R>
concept reclaim_policy = std::copyable<R> && requires(const R& policy, const reclaim_state& state) {
    { policy.next(state) }
    noexcept->std::same_as<std::optional<reclaim_source>>;
};

/// What a preemption policy decides from.
struct preemption_state {
    std::size_t tokens = 0;     ///< of the sequence
    std::size_t recorded = 0;   ///< of them, in the prefix tree, where they stay as long as memory allows
    bytes rows;                 ///< keys and values of the tokens
    bool can_be_copied = false; ///< the CPU reaches them
};

/// Whether the rows of a sequence that is preempted are copied to the host's memory, to be copied back; or
/// forgotten, to be computed again.
template <class P>
concept preemption_policy = std::copyable<P> && requires(const P& policy, const preemption_state& state) {
    { policy.keeps_rows(state) }
    noexcept->std::same_as<bool>;
};

/// How far an eviction policy looks before it decides which rows stay.
enum class eviction_scope : std::uint8_t { tensor, layer, model };

/// Chooses rows, never moves them. Its scope is a static constant of the type.
template <class E>
concept eviction_policy = std::copyable<E> && requires {
    { &E::scope } -> std::same_as<const eviction_scope*>;
};

/// An eviction policy that decides from what attention has shown of some layers (`Evidence` each), with
/// memory of its own in a `Workspace`, which rows of every head stay.
template <class E, class Evidence, class Workspace, class Kept>
concept choosing_eviction_policy = eviction_policy<E> &&
    requires(const E& policy, std::span<const Evidence> layers, Workspace& workspace, Kept& kept) {
    { policy.choose(layers, workspace, kept) }
    noexcept->std::same_as<status>;
};

/// Plans how the live rows of a tensor come together: `State` says which rows live, the `Plan` receives moves
/// of rows and of pages. It moves nothing itself.
template <class D, class State, class Plan>
concept defrag_policy = std::copyable<D> && requires(const D& policy, const State& state, Plan& plan) {
    { policy.plan(state, plan) }
    noexcept->std::same_as<status>;
};

// ---- computation ----

/// Runs `task(0) … task(tasks - 1)`, each exactly once, in any order and on any thread, and returns when all
/// are done. Tasks do not throw.
template <class X>
concept task_executor = requires(X& executor, std::size_t tasks, void (&task)(std::size_t)) {
    executor(tasks, task);
};

/// Attention over a `Problem` (queries, keys, values and outputs as views), its tasks handed to an
/// `Executor`. A malformed problem is refused with a code before anything is written.
template <class A, class Problem, class Executor>
concept attention_policy = task_executor<Executor> &&
    requires(const A& attention, const Problem& problem, Executor& executor) {
    { attention(problem, executor) } -> std::same_as<status>;
};

} // namespace vtensor
