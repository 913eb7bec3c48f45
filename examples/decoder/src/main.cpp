// SPDX-License-Identifier: Apache-2.0
//
// vtensor-decoder: exit code 0 when the text was generated, 2 with one line on stderr when something the user
// can mend stood in the way, 1 for a mistake of our own.
#include "app/options.hpp"
#include "app/run.hpp"
#include "io/input_error.hpp"

#include <vtensor/core/exception.hpp>

#include <exception>
#include <iostream>
#include <new>

namespace {

int fail(int code, const std::string& sentence) {
    std::cout << std::flush;
    std::cerr << "vtensor-decoder: " << decoder::printable(sentence, 2000) << "\n";
    return code;
}

} // namespace

int main(int count, char** words) {
    try {
        const auto line = decoder::parse_command_line(count, words);
        if (line.answer)
            std::cout << *line.answer;
        else
            decoder::run(line.chosen, std::cout);
        return 0;
    } catch (const decoder::input_error& failure) {
        return fail(2, failure.what());
    } catch (const vtensor::failure& failure) {
        return fail(2, "the memory of the KV cache was refused: " + to_string(failure.error()) +
                           "; choose other --page-bytes or free memory");
    } catch (const std::bad_alloc&) {
        return fail(
            2, "there is not enough memory for this model and prompt; lower --prefill-chunk or free memory");
    } catch (const std::exception& failure) {
        return fail(1, std::string{"unexpected: "} + failure.what());
    }
}
