// SPDX-License-Identifier: Apache-2.0
//
// Whether touching an address faults, found out in a child process so that the test survives it.
#pragma once

#include <support/catch.hpp>

#include <csignal>
#include <cstddef>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace vtensor::testing {

/// How a child process ended that ran a function.
struct child_end {
    int signal = 0; ///< that killed it; 0 where it ended by itself
    int code = 0;   ///< its exit code where it ended by itself
};

/// Runs `body` in a child process. The child sees the parent's memory as it is now; what it writes to shared
/// mappings the parent sees. Only for a process whose other threads hold no lock that `body` needs.
template <class Body>
child_end run_in_child(Body body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        // Sanitizers turn the signal into a report, and the report into an exit code: not here.
        for (const int fatal : {SIGSEGV, SIGBUS, SIGABRT})
            std::signal(fatal, SIG_DFL);
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        body();
        ::_exit(0);
    }
    int ended = 0;
    REQUIRE(::waitpid(child, &ended, 0) == child);
    return {WIFSIGNALED(ended) ? WTERMSIG(ended) : 0, WIFEXITED(ended) ? WEXITSTATUS(ended) : 0};
}

/// True where `body` touches memory that may not be touched. A bus error is none of that: it says that memory
/// was promised and is not there, and fails the test.
template <class Body>
[[nodiscard]] bool faults(Body body) {
    const child_end end = run_in_child(body);
    INFO("the child ended by signal " << end.signal << ", exit code " << end.code);
    REQUIRE((end.signal == SIGSEGV || (end.signal == 0 && end.code == 0)));
    return end.signal == SIGSEGV;
}

/// True where reading the byte at `where` faults.
[[nodiscard]] inline bool reading_faults(const void* where) {
    return faults([where] { static_cast<void>(*static_cast<const volatile std::byte*>(where)); });
}

/// True where writing the byte at `where` faults. Where it does not, the byte keeps its value.
[[nodiscard]] inline bool writing_faults(void* where) {
    return faults([where] {
        auto* const byte = static_cast<volatile unsigned char*>(where);
        *byte = *byte;
    });
}

} // namespace vtensor::testing
