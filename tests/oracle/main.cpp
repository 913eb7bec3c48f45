// SPDX-License-Identifier: Apache-2.0
//
// oracle_check FILE...: compares the library's eviction methods with files of reference vectors (README.md).
// Exits with 0 where all agree, with 1 where one differs or is refused, with 2 without files.
#include "check_file.hpp"

#include <iostream>

int main(int count, char** arguments) {
    if (count < 2) {
        std::cerr << "usage: oracle_check FILE...\n";
        return 2;
    }
    bool agree = true;
    for (int index = 1; index < count; ++index)
        agree = oracle::check_file(arguments[index], std::cout) && agree;
    return agree ? 0 : 1;
}
