// SPDX-License-Identifier: Apache-2.0
// A tensor holds only what may be copied by bytes.
// expect: constraint
// expect: element
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <string>

#ifdef RIGHT
using held = float;
#else
using held = std::string;
#endif

using tensor = vtensor::virtual_tensor<held, vtensor::host_backend>;
std::size_t size = sizeof(tensor);
