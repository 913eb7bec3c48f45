// SPDX-License-Identifier: Apache-2.0
//
// How a device backend comes to be: with an exception or with a sentence.
#pragma once

#include <vtensor/backends/detail/device_probe.hpp>
#include <vtensor/backends/detail/device_sharing.hpp>
#include <vtensor/core/exception.hpp>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace vtensor {

/// There is no such device, or it cannot do what is needed. `what()` ends with the sentence that says why.
class device_failure : public backend_failure {
  public:
    device_failure(const vtensor::error& cause, const std::string& reason)
        : backend_failure{cause}, text_{to_string(cause) + ": " + reason} {}
    [[nodiscard]] const char* what() const noexcept override { return text_.what(); }

  private:
    std::runtime_error text_; // a string whose copies cannot throw
};

/// A backend, or why there is none.
template <class Backend>
struct backend_opening {
    std::unique_ptr<Backend> backend;
    error failure{};
    std::string reason; ///< a sentence for a person; empty where there is a backend

    [[nodiscard]] explicit operator bool() const noexcept { return backend != nullptr; }
};

namespace detail {

template <class Api>
opened_device<Api> device_or_throw(device_opening<Api>&& opening) {
    if (opening.device)
        return *std::move(opening.device);
    const errc code = opening.failure.code;
    if (code == errc::no_device || code == errc::unsupported || code == errc::native_failure)
        throw device_failure{opening.failure, opening.reason};
    throw_error(opening.failure);
}

/// `open()` gives a `device_opening`. Running out of the host's own memory is a failure like any other.
template <class Backend, class Open>
backend_opening<Backend> try_open(Open open) noexcept {
    try {
        auto opening = open();
        if (!opening.device)
            return {nullptr, opening.failure, std::move(opening.reason)};
        return {std::unique_ptr<Backend>{new Backend{*std::move(opening.device)}}, {}, {}};
    } catch (const std::bad_alloc&) {
        return {nullptr, error{errc::out_of_memory, verb::construct, 0, bytes{sizeof(Backend)}}, {}};
    }
}

} // namespace detail

} // namespace vtensor
