// SPDX-License-Identifier: Apache-2.0
//
// Runs a program and collects what it says. No shell in between: words arrive as they are.
#pragma once

#include "support/temporary.hpp"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace decoder_test {

struct finished {
    int code = -1; ///< the exit code; 1000 + the signal where one ended the program
    std::string out;
    std::string err;
};

inline std::string content_of(const std::filesystem::path& file) {
    std::ifstream stream{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{stream}, {}};
}

/// `out` is where stdout goes, by default into the result; `in` is where stdin comes from.
inline finished spawn(const std::string& program, std::vector<std::string> words, const std::string& out = {},
                      const std::string& in = "/dev/null") {
    const temporary_directory scratch;
    const std::string out_file = out.empty() ? (scratch.path() / "out").string() : out;
    const std::string err_file = (scratch.path() / "err").string();
    constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out_file.c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err_file.c_str(), flags, 0600);

    words.insert(words.begin(), program);
    std::vector<char*> pointers;
    for (std::string& word : words)
        pointers.push_back(word.data());
    pointers.push_back(nullptr);
    pid_t child = 0;
    const int trouble = posix_spawn(&child, program.c_str(), &actions, nullptr, pointers.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (trouble != 0)
        throw std::runtime_error{"cannot start " + program};

    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return {code, out.empty() ? content_of(out_file) : std::string{}, content_of(err_file)};
}

} // namespace decoder_test
