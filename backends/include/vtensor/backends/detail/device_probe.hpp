// SPDX-License-Identifier: Apache-2.0
//
// What a device can do, found out by doing it: reserving, creating, mapping, aliasing and reading back what
// was written; the kinds of access; creating, exporting and importing; memory that RDMA may use. A driver's
// answer to the question alone is not believed. Leaves nothing behind.
#pragma once

#include <vtensor/backends/detail/device_sharing.hpp>
#include <vtensor/backends/detail/device_vmm.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// What the caller wants of a device, whichever kind it is.
struct device_wishes {
    granularity_choice granularity = granularity_choice::minimum;
    std::size_t max_mappings = 0;
    sharing_wish sharing = sharing_wish::none;
    bool gpu_direct_rdma = false;
    bool plain_where_broken = false; ///< plain allocation where virtual memory does not work
    std::vector<int> peers;
    remap_callback on_remap;
    device_quirks quirks;
};

/// A device that can be used, or why not.
template <class Api>
struct device_opening {
    std::optional<opened_device<Api>> device;
    error failure{};
    std::string reason; ///< a sentence, where there is no device
};

/// One pass through everything that the backend will do, on two granules of memory.
template <class Api>
class device_trial {
  public:
    device_trial(device_native<Api>& native, bytes unit) : native_{native}, unit_{unit} {
        chunk_.reserve(native_.pieces_of(unit_));
    }
    device_trial(const device_trial&) = delete;
    device_trial& operator=(const device_trial&) = delete;
    ~device_trial() {
        for (const bytes at : {bytes{0}, unit_}) {
            if (at < mapped_)
                static_cast<void>(insist([&] { return native_.unmap(first() + at, unit_, chunk_); }));
        }
        static_cast<void>(insist([&] { return native_.destroy(chunk_); }));
        if (!range_.whole.is_null())
            static_cast<void>(insist([&] { return native_.release(range_); }));
    }

    /// Without this there is no backend. Empty, or what failed: "cuMemMap gives 1".
    std::string run() {
        if (const int native = native_.reserve(2 * unit_, unit_, range_); native != 0) {
            range_ = {};
            return says("reserving addresses", native);
        }
        if (const int native = native_.create(unit_, chunk_); native != 0)
            return says("creating memory", native);
        if (const int native = map_next(); native != 0)
            return says("mapping", native);
        if (const int native = allow(unit_, access_mode::read_write); native != 0)
            return says("setting access", native);
        return read_back(first(), first());
    }

    /// The others follow `run`. Each says whether the driver does it, and where not, why not.
    device_feature alias() {
        if (const int native = map_next(); native != 0)
            return {false, says("mapping a chunk a second time", native)};
        if (const int native = allow(2 * unit_, access_mode::read_write); native != 0)
            return {false, says("setting access to two mappings in one call", native)};
        std::string wrong = read_back(first() + unit_, first());
        const bool same = wrong.empty();
        return {same, std::move(wrong)};
    }
    device_feature grant(access_mode less, const char* what) {
        const int native = allow(mapped_, less);
        return native == 0 ? device_feature{true, {}} : device_feature{false, says(what, native)};
    }

    /// The driver's code with the last failure, 0 where it was none of its own.
    [[nodiscard]] int code() const noexcept { return code_; }

  private:
    [[nodiscard]] address first() const noexcept { return range_.aligned; }

    [[nodiscard]] std::string says(const char* what, int native) {
        code_ = native;
        return std::string{what} + " failed with " + native_.api().name_of(native);
    }
    int map_next() noexcept {
        const int native = native_.map(first() + mapped_, unit_, chunk_);
        mapped_ += native == 0 ? unit_ : bytes{0};
        return native;
    }
    int allow(bytes size, access_mode allowed) noexcept {
        const std::array<device_grant, 1> grant{{{native_.api().ordinal(), allowed}}};
        return native_.set_access(first(), size, grant);
    }

    /// Fills the granule at `to` and reads both ends of the one at `from`.
    std::string read_back(address to, address from) {
        Api& api = native_.api();
        typename Api::stream_type stream{};
        if (const int native = api.create_stream(stream); native != 0)
            return says("creating a stream", native);
        constexpr std::byte pattern{0x5a};
        std::array<std::byte, 2> seen{};
        int native = api.fill(to, pattern, unit_, stream);
        if (native == 0)
            native = api.copy(address{&seen[0]}, from, bytes{1}, stream);
        if (native == 0)
            native = api.copy(address{&seen[1]}, from + (unit_ - bytes{1}), bytes{1}, stream);
        const int finished =
            api.synchronize_stream(stream); // also after a failure: `seen` must not be written later
        static_cast<void>(insist([&] { return api.destroy_stream(stream); }));
        if (native != 0 || finished != 0)
            return says("writing and reading mapped memory", native != 0 ? native : finished);
        return seen[0] == pattern && seen[1] == pattern ? std::string{}
                                                        : "mapped memory does not hold what was written";
    }

    device_native<Api>& native_;
    bytes unit_;
    native_range range_;
    typename device_native<Api>::pieces chunk_;
    bytes mapped_{};
    int code_ = 0;
};

/// Creates a granule and gives it back, exported and imported in between where `kind` says so. Empty, or what
/// failed.
template <class Api>
std::string try_memory(device_native<Api>& native, bytes unit, os_handle_kind kind) {
    Api& api = native.api();
    const auto says = [&](const char* what, int code) {
        return std::string{what} + " failed with " + api.name_of(code);
    };
    typename Api::handle_type memory{};
    if (const int code = api.create(unit, memory); code != 0)
        return says("creating such memory", code);
    std::string wrong;
    if (kind != os_handle_kind::none) {
        os_handle exported;
        typename Api::handle_type imported{};
        int code = export_native(api, memory, kind, exported);
        if (code != 0) {
            wrong = says("exporting it", code);
        } else if (code = import_native(api, exported, imported); code != 0) {
            wrong = says("importing it again", code);
        } else {
            if (!api.is_own_memory(imported, code))
                wrong =
                    code != 0 ? says("asking what was imported", code) : "what was imported is other memory";
            static_cast<void>(insist([&] { return api.destroy(imported); }));
        }
    }
    static_cast<void>(insist([&] { return api.destroy(memory); }));
    return wrong;
}

/// The granularity for the properties that memory will be created with.
template <class Api>
int ask_granularity(device_native<Api>& native, granularity_choice choice, device_report& report) {
    Api& api = native.api();
    if (const int code = api.granularity(granularity_choice::minimum, report.minimum); code != 0)
        return code;
    if (const int code = api.granularity(granularity_choice::recommended, report.recommended); code != 0)
        return code;
    const bytes said = choice == granularity_choice::minimum ? report.minimum : report.recommended;
    report.granularity = std::max(said, native.quirks().least_granularity);
    return 0;
}

/// Chooses what memory is created with: properties that the device claims and that work.
template <class Api>
void choose_properties(device_native<Api>& native, const device_wishes& wishes, device_report& report) {
    Api& api = native.api();
    const auto works = [&](os_handle_kind kind, bool rdma, const std::string& claim) -> device_feature {
        if (!claim.empty())
            return {false, claim};
        api.create_with(kind, rdma);
        if (const int code = ask_granularity(native, wishes.granularity, report); code != 0)
            return {false, "asking for the granularity failed with " + api.name_of(code)};
        std::string wrong = try_memory(native, report.granularity, kind);
        return {wrong.empty(), std::move(wrong)};
    };
    if (wishes.gpu_direct_rdma)
        report.gpu_direct_rdma = works(os_handle_kind::none, true, api.why_no_rdma());
    const bool rdma = report.gpu_direct_rdma.on;
    const bool any = wishes.sharing == sharing_wish::fabric_or_descriptor;
    if (any || wishes.sharing == sharing_wish::fabric)
        report.fabric = works(os_handle_kind::fabric, rdma, api.why_no_export(os_handle_kind::fabric));
    if (!report.fabric.on && (any || wishes.sharing == sharing_wish::descriptor))
        report.descriptors =
            works(os_handle_kind::descriptor, rdma, api.why_no_export(os_handle_kind::descriptor));
    api.create_with(report.fabric.on        ? os_handle_kind::fabric
                    : report.descriptors.on ? os_handle_kind::descriptor
                                            : os_handle_kind::none,
                    rdma);
}

/// The unit of plain allocations where the driver names none.
inline constexpr bytes plain_granularity{std::size_t{2} << 20};

/// Empty, or what does not work; `code` is then the driver's, where it gave one.
template <class Api>
std::string try_virtual_memory(device_native<Api>& native, const device_wishes& wishes, device_report& report,
                               int& code) {
    choose_properties(native, wishes, report);
    code = ask_granularity(native, wishes.granularity, report);
    if (code != 0)
        return "asking for the granularity failed with " + native.api().name_of(code);
    if (!std::has_single_bit(report.granularity.count()))
        return "the driver names a granularity of " + to_string(report.granularity);
    device_trial<Api> trial{native, report.granularity};
    std::string broken = trial.run();
    code = trial.code();
    if (!broken.empty())
        return broken;
    report.aliasing = trial.alias();
    report.read_only = trial.grant(access_mode::read, "granting reading alone");
    report.revocation = trial.grant(access_mode::none, "taking access away");
    return broken;
}

/// Tries the device that `api` stands for. `report` comes with what identifies it. Throws std::bad_alloc.
template <class Api>
device_opening<Api> try_device(Api opened, device_report&& report, device_wishes&& wishes) {
    device_opening<Api> outcome;
    device_native<Api> native{std::move(opened)};
    native.set_quirks(wishes.quirks);
    Api& api = native.api();
    const auto fail = [&](errc code, int number, const std::string& why) -> device_opening<Api>&& {
        outcome.failure = error{code, verb::construct, number, bytes{0}};
        outcome.reason = report.driver + ", device " + std::to_string(report.ordinal) + ": " + why + '.';
        return std::move(outcome);
    };
    {
        const typename Api::current scope{api, true};
        if (scope.failed() != 0)
            return fail(Api::classify(scope.failed()), scope.failed(),
                        "making it current failed with " + api.name_of(scope.failed()));
        std::sort(wishes.peers.begin(), wishes.peers.end());
        wishes.peers.erase(std::unique(wishes.peers.begin(), wishes.peers.end()), wishes.peers.end());
        if (wishes.peers.size() >= most_grants)
            return fail(errc::invalid_argument, 0, "too many peers");
        for (const int peer : wishes.peers) {
            if (!api.exists(peer))
                return fail(errc::no_device, 0, "there is no peer " + std::to_string(peer));
            if (peer == api.ordinal() || !api.can_reach(peer))
                return fail(errc::unsupported, 0, "device " + std::to_string(peer) + " is no peer of it");
        }
        int code = 0;
        std::string broken = api.why_no_virtual_memory();
        if (broken.empty())
            broken = try_virtual_memory(native, wishes, report, code);
        const errc refusal = code == 0 ? errc::unsupported : Api::classify(code);
        report.virtual_memory = {broken.empty(), broken};
        if (!broken.empty() && (!wishes.plain_where_broken || refusal == errc::out_of_memory))
            return fail(refusal == errc::native_failure ? errc::unsupported : refusal, code,
                        "virtual memory does not work: " + broken);
        if (!broken.empty()) {
            native.use_plain_allocation();
            report.granularity = std::max(report.granularity, plain_granularity);
            const device_feature off{false, "addresses are plain allocations of the reserved size"};
            report.aliasing = report.read_only = report.revocation = off;
            report.descriptors = report.fabric = report.gpu_direct_rdma = off;
        }
    }
    outcome.device.emplace(opened_device<Api>{std::move(native), std::move(report), std::move(wishes.peers),
                                              wishes.max_mappings, std::move(wishes.on_remap)});
    return outcome;
}

} // namespace vtensor::detail
