// SPDX-License-Identifier: Apache-2.0
// An adaptor wraps a backend and nothing else.
// expect: constraint
// expect: backend
#include <vtensor/adaptors/counting.hpp>
#include <vtensor/backends/host.hpp>

struct file {
    int descriptor;
};

#ifdef RIGHT
using upstream = vtensor::host_backend;
#else
using upstream = file;
#endif

std::size_t size = sizeof(vtensor::adaptors::counting<upstream>);
