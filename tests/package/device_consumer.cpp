// SPDX-License-Identifier: Apache-2.0
// A program with both device backends: it starts wherever it is, uses what device there is, and is told in a
// sentence where there is none.
#include <vtensor/backends/cuda.hpp>
#include <vtensor/backends/hip.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <iostream>

namespace {

template <class Backend>
bool try_device(const char* name) {
    using namespace vtensor;
    const auto opened = Backend::try_open();
    if (!opened) {
        std::cout << name << ": " << opened.reason << '\n';
        return !opened.reason.empty() && opened.failure.code != errc::ok;
    }
    chunk_pool<Backend> pool{*opened.backend};
    virtual_tensor<float, Backend> tensor{pool, {4, 32}, 10'000};
    tensor.resize(1000);
    std::cout << opened.backend->describe() << '\n';
    return tensor.mapped_bytes() >= bytes{1000 * 128 * sizeof(float)} &&
           opened.backend->mapped_bytes() == tensor.mapped_bytes();
}

} // namespace

int main() {
    const bool cuda = try_device<vtensor::cuda_backend>("cuda");
    const bool hip = try_device<vtensor::hip_backend>("hip");
    return cuda && hip ? 0 : 1;
}
