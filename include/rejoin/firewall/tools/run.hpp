// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/poller.hpp>
#include <rejoin/os/posix/program.hpp>

#if !defined(_WIN32)
#include <signal.h>

namespace rejoin::inline v0_1::firewall {

/// Where one of the system's tools is, which are not on everybody's path; empty: nowhere.
inline Text<63> find_tool(TextView name) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/", "/usr/libexec/ApplicationFirewall/"}) {
        const Text<63> path = Text<63>(folder).append(name);
        if (::access(path.c_str(), X_OK) == 0) return path;
    }
    return {};
}
/// Runs a tool to its end, without a shell, and adds what it prints to `output`: its exit status. Waits ten seconds at most, and then kills
/// it: `timed_out`. `unsupported` where it is not there; `too_large` for more than 16 MiB, or words without end; `out_of_memory`; the
/// system's error.
inline Result<int> run_tool(const iptables::Words& words, Array<char>& output) {
    if (!words.whole()) return Errc::too_large;
    const Text<63> path = find_tool(words[0]);
    if (path.empty()) return Errc::unsupported;
    const char* arguments[34] = {path.c_str()};
    for (std::size_t i = 1; i < words.size(); ++i) arguments[i] = words[i];
    Socket ours, theirs;
    if (auto made = UnixSocket::pair(ours, theirs); !made) return made.error();
    ProgramStart start;
    start.arguments = arguments;
    start.standard_io = theirs.fd();
    start.standard_error = ::open("/dev/null", O_WRONLY | O_CLOEXEC);  // this program's is not for tools to write to
    const auto child = start_program(start);
    if (start.standard_error >= 0) ::close(start.standard_error);
    if (!child) return child.error();
    theirs.close();
    const TimePoint until = monotonic_now() + Duration::seconds(10);
    Error error;
    for (char room[4096]; !error;) {
        const auto size = ours.receive({reinterpret_cast<std::byte*>(room), sizeof room});
        if (size && *size == 0) break;
        if (size) {
            if (output.size() > 16u << 20) error = Errc::too_large;
            if (!output.append(room, *size)) error = Errc::out_of_memory;
        } else if (size.error() == Errc::would_block) {
            rejoin::detail::PollEntry entry{ours.fd(), POLLIN, 0};
            const std::int64_t left = (until - monotonic_now()).milliseconds();
            if (left <= 0 || rejoin::detail::poll_wait(&entry, 1, static_cast<int>(left)) <= 0) error = Errc::timed_out;
        } else {
            error = size.error();
        }
    }
    if (error) ::kill(*child, SIGKILL);
    int status = 0;
    while (::waitpid(*child, &status, 0) < 0 && errno == EINTR) {
    }
    if (error) return error;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

}  // namespace rejoin::inline v0_1::firewall
#endif
