// SPDX-License-Identifier: Apache-2.0
// Types that are each wrong in exactly one way. That this compiles is most of the test.
#include "minimal_backend.hpp"

#include <support/catch.hpp>

#include <string>
#include <utility>

// Not an unnamed namespace: most of these types are only declared, and compilers warn of unused functions.
namespace vtensor::testing {

// ---- what is well formed ----

static_assert(backend<minimal_backend>);
static_assert(backend<minimal_aliasing> && aliasing_backend<minimal_aliasing>);
static_assert(backend<minimal_host_visible> && host_visible_backend<minimal_host_visible>);
static_assert(backend<minimal_streams> && stream_ordered_backend<minimal_streams>);
static_assert(backend<minimal_export> && exportable_backend<minimal_export>);
static_assert(backend<minimal_peers> && peer_access_backend<minimal_peers>);

// A refinement is had by nobody who does not state it.
static_assert(!aliasing_backend<minimal_backend> && !host_visible_backend<minimal_backend>);
static_assert(!stream_ordered_backend<minimal_backend> && !exportable_backend<minimal_backend>);
static_assert(!peer_access_backend<minimal_backend>);

// ---- chunk handles ----

static_assert(chunk_handle<int> && chunk_handle<void*>);
struct chunk_without_equality {};
struct chunk_without_default {
    explicit chunk_without_default(int) {}
    friend bool operator==(chunk_without_default, chunk_without_default) = default;
};
struct chunk_that_owns {
    std::string name;
    friend bool operator==(const chunk_that_owns&, const chunk_that_owns&) = default;
};
struct chunk_that_moves {
    std::unique_ptr<int> value;
    friend bool operator==(const chunk_that_moves&, const chunk_that_moves&) = default;
};
static_assert(!chunk_handle<chunk_without_equality>);
static_assert(!chunk_handle<chunk_without_default>);
static_assert(!chunk_handle<chunk_that_owns>); // not trivially copyable
static_assert(!chunk_handle<chunk_that_moves>);
static_assert(!chunk_handle<const int> && !chunk_handle<int&> && !chunk_handle<void>);

// ---- backend: one verb missing, answering something else, or throwing ----

static_assert(!backend<int> && !backend<void> && !backend<minimal_backend&> && !backend<minimal_backend*>);

struct no_chunk_type {
    bytes granularity() const noexcept;
    result<address> reserve(bytes, bytes) noexcept;
    status release(address, bytes) noexcept;
    result<int> create(bytes) noexcept;
    status destroy(int) noexcept;
    status map(address, int) noexcept;
    status set_access(address, bytes, access_mode) noexcept;
    status unmap(address, bytes) noexcept;
};
static_assert(!backend<no_chunk_type>);

template <class Chunk>
struct backend_with_chunk {
    using chunk_type = Chunk;
    bytes granularity() const noexcept;
    result<address> reserve(bytes, bytes) noexcept;
    status release(address, bytes) noexcept;
    result<Chunk> create(bytes) noexcept;
    status destroy(Chunk) noexcept;
    status map(address, Chunk) noexcept;
    status set_access(address, bytes, access_mode) noexcept;
    status unmap(address, bytes) noexcept;
};
static_assert(backend<backend_with_chunk<long>>);
static_assert(!backend<backend_with_chunk<chunk_without_equality>>);
static_assert(!backend<backend_with_chunk<chunk_that_owns>>);

struct no_granularity : minimal_backend {
    bytes granularity() const noexcept = delete;
};
struct granularity_is_a_number : minimal_backend {
    std::size_t granularity() const noexcept;
};
struct granularity_throws : minimal_backend {
    bytes granularity() const;
};
struct granularity_not_const : minimal_backend {
    bytes granularity() noexcept;
};
static_assert(!backend<no_granularity> && !backend<granularity_is_a_number>);
static_assert(!backend<granularity_throws> && !backend<granularity_not_const>);

struct no_reserve : minimal_backend {
    result<address> reserve(bytes, bytes) noexcept = delete;
};
struct reserve_without_alignment : minimal_backend {
    result<address> reserve(bytes) noexcept;
};
struct reserve_answers_a_pointer : minimal_backend {
    void* reserve(bytes, bytes) noexcept;
};
struct reserve_throws : minimal_backend {
    result<address> reserve(bytes, bytes);
};
static_assert(!backend<no_reserve> && !backend<reserve_without_alignment>);
static_assert(!backend<reserve_answers_a_pointer> && !backend<reserve_throws>);

struct no_release : minimal_backend {
    status release(address, bytes) noexcept = delete;
};
struct release_without_size : minimal_backend {
    status release(address) noexcept;
};
struct release_answers_nothing : minimal_backend {
    void release(address, bytes) noexcept;
};
struct release_throws : minimal_backend {
    status release(address, bytes);
};
static_assert(!backend<no_release> && !backend<release_without_size>);
static_assert(!backend<release_answers_nothing> && !backend<release_throws>);

struct no_create : minimal_backend {
    result<int> create(bytes) noexcept = delete;
};
struct create_answers_the_chunk : minimal_backend {
    int create(bytes) noexcept;
};
struct create_answers_another_type : minimal_backend {
    result<long> create(bytes) noexcept;
};
struct create_throws : minimal_backend {
    result<int> create(bytes);
};
static_assert(!backend<no_create> && !backend<create_answers_the_chunk>);
static_assert(!backend<create_answers_another_type> && !backend<create_throws>);

struct no_destroy : minimal_backend {
    status destroy(int) noexcept = delete;
};
struct destroy_answers_nothing : minimal_backend {
    void destroy(int) noexcept;
};
struct destroy_throws : minimal_backend {
    status destroy(int);
};
static_assert(!backend<no_destroy> && !backend<destroy_answers_nothing> && !backend<destroy_throws>);

struct no_map : minimal_backend {
    status map(address, int) noexcept = delete;
};
struct map_answers_bool : minimal_backend {
    bool map(address, int) noexcept;
};
struct map_throws : minimal_backend {
    status map(address, int);
};
struct map_wants_a_pointer : minimal_backend {
    status map(void*, int) noexcept;
};
static_assert(!backend<no_map> && !backend<map_answers_bool>);
static_assert(!backend<map_throws> && !backend<map_wants_a_pointer>);

struct no_set_access : minimal_backend {
    status set_access(address, bytes, access_mode) noexcept = delete;
};
struct set_access_without_access : minimal_backend {
    status set_access(address, bytes) noexcept;
};
struct set_access_answers_errc : minimal_backend {
    errc set_access(address, bytes, access_mode) noexcept;
};
struct set_access_throws : minimal_backend {
    status set_access(address, bytes, access_mode);
};
static_assert(!backend<no_set_access> && !backend<set_access_without_access>);
static_assert(!backend<set_access_answers_errc> && !backend<set_access_throws>);

struct no_unmap : minimal_backend {
    status unmap(address, bytes) noexcept = delete;
};
struct unmap_answers_result : minimal_backend {
    result<bool> unmap(address, bytes) noexcept;
};
struct unmap_throws : minimal_backend {
    status unmap(address, bytes);
};
struct unmap_counts_pages : minimal_backend {
    status unmap(address, page_count) noexcept;
};
static_assert(!backend<no_unmap> && !backend<unmap_answers_result>);
static_assert(!backend<unmap_throws> && !backend<unmap_counts_pages>);

// ---- refinements ----

struct alias_throws : minimal_backend {
    bool can_alias() const;
};
struct alias_answers_a_number : minimal_backend {
    int can_alias() const noexcept;
};
struct alias_not_const : minimal_backend {
    bool can_alias() noexcept;
};
struct alias_without_backend {
    bool can_alias() const noexcept;
};
struct alias_of_malformed : no_unmap {
    bool can_alias() const noexcept;
};
static_assert(!aliasing_backend<alias_throws> && !aliasing_backend<alias_answers_a_number>);
static_assert(!aliasing_backend<alias_not_const> && !aliasing_backend<alias_without_backend>);
static_assert(!aliasing_backend<alias_of_malformed>);

struct visible_throws : minimal_backend {
    bool host_visible() const;
};
struct visible_answers_nothing : minimal_backend {
    void host_visible() const noexcept;
};
struct visible_not_const : minimal_backend {
    bool host_visible() noexcept;
};
struct visible_without_backend {
    bool host_visible() const noexcept;
};
static_assert(!host_visible_backend<visible_throws> && !host_visible_backend<visible_answers_nothing>);
static_assert(!host_visible_backend<visible_not_const> && !host_visible_backend<visible_without_backend>);

struct stream_not_copyable : minimal_streams {
    using stream_type = std::unique_ptr<int>;
};
struct event_not_copyable : minimal_streams {
    using event_type = std::unique_ptr<int>;
};
struct no_create_event : minimal_streams {
    result<event_type> create_event() noexcept = delete;
};
struct create_event_answers_the_event : minimal_streams {
    event_type create_event() noexcept;
};
struct destroy_event_throws : minimal_streams {
    status destroy_event(event_type);
};
struct record_without_stream : minimal_streams {
    status record(event_type) noexcept;
};
struct query_answers_bool : minimal_streams {
    bool query(event_type) noexcept;
};
struct wait_for_events_only : minimal_streams {
    status wait(event_type) noexcept;
};
struct wait_in_streams_only : minimal_streams {
    status wait(stream_type, event_type) noexcept;
};
struct copy_without_stream : minimal_streams {
    status copy(address, address, bytes) noexcept;
};
struct copy_throws : minimal_streams {
    status copy(address, address, bytes, stream_type);
};
struct fill_without_value : minimal_streams {
    status fill(address, bytes, stream_type) noexcept;
};
struct fill_answers_nothing : minimal_streams {
    void fill(address, std::byte, bytes, stream_type) noexcept;
};
static_assert(!stream_ordered_backend<stream_not_copyable> && !stream_ordered_backend<event_not_copyable>);
static_assert(!stream_ordered_backend<no_create_event>);
static_assert(!stream_ordered_backend<create_event_answers_the_event>);
static_assert(!stream_ordered_backend<destroy_event_throws>);
static_assert(!stream_ordered_backend<record_without_stream>);
static_assert(!stream_ordered_backend<query_answers_bool>);
static_assert(!stream_ordered_backend<wait_for_events_only> && !stream_ordered_backend<wait_in_streams_only>);
static_assert(!stream_ordered_backend<copy_without_stream> && !stream_ordered_backend<copy_throws>);
static_assert(!stream_ordered_backend<fill_without_value> && !stream_ordered_backend<fill_answers_nothing>);

struct no_can_export : minimal_export {
    bool can_export() const noexcept = delete;
};
struct export_answers_the_handle : minimal_export {
    os_handle_type export_chunk(int) noexcept;
};
struct export_throws : minimal_export {
    result<os_handle_type> export_chunk(int);
};
struct import_without_size : minimal_export {
    result<int> import_chunk(os_handle_type) noexcept;
};
struct import_wants_an_lvalue : minimal_export {
    result<int> import_chunk(os_handle_type&, bytes) noexcept;
};
struct import_answers_status : minimal_export {
    status import_chunk(os_handle_type, bytes) noexcept;
};
static_assert(!exportable_backend<no_can_export> && !exportable_backend<export_answers_the_handle>);
static_assert(!exportable_backend<export_throws> && !exportable_backend<import_without_size>);
static_assert(!exportable_backend<import_wants_an_lvalue> && !exportable_backend<import_answers_status>);

struct device_without_equality : minimal_peers {
    using device_type = chunk_without_equality;
    bool can_reach(device_type) const noexcept;
    status set_peer_access(address, bytes, access_mode, device_type) noexcept;
};
struct no_can_reach : minimal_peers {
    bool can_reach(int) const noexcept = delete;
};
struct peer_access_without_device : minimal_peers {
    status set_peer_access(address, bytes, access_mode) noexcept;
};
struct peer_access_throws : minimal_peers {
    status set_peer_access(address, bytes, access_mode, int);
};
static_assert(!peer_access_backend<device_without_equality> && !peer_access_backend<no_can_reach>);
static_assert(!peer_access_backend<peer_access_without_device> && !peer_access_backend<peer_access_throws>);

TEST_CASE("the smallest backend of each concept runs") {
    minimal_streams backend;
    CHECK(backend.reserve(bytes{1}, bytes{1}).ok());
    CHECK(backend.wait({}, {}).ok());
    minimal_export exporting;
    CHECK(exporting.import_chunk(*exporting.export_chunk(0), bytes{1}).ok());
    minimal_peers peers;
    CHECK(peers.set_peer_access({}, {}, access_mode::read, 0).ok());
}

} // namespace vtensor::testing
