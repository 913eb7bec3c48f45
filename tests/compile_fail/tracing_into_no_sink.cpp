// SPDX-License-Identifier: Apache-2.0
// What takes a trace has a record that does not throw.
// expect: constraint
// expect: trace_sink
#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>

#ifdef RIGHT
using sink = vtensor::adaptors::memory_sink;
#else
using sink = std::vector<vtensor::adaptors::trace_event>;
#endif

std::size_t size = sizeof(vtensor::adaptors::tracing<vtensor::host_backend, sink>);
