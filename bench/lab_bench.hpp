// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <vector>

#include "../tests/netlab/lab.hpp"

// What benchmarks on real links share.
namespace lab_bench {

inline double milliseconds(rejoin::Duration d) { return static_cast<double>(d.nanoseconds()) / 1e6; }
inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}
inline double worst(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

inline bool wait_for(const std::function<bool()>& condition, rejoin::Duration ceiling) {
    const rejoin::TimePoint end = rejoin::monotonic_now() + ceiling;
    while (!condition()) {
        if (rejoin::monotonic_now() > end) return false;
        usleep(1000);
    }
    return true;
}
inline void need(bool happened, const char* what) {
    if (!happened) throw std::runtime_error(std::string("this did not happen: ") + what);
}

/// Runs `body` as root; the exit status of the program: 77 without root.
template <class F>
int run_as_root(F body) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    if (geteuid() != 0) {
        std::puts("skipped: needs network namespaces of its own (run it as root)");
        return 77;
    }
    try {
        return body() ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}

}  // namespace lab_bench
