// SPDX-License-Identifier: Apache-2.0
//
// The table of docs/layouts.md, measured: what each layout holds beyond its rows, by the kernel's count.
#include "layouts.hpp"

#include "support/kernel_figures.hpp"

#include <vtensor/backends/host.hpp>

#include <fstream>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Keys and values of 8 heads of 128 half-precision elements.
template <class Cache>
bytes waste(std::size_t rows, bytes page) {
    host_backend memory;
    layer_pool<host_backend> pool{memory, {.chunk_size = page}};
    const kv::layer_shape shape{.kv_heads = 8, .key_width = 128, .value_width = 128, .max_rows = 16'384};
    auto cache = Cache::try_create(pool, shape).value();
    REQUIRE(cache.try_append(rows));
    REQUIRE(kernel_memory_file_bytes() == Cache::pages_of(shape, page, rows)); // as it is foretold
    REQUIRE(cache.figures().used == bytes{256} * (2 * 8 * rows));
    return kernel_memory_file_bytes() - cache.figures().used;
}

template <class Cache>
std::string table_row(const std::string& layout, bytes page) {
    std::string row = "| `" + layout + "` | " + to_string(page) + " |";
    for (const std::size_t rows : {100u, 1000u, 10'000u})
        row += " " + to_string(waste<Cache>(rows, page)) + " |";
    return row;
}

std::string manual() {
    std::ifstream file{VTENSOR_LAYOUTS_MANUAL};
    return {std::istreambuf_iterator<char>{file}, {}};
}

} // namespace

TEST_CASE("the waste that the manual states is the waste that is measured") {
    const std::string text = manual();
    REQUIRE_FALSE(text.empty());
    for (const bytes page : {4_KiB, 64_KiB, 2_MiB}) {
        CHECK_THAT(text, Catch::Matchers::ContainsSubstring(
                             table_row<per_layer<float16, host_backend>>("per_layer", page)));
        CHECK_THAT(text, Catch::Matchers::ContainsSubstring(
                             table_row<per_head<float16, host_backend>>("per_head", page)));
        CHECK_THAT(text, Catch::Matchers::ContainsSubstring(
                             table_row<packed<float16, host_backend>>("packed", page)));
    }
}
