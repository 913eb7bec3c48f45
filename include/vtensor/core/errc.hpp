// SPDX-License-Identifier: Apache-2.0
//
// The words of failure: every code, every verb that can fail, and the sentence for a person that joins them.
// Plain data; formatting the sentence is the only thing that allocates.
#pragma once

#include <vtensor/core/units.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace vtensor {

/// Why an operation was refused or failed. The same situation gives the same code on every backend.
enum class errc : std::uint8_t {
    ok = 0,
    invalid_argument,  ///< a size of zero, an alignment that is no power of two, an unknown access, ...
    misaligned,        ///< an address or a size that is no multiple of the granularity
    out_of_memory,     ///< no physical memory left
    out_of_addresses,  ///< no address range of that size left
    limit_exceeded,    ///< a budget set by the caller would be overrun: a pool's limit, a tensor's longest
                       ///< length
    too_many_mappings, ///< the system's or the device's ceiling on mappings
    not_reserved,      ///< the range is not (or not exactly) a reservation
    already_mapped,    ///< a page of the range is mapped
    not_mapped,        ///< a page of the range is not mapped
    partial_mapping,   ///< the range cuts through a mapping
    still_mapped,      ///< a reservation may not be released while something is mapped in it
    unknown_chunk,     ///< never created, or destroyed
    unsupported,       ///< this backend or this machine cannot do it
    no_device,         ///< there is no such device, or no driver
    shut_down,         ///< the helper that should have done it is being destroyed
    foreign_handle,    ///< names no memory that this backend can import: another kind, not sealed, ...
    size_mismatch,     ///< the memory behind a handle is larger or smaller than was said
    malformed_message, ///< the other process sent what is not ours
    disconnected,      ///< the other process has gone, or never was there
    timed_out,         ///< the other process did not do its part in time
    not_finite,        ///< a score is infinite or not a number
    not_found,         ///< what was named is not there, or no longer
    busy,              ///< another user of the same thing still needs it as it is
    native_failure,    ///< anything else the system or the driver said; see `error::native`
};

/// What was being done. The first group are the backend's verbs, the second the library's own operations.
enum class verb : std::uint8_t {
    none = 0,
    reserve,
    release,
    create,
    destroy,
    map,
    set_access,
    unmap,
    create_event,
    destroy_event,
    record,
    query,
    wait,
    copy,
    fill,
    export_chunk,
    import_chunk,
    set_peer_access,

    construct,
    acquire,
    trim,
    resize_limit,
    grow,
    shrink,
    view,
    attend,
    connect,
    send,
    receive,
    choose,
    evict,
    defragment,
    insert,
    remove,
    lock,
    unlock,
    measure,
    share,
    make_writable,
    extend,
    fork,
    preempt,
    resume,
    truncate,
};

/// One failure: what, where, the number the system gave (0 where none), and the size asked for (0 where it
/// plays no part).
struct error {
    errc code = errc::ok;
    verb where = verb::none;
    int native = 0;
    bytes size{};

    friend constexpr bool operator==(const error&, const error&) noexcept = default;
};

/// True for the failures that asking for less may cure.
[[nodiscard]] constexpr bool is_shortage(errc code) noexcept {
    return code == errc::out_of_memory || code == errc::limit_exceeded || code == errc::too_many_mappings;
}

/// The code's name as it is written in the source: "already_mapped".
[[nodiscard]] constexpr std::string_view name(errc code) noexcept {
    switch (code) {
    case errc::ok:
        return "ok";
    case errc::invalid_argument:
        return "invalid_argument";
    case errc::misaligned:
        return "misaligned";
    case errc::out_of_memory:
        return "out_of_memory";
    case errc::out_of_addresses:
        return "out_of_addresses";
    case errc::limit_exceeded:
        return "limit_exceeded";
    case errc::too_many_mappings:
        return "too_many_mappings";
    case errc::not_reserved:
        return "not_reserved";
    case errc::already_mapped:
        return "already_mapped";
    case errc::not_mapped:
        return "not_mapped";
    case errc::partial_mapping:
        return "partial_mapping";
    case errc::still_mapped:
        return "still_mapped";
    case errc::unknown_chunk:
        return "unknown_chunk";
    case errc::unsupported:
        return "unsupported";
    case errc::no_device:
        return "no_device";
    case errc::shut_down:
        return "shut_down";
    case errc::foreign_handle:
        return "foreign_handle";
    case errc::size_mismatch:
        return "size_mismatch";
    case errc::malformed_message:
        return "malformed_message";
    case errc::disconnected:
        return "disconnected";
    case errc::timed_out:
        return "timed_out";
    case errc::not_finite:
        return "not_finite";
    case errc::not_found:
        return "not_found";
    case errc::busy:
        return "busy";
    case errc::native_failure:
        return "native_failure";
    }
    return "unnamed";
}

/// The verb's name as it is written in the source: "set_access".
[[nodiscard]] constexpr std::string_view name(verb where) noexcept {
    switch (where) {
    case verb::none:
        return "none";
    case verb::reserve:
        return "reserve";
    case verb::release:
        return "release";
    case verb::create:
        return "create";
    case verb::destroy:
        return "destroy";
    case verb::map:
        return "map";
    case verb::set_access:
        return "set_access";
    case verb::unmap:
        return "unmap";
    case verb::create_event:
        return "create_event";
    case verb::destroy_event:
        return "destroy_event";
    case verb::record:
        return "record";
    case verb::query:
        return "query";
    case verb::wait:
        return "wait";
    case verb::copy:
        return "copy";
    case verb::fill:
        return "fill";
    case verb::export_chunk:
        return "export_chunk";
    case verb::import_chunk:
        return "import_chunk";
    case verb::set_peer_access:
        return "set_peer_access";
    case verb::construct:
        return "construct";
    case verb::acquire:
        return "acquire";
    case verb::trim:
        return "trim";
    case verb::resize_limit:
        return "resize_limit";
    case verb::grow:
        return "grow";
    case verb::shrink:
        return "shrink";
    case verb::view:
        return "view";
    case verb::attend:
        return "attend";
    case verb::connect:
        return "connect";
    case verb::send:
        return "send";
    case verb::receive:
        return "receive";
    case verb::choose:
        return "choose";
    case verb::evict:
        return "evict";
    case verb::defragment:
        return "defragment";
    case verb::insert:
        return "insert";
    case verb::remove:
        return "remove";
    case verb::lock:
        return "lock";
    case verb::unlock:
        return "unlock";
    case verb::measure:
        return "measure";
    case verb::share:
        return "share";
    case verb::make_writable:
        return "make_writable";
    case verb::extend:
        return "extend";
    case verb::fork:
        return "fork";
    case verb::preempt:
        return "preempt";
    case verb::resume:
        return "resume";
    case verb::truncate:
        return "truncate";
    }
    return "unnamed";
}

/// What the code means and what the caller can do about it, as one phrase.
[[nodiscard]] constexpr std::string_view explain(errc code) noexcept {
    switch (code) {
    case errc::ok:
        return "no error";
    case errc::invalid_argument:
        return "an argument is outside its domain";
    case errc::misaligned:
        return "an address or a size is no multiple of the granularity";
    case errc::out_of_memory:
        return "no physical memory is left; free some, or lower what is asked for";
    case errc::out_of_addresses:
        return "no address range of that size is left";
    case errc::limit_exceeded:
        return "the limit set by the caller would be overrun; raise it, or ask for less";
    case errc::too_many_mappings:
        return "the ceiling on mappings is reached; use larger pages";
    case errc::not_reserved:
        return "the range is not a reservation of this backend";
    case errc::already_mapped:
        return "a page of the range is already mapped";
    case errc::not_mapped:
        return "a page of the range is not mapped";
    case errc::partial_mapping:
        return "the range cuts through a mapping; give whole mappings";
    case errc::still_mapped:
        return "the reservation still has mappings; unmap them first";
    case errc::unknown_chunk:
        return "the chunk was never created here, or was destroyed";
    case errc::unsupported:
        return "this backend or this machine cannot do it";
    case errc::no_device:
        return "there is no such device or no driver for it";
    case errc::shut_down:
        return "the helper that should do it is being destroyed";
    case errc::foreign_handle:
        return "the handle names no memory that this backend can import";
    case errc::size_mismatch:
        return "the memory behind the handle has another size than was said";
    case errc::malformed_message:
        return "the other process sent what is no message of this library, or of another version";
    case errc::disconnected:
        return "the other process closed the connection or does not listen";
    case errc::timed_out:
        return "the other process did not answer in time";
    case errc::not_finite:
        return "a score is infinite or not a number";
    case errc::not_found:
        return "what was named is not there, or no longer";
    case errc::busy:
        return "another user still needs it as it is; try again when he has let go";
    case errc::native_failure:
        return "the system refused";
    }
    return "unnamed";
}

/// "map: a page of the range is already mapped (already_mapped, 2 MiB)": one line for a log or a person.
[[nodiscard]] inline std::string to_string(const error& failure) {
    std::string text;
    if (failure.where != verb::none)
        text.append(name(failure.where)).append(": ");
    text.append(explain(failure.code)).append(" (").append(name(failure.code));
    if (failure.size != bytes{0})
        text.append(", ").append(to_string(failure.size));
    if (failure.native != 0)
        text.append(", native code ").append(std::to_string(failure.native));
    return text.append(")");
}

} // namespace vtensor
