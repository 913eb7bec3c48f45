// SPDX-License-Identifier: Apache-2.0
// Tables of request lengths, good and bad.
#include <trace/request_lengths.hpp>

#include <support/catch.hpp>

#include <cstddef>
#include <sstream>
#include <string>
#include <vector>

namespace vtensor::bench {

namespace {

std::vector<request_lengths> read(const std::string& text) {
    std::istringstream in{text};
    return read_request_lengths(in, "table");
}

const std::string head = "num_prefill_tokens,num_decode_tokens\n";

} // namespace

TEST_CASE("Lengths are read as whole numbers and as floats, wherever their columns stand") {
    const std::vector<request_lengths> two{{7564, 192}, {3, 1}};
    CHECK(read(head + "7564,192\n3,1\n") == two);
    CHECK(read(head + "7564.0,192.000\n3e0,1.0\n") == two);
    CHECK(read("a,num_decode_tokens,b,num_prefill_tokens,c\nx,192,,7564,y\n,1,z,3,\n") == two);
    CHECK(read("num_prefill_tokens,num_decode_tokens,more\n7564,192\n3,1,9\n") == two);
}

TEST_CASE(
    "Line ends of other systems, a missing last one, blanks, empty lines and a byte-order mark do no harm") {
    const std::vector<request_lengths> two{{7564, 192}, {3, 1}};
    CHECK(read("num_prefill_tokens,num_decode_tokens\r\n7564,192\r\n3,1\r\n") == two);
    CHECK(read(head + "7564,192\n3,1") == two);
    CHECK(read(" num_prefill_tokens ,\tnum_decode_tokens\n 7564 , 192\n\n3,1 \n\r\n") == two);
    CHECK(read("\xEF\xBB\xBF" + head + "7564,192\n3,1\n") == two);
}

TEST_CASE("A bad cell is told with its line") {
    for (const std::string cell :
         {"", "x", "12x", "-1", "0", "0.5", "192.5", "nan", "inf", "1e99", "1e10", "0x10", "+5", "1 2"}) {
        INFO(cell);
        CHECK_THROWS_WITH(read(head + "1,1\n" + cell + ",7\n"),
                          Catch::Matchers::ContainsSubstring("table:3"));
        CHECK_THROWS_WITH(read(head + "1,1\n\n7," + cell + "\n"),
                          Catch::Matchers::ContainsSubstring("table:4"));
    }
}

TEST_CASE("A table without a column, without a cell or without rows is refused") {
    CHECK_THROWS_WITH(read("num_prefill_tokens,x\n1,2\n"),
                      Catch::Matchers::ContainsSubstring("num_decode_tokens"));
    CHECK_THROWS_WITH(read("x,num_decode_tokens\n1,2\n"),
                      Catch::Matchers::ContainsSubstring("num_prefill_tokens"));
    CHECK_THROWS_WITH(read("1724,862\n"), Catch::Matchers::ContainsSubstring("num_prefill_tokens"));
    CHECK_THROWS_WITH(read(head + "1,1\n5\n"), Catch::Matchers::ContainsSubstring("table:3"));
    CHECK_THROWS_WITH(read(head), Catch::Matchers::ContainsSubstring("no requests"));
    CHECK_THROWS(read(""));
    CHECK_THROWS_WITH(read_request_lengths("/no/such/file.csv"),
                      Catch::Matchers::ContainsSubstring("opened"));
}

TEST_CASE("The traces that come with the bench have the sums that another program found") {
    const auto sum = [](const char* name, std::size_t& requests) {
        const auto all = read_request_lengths(std::filesystem::path{VTENSOR_TRACES} / name);
        requests = all.size();
        std::size_t tokens = 0;
        for (const request_lengths& one : all)
            tokens += one.prompt + one.decoded;
        return tokens;
    };
    std::size_t requests = 0;
    CHECK(sum("arxiv_sample.csv", requests) == 30'433'283);
    CHECK(requests == 2895);
    CHECK(sum("sync_vs_async_trace.csv", requests) == 10'106'964);
    CHECK(requests == 3965);
}

} // namespace vtensor::bench
