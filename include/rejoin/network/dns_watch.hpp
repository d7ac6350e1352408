// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/resolv_conf.hpp>
#include <rejoin/os/file_watch.hpp>
#include <rejoin/os/posix/file.hpp>

#if !defined(_WIN32)
#include <cstdlib>

namespace rejoin::inline v0_1 {

/// Where a POSIX system lists the name servers it asks. Absolute paths, which must live as long as what uses them.
struct DnsFiles {
    const char* resolv_conf = "/etc/resolv.conf";
    /// Where it lists but a resolver on this host, the servers that this one asks: systemd-resolved(8) with its stub at 127.0.0.53 or
    /// 127.0.0.54, and what NetworkManager (NetworkManager.conf(5), `dns`) has set up.
    const char* systemd_resolved = "/run/systemd/resolve/resolv.conf";
    const char* network_manager = "/run/NetworkManager/no-stub-resolv.conf";
};

/// Knows the name servers of a POSIX system, and hears that its files were changed. Belongs to the loop's thread.
class DnsWatch {
public:
    /// Of a file, only so much is read: a line that goes beyond is not.
    static constexpr std::size_t file_size_max = 64 * 1024;

    /// `touched` is called after a file was changed, or may have been: call `read`. As not every change makes itself heard, call it every
    /// ten seconds too (`WakeWatch` has a tick): it costs some 20 µs.
    DnsWatch(Loop& loop, Delegate<void()> touched, const DnsFiles& files = {}) : files_(files), watch_(loop, touched) {}

    /// Puts the servers that are asked now in place of `state.dns_servers`; those of a link-local address get their scope from its
    /// interfaces. No file: no server. A file that cannot be read now (out of descriptors or memory, no permission) changes nothing.
    void read(NetworkState& state) {
        const char* const paths[] = {files_.resolv_conf, files_.systemd_resolved, files_.network_manager};
        watch_.watch(paths);  // first, so that nothing that comes after the reading is missed
        auto* buffer = static_cast<char*>(std::malloc(file_size_max));
        if (buffer == nullptr) return;
        Array<IpAddress> before;
        std::swap(before, state.dns_servers);
        TextView text;
        bool whole = read_servers(files_.resolv_conf, buffer, state, text);
        if (asks_only(state, [](const IpAddress& ip) { return ip == IpAddress::v4(127, 0, 0, 53) || ip == IpAddress::v4(127, 0, 0, 54); }))
            whole = whole && read_servers(files_.systemd_resolved, buffer, state, text);
        else if (contains(text, "NetworkManager") && asks_only(state, [](const IpAddress& ip) { return ip.is_loopback(); }))
            whole = whole && read_servers(files_.network_manager, buffer, state, text);
        if (!whole) std::swap(before, state.dns_servers);
        std::free(buffer);
    }

private:
    // `text` is what the file says. Where there is none, the servers stay. False when it cannot be read.
    static bool read_servers(const char* path, char* buffer, NetworkState& state, TextView& text) {
        const auto size = read_file(path, {reinterpret_cast<std::byte*>(buffer), file_size_max});
        if (!size) return size.error() == Error::system(ENOENT) || size.error() == Error::system(ENOTDIR);
        std::size_t whole_lines = *size;
        if (*size == file_size_max)
            while (whole_lines > 0 && buffer[whole_lines - 1] != '\n') --whole_lines;
        text = {buffer, whole_lines};
        return parse_resolv_conf(text, state);
    }
    static bool asks_only(const NetworkState& state, bool (*test)(const IpAddress&)) {
        for (const IpAddress& server : state.dns_servers)
            if (!test(server)) return false;
        return !state.dns_servers.empty();
    }
    static bool contains(TextView text, TextView what) {
        for (std::size_t i = 0; i + what.size() <= text.size(); ++i)
            if (TextView(text.data() + i, what.size()) == what) return true;
        return false;
    }

    DnsFiles files_;
    FileWatch watch_;
};

}  // namespace rejoin::inline v0_1
#endif
