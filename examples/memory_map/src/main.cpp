// SPDX-License-Identifier: Apache-2.0
//
// memory_map: exit code 0 when the file was written, 2 with one line on stderr when something the user can
// mend stood in the way, 1 for a mistake of our own.
#include "html_page.hpp"
#include "manager_story.hpp"
#include "story.hpp"
#include "timeline.hpp"

#include <vtensor/core/config.hpp>
#include <vtensor/core/exception.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

/// What the user can mend.
class output_error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse_writing(const std::string& path) {
    throw output_error{"cannot write " + path + ": " + std::strerror(errno) +
                       "; give --output a path that can be written"};
}

void write_file(const std::string& path, std::string_view content) {
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    if (file == nullptr)
        refuse_writing(path);
    const bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
    const int trouble = errno;
    if (std::fclose(file) != 0)
        refuse_writing(path);
    if (!written) {
        errno = trouble;
        refuse_writing(path);
    }
}

/// A run that can be shown.
struct choice {
    const char* title;
    memory_map::told_story (*tell)();
};
const std::map<std::string, choice> stories{
    {"tensors", {"vtensor: a memory map", memory_map::tell_story}},
    {"manager", {"vtensor: a memory map of a manager's sequences", memory_map::tell_manager_story}}};

void run(const std::string& path, const choice& chosen) {
    const memory_map::told_story story = chosen.tell();
    const auto timeline = memory_map::make_timeline(chosen.title, story.entries);
    const std::string page = memory_map::make_html(timeline);
    write_file(path, page);
    std::cout << path << ": " << timeline.at("steps").size() << " steps, "
              << to_string(vtensor::bytes{page.size()}) << "; open it in a browser\n";
}

int fail(int code, const std::string& sentence) {
    std::cerr << "memory_map: " << sentence << "\n";
    return code;
}

} // namespace

int main(int count, char** words) {
    std::string path = "memory_map.html";
    std::string story = "tensors";
    CLI::App app{"Writes an HTML file that shows, step by step, what the library does to memory while "
                 "conversations come, share, change and go.",
                 "memory_map"};
    app.add_option("--output", path, "The file to write (default: memory_map.html)")->type_name("FILE");
    app.add_option("--story", story,
                   "What is shown: tensors, each call by hand (default); or manager, requests served in less "
                   "memory than they want")
        ->check(CLI::IsMember(stories))
        ->type_name("NAME");
    app.set_version_flag("--version", "memory_map " VTENSOR_VERSION);
    try {
        app.parse(count, words);
        run(path, stories.at(story));
        return 0;
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return 0;
    } catch (const CLI::CallForVersion& version) {
        std::cout << version.what() << "\n";
        return 0;
    } catch (const CLI::ParseError& failure) {
        return fail(2, std::string{failure.what()} + "; see --help");
    } catch (const output_error& failure) {
        return fail(2, failure.what());
    } catch (const vtensor::failure& failure) {
        return fail(2,
                    "the memory of the story was refused: " + to_string(failure.error()) + "; free memory");
    } catch (const std::bad_alloc&) {
        return fail(2, "there is not enough memory for the page; free memory");
    } catch (const std::exception& failure) {
        return fail(1, std::string{"unexpected: "} + failure.what());
    }
}
