// SPDX-License-Identifier: Apache-2.0
// A verb that is not noexcept is none.
// expect: constraint
// expect: noexcept
#include <vtensor/adaptors/limiting.hpp>

#ifdef RIGHT
#define MAY_THROW noexcept
#else
#define MAY_THROW
#endif

struct own_backend {
    using chunk_type = int;
    vtensor::bytes granularity() const noexcept;
    vtensor::result<vtensor::address> reserve(vtensor::bytes, vtensor::bytes) noexcept;
    vtensor::status release(vtensor::address, vtensor::bytes) noexcept;
    vtensor::result<int> create(vtensor::bytes) noexcept;
    vtensor::status destroy(int) noexcept;
    vtensor::status map(vtensor::address, int) MAY_THROW;
    vtensor::status set_access(vtensor::address, vtensor::bytes, vtensor::access_mode) noexcept;
    vtensor::status unmap(vtensor::address, vtensor::bytes) noexcept;
};

std::size_t size = sizeof(vtensor::adaptors::limiting<own_backend>);
