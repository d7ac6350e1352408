// SPDX-License-Identifier: BSL-1.0
#include <cstdio>
#include <rejoin.hpp>
#include <rejoin/std.hpp>

#if REJOIN_VERSION < 100
#error "the version cannot be compared"
#endif

int main(int, char** argv) {
    const std::string version =
        std::to_string(REJOIN_VERSION_MAJOR) + "." + std::to_string(REJOIN_VERSION_MINOR) + "." + std::to_string(REJOIN_VERSION_PATCH);
    // The package's version is the header's.
    std::printf("rejoin %s, expected %s\n", version.c_str(), argv[1]);
    if (version != argv[1]) return 1;

    rejoin::Loop loop;
    if (!loop.post([&loop] { loop.stop(); })) return 1;
    return loop.run() ? 0 : 1;
}
