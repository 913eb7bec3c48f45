// SPDX-License-Identifier: Apache-2.0
//
// Which backends' chunks can be sent to and received from another process.
#pragma once

#include <vtensor/backends/os/handle.hpp>
#include <vtensor/core/concepts.hpp>

#include <concepts>

namespace vtensor::interop {

/// It exports, and its handles are those that all backends of this library share.
template <class B>
concept shareable_backend = exportable_backend<B> && std::same_as<typename B::os_handle_type, os_handle>;

} // namespace vtensor::interop
