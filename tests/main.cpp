// SPDX-License-Identifier: BSL-1.0
// main for every test program, with Catch2 3 or 2.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif
#include <cstdio>
#include <cstdlib>
#if defined(__linux__)
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "skip.hpp"

namespace {

// Asked of the system, not of the user's number: root in a container may be refused what a namespace's root is allowed.
bool can_make_network_namespace() {
#if defined(__linux__)
    const pid_t child = fork();
    if (child == 0) _exit(unshare(CLONE_NEWNET) == 0 ? 0 : 1);
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
#else
    return false;
#endif
}

}  // namespace

int main(int argc, char** argv) {
    if (std::getenv("REJOIN_NETLAB") != nullptr && !can_make_network_namespace()) {
        std::puts("skipped: needs network namespaces of its own (run it as root)");
        return 77;
    }
    const int result = Catch::Session().run(argc, argv);
    return result == 0 && test::skipped ? 77 : result;
}
