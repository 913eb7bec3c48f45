// SPDX-License-Identifier: Apache-2.0
// What a user's engine would do first; it fails unless memory is really mapped and given back.
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <iostream>

int main() {
    using namespace vtensor;
    host_backend memory;
    {
        chunk_pool<host_backend> pool{memory};
        virtual_tensor<float, host_backend> tensor{pool, {4, 32}, 10'000};
        tensor.append(1000)(999, 127) = 42.0f;
        const bool mapped = memory.kernel_physical_bytes() == tensor.mapped_bytes() &&
                            tensor.mapped_bytes() >= bytes{1000 * 128 * sizeof(float)};
        if (!mapped || tensor.view<3>()(999, 3, 31) != 42.0f) {
            std::cerr << "the tensor does not hold what was written\n";
            return 1;
        }
    }
    if (memory.kernel_physical_bytes() != bytes{0}) {
        std::cerr << "memory was not given back\n";
        return 1;
    }
    std::cout << "vtensor " << VTENSOR_VERSION << " maps and gives back\n";
    return 0;
}
