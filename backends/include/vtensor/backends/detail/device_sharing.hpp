// SPDX-License-Identifier: Apache-2.0
//
// Chunks of a device as handles that another process turns back into chunks. What arrives is not trusted: it
// must be of the kind this backend deals in, memory of this device, and of exactly the size that was said,
// which is found out by mapping it.
//
// Asks of `Api`: `export_descriptor`, `export_fabric`, `import_descriptor`, `import_fabric`,
// `is_own_memory(handle)`, `says_foreign(code)`.
#pragma once

#include <vtensor/backends/detail/device_streams.hpp>
#include <vtensor/backends/os/handle.hpp>

#include <utility>

namespace vtensor::detail {

/// Exports a driver's handle as the kind that its memory was created for. 0 or the driver's code.
template <class Api>
int export_native(Api& api, typename Api::handle_type memory, os_handle_kind kind, os_handle& made) noexcept {
    if (kind == os_handle_kind::fabric) {
        fabric_handle name;
        const int native = api.export_fabric(memory, name);
        if (native == 0)
            made = os_handle{name};
        return native;
    }
    int number = -1;
    const int native = api.export_descriptor(memory, number);
    if (native == 0)
        made = os_handle{file_descriptor{number}};
    return native;
}

/// The other way round; the handle stays the caller's.
template <class Api>
int import_native(Api& api, const os_handle& from, typename Api::handle_type& made) noexcept {
    const fabric_handle* const name = from.fabric();
    return name != nullptr ? api.import_fabric(*name, made) : api.import_descriptor(from.descriptor(), made);
}

template <class Api>
class device_sharing : public device_streams<Api> {
  public:
    using os_handle_type = os_handle;

    /// Tried at construction, not only asked for.
    [[nodiscard]] bool can_export() const noexcept { return kind_ != os_handle_kind::none; }

    /// A handle of the kind that was chosen at construction. `unknown_chunk` as for `destroy`; `unsupported`
    /// where `can_export()` is false, and for a chunk of several pieces.
    [[nodiscard]] result<os_handle> export_chunk(device_chunk chunk) noexcept {
        constexpr verb what = verb::export_chunk;
        const device_session<Api> use = this->enter();
        if (!use.ok())
            return use.failure(what, bytes{0});
        const bytes size = this->chunks_.size_of(chunk);
        if (size == bytes{0})
            return this->refuse(errc::unknown_chunk, what, bytes{0});
        const auto pieces = this->chunks_.handles(chunk.index);
        if (!can_export() || pieces.size() != 1)
            return this->refuse(errc::unsupported, what, size);
        os_handle made;
        if (const int native = export_native(this->native_.api(), pieces.front(), kind_, made); native != 0)
            return this->failed(native, what, size);
        return made;
    }

    /// Refused with `unsupported` where `can_export()` is false, `invalid_argument` or `misaligned` for the
    /// size, `foreign_handle` for a handle of another kind or of memory that is not this device's,
    /// `size_mismatch` where the memory is larger or smaller than was said.
    [[nodiscard]] result<device_chunk> import_chunk(os_handle handle, bytes size) noexcept {
        constexpr verb what = verb::import_chunk;
        if (!can_export())
            return this->refuse(errc::unsupported, what, size);
        if (size == bytes{0})
            return this->refuse(errc::invalid_argument, what, size);
        if (!this->is_whole(size))
            return this->refuse(errc::misaligned, what, size);
        if (handle.kind() != kind_)
            return this->refuse(errc::foreign_handle, what, size);
        const device_session<Api> use = this->enter();
        if (!use.ok())
            return use.failure(what, size);
        if (size > this->report_.memory && this->report_.memory != bytes{0})
            return this->refuse(errc::size_mismatch, what, size);
        errc refusal = errc::ok;
        int native = 0;
        const auto made = this->chunks_.adopt(size, native, [&](typename Api::handle_type& memory) {
            return acquire(handle, size, memory, refusal);
        });
        if (!made && refusal != errc::ok)
            return this->refuse(refusal, what, size, native > 0 ? native : 0);
        if (!made && native != 0)
            return this->failed(native, what, size);
        return made;
    }

  protected:
    explicit device_sharing(opened_device<Api>&& opened)
        : device_streams<Api>{std::move(opened)},
          kind_{this->report_.fabric.on        ? os_handle_kind::fabric
                : this->report_.descriptors.on ? os_handle_kind::descriptor
                                               : os_handle_kind::none} {}
    ~device_sharing() = default;

  private:
    static constexpr int refused = -1; ///< no driver's code: by our own check

    int acquire(const os_handle& handle, bytes size, typename Api::handle_type& memory,
                errc& refusal) noexcept {
        Api& api = this->native_.api();
        if (const int native = import_native(api, handle, memory); native != 0) {
            if (Api::says_foreign(native))
                refusal = errc::foreign_handle;
            memory = typename Api::handle_type{};
            return native;
        }
        int native = 0;
        if (!api.is_own_memory(memory, native))
            refusal = native == 0 ? errc::foreign_handle : errc::ok;
        else if (!has_size(memory, size, native))
            refusal = native == 0 ? errc::size_mismatch : errc::ok;
        else
            return 0;
        if (insist([&] { return api.destroy(memory); }) == 0)
            memory = typename Api::handle_type{};
        return native == 0 ? refused : native;
    }

    /// A driver does not tell the size of what it imported: it is what can be mapped, and no more. Where the
    /// attempt itself fails `native` says so.
    bool has_size(typename Api::handle_type memory, bytes size, int& native) noexcept {
        Api& api = this->native_.api();
        const bytes unit = this->granularity();
        native_range scratch;
        native = this->native_.reserve(size + unit, unit, scratch);
        if (native != 0)
            return false;
        bool exact = false;
        const int larger = api.map(scratch.aligned, size + unit, memory);
        if (larger == 0) {
            native = insist([&] { return api.unmap(scratch.aligned, size + unit); });
        } else if (!Api::says_invalid(larger)) {
            native = larger;
        } else if (const int fits = api.map(scratch.aligned, size, memory); fits == 0) {
            native = insist([&] { return api.unmap(scratch.aligned, size); });
            exact = native == 0;
        } else if (!Api::says_invalid(fits)) {
            native = fits;
        }
        const int released = insist([&] { return this->native_.release(scratch); });
        native = native != 0 ? native : released;
        return exact && native == 0;
    }

    os_handle_kind kind_;
};

} // namespace vtensor::detail
