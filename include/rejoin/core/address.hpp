// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <rejoin/core/error.hpp>
#include <rejoin/core/text.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

enum class Family : std::uint8_t { none, v4, v6 };

/// An IPv4 or IPv6 address, with the scope (interface index) that a link-local IPv6 address needs. A value of 24 bytes.
struct IpAddress {
    std::uint8_t bytes[16] = {};  ///< network order; IPv4 uses the first four
    std::uint32_t scope = 0;      ///< interface index of a link-local IPv6 address, else 0
    Family family = Family::none;

    static constexpr IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
        IpAddress ip;
        ip.bytes[0] = a, ip.bytes[1] = b, ip.bytes[2] = c, ip.bytes[3] = d;
        ip.family = Family::v4;
        return ip;
    }

    /// From the usual text: four decimal numbers (no leading zeros, no short forms), or RFC 4291 §2.2 without a scope.
    /// Anything else is `invalid_argument`.
    static Result<IpAddress> parse(TextView text);

    std::size_t size() const { return family == Family::v4 ? 4 : family == Family::v6 ? 16 : 0; }
    bool is_loopback() const {
        if (family == Family::v4) return bytes[0] == 127;
        for (int i = 0; i < 15; ++i)
            if (bytes[i] != 0) return false;
        return family == Family::v6 && bytes[15] == 1;
    }
    bool is_link_local() const {
        return family == Family::v4 ? bytes[0] == 169 && bytes[1] == 254
                                    : family == Family::v6 && bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    }
    /// 0.0.0.0, ::, or none at all.
    bool is_unspecified() const {
        for (std::uint8_t b : bytes)
            if (b != 0) return false;
        return true;
    }

    friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

/// An IPv4 address that comes mapped into IPv6 (::ffff:192.0.2.1) as the IPv4 address it is; any other as it is.
inline IpAddress unmapped(const IpAddress& ip) {
    static constexpr std::uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (ip.family != Family::v6 || std::memcmp(ip.bytes, prefix, sizeof prefix) != 0) return ip;
    return IpAddress::v4(ip.bytes[12], ip.bytes[13], ip.bytes[14], ip.bytes[15]);
}

/// An IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2); any other as it is.
inline IpAddress mapped(const IpAddress& ip) {
    if (ip.family != Family::v4) return ip;
    IpAddress v6 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 0, Family::v6};
    std::memcpy(v6.bytes + 12, ip.bytes, 4);
    return v6;
}

/// As people write it: dotted, or RFC 5952 (lower case, the longest run of zeros left out), with `%scope` where there is one.
[[gnu::cold]] inline Text<63> to_text(const IpAddress& ip) {
    Text<63> text;
    if (ip.family == Family::none) return text.append("none");
    if (ip.family == Family::v4) {
        for (int i = 0; i < 4; ++i) text.append(i == 0 ? "" : ".").append_number(ip.bytes[i]);
        return text;
    }
    const auto group = [&](int i) { return static_cast<unsigned>(ip.bytes[2 * i] << 8 | ip.bytes[2 * i + 1]); };
    int run_at = -1, run_length = 1;  // a single zero group is written out (RFC 5952 §4.2.2)
    for (int i = 0; i < 8; ++i) {
        int n = 0;
        while (i + n < 8 && group(i + n) == 0) ++n;
        if (n > run_length) run_at = i, run_length = n;
    }
    for (int i = 0; i < 8; ++i) {
        if (i == run_at) {
            text.append("::");
            i += run_length - 1;
        } else {
            if (i != 0 && i != run_at + run_length) text.append(":");
            text.append_hex(group(i));
        }
    }
    if (ip.scope != 0) text.append("%").append_number(ip.scope);
    return text;
}

namespace detail {

inline bool parse_v4(TextView text, std::uint8_t* to) {
    std::size_t at = 0;
    for (int part = 0; part < 4; ++part) {
        if (part != 0 && (at == text.size() || text[at++] != '.')) return false;
        unsigned value = 0;
        const std::size_t start = at;
        for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && at - start < 4; ++at)
            value = value * 10 + static_cast<unsigned>(text[at] - '0');
        if (at == start || value > 255 || (at - start > 1 && text[start] == '0')) return false;
        to[part] = static_cast<std::uint8_t>(value);
    }
    return at == text.size();
}

[[gnu::cold]] inline bool parse_v6(TextView text, std::uint8_t* to) {
    std::uint8_t bytes[16] = {};
    std::size_t at = 0;
    int n = 0, gap = -1;  // bytes read, and where "::" stood
    if (text.size() >= 2 && text[0] == ':' && text[1] == ':') gap = 0, at = 2;
    while (at < text.size()) {
        if (n == 16) return false;
        std::size_t end = at;
        while (end < text.size() && text[end] != ':' && text[end] != '.') ++end;
        if (end < text.size() && text[end] == '.') {  // the last 32 bits may be dotted
            if (n > 12 || !parse_v4({text.data() + at, text.size() - at}, bytes + n)) return false;
            n += 4;
            at = text.size();
            break;
        }
        if (end == at || end - at > 4) return false;
        unsigned value = 0;
        for (; at < end; ++at) {
            const char c = text[at];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) return false;
            value = value << 4 | static_cast<unsigned>(digit);
        }
        bytes[n++] = static_cast<std::uint8_t>(value >> 8);
        bytes[n++] = static_cast<std::uint8_t>(value);
        if (at == text.size()) break;
        if (++at == text.size()) return false;  // a single colon at the end
        if (text[at] == ':') {
            if (gap >= 0) return false;
            gap = n;
            ++at;
        }
    }
    if (gap < 0 ? n != 16 : n == 16) return false;
    for (int i = 0; i < n; ++i) to[i < gap || gap < 0 ? i : 16 - n + i] = bytes[i];
    return true;
}

}  // namespace detail

inline Result<IpAddress> IpAddress::parse(TextView text) {
    IpAddress ip;
    if (detail::parse_v4(text, ip.bytes)) {
        ip.family = Family::v4;
        return ip;
    }
    ip = {};
    if (!detail::parse_v6(text, ip.bytes)) return Errc::invalid_argument;
    ip.family = Family::v6;
    return ip;
}

/// Where to connect or listen: a number or a name, and a port. A host that is an address is kept as one; any other text of 1 to 253
/// bytes is a name, resolved when it is used. What cannot be either makes an endpoint that is not `valid`, which every call refuses.
class Endpoint {
public:
    Endpoint() = default;
    /// `{"127.0.0.1", 4000}`, `{"::1", 4000}`, `{"example.org", 4000}`; port 0 lets the system choose, where that makes sense.
    Endpoint(TextView host, int port) : port_(static_cast<std::uint16_t>(port)) {
        if (port < 0 || port > 65535) return;
        if (auto ip = IpAddress::parse(host)) {
            ip_ = *ip;
            return;
        }
        if (host.size() == 0 || host.size() > 253) return;
        for (char c : host)
            if (static_cast<unsigned char>(c) <= ' ') return;  // no name has these, and a zero would cut it short
        set_name(host);
    }
    Endpoint(const IpAddress& ip, std::uint16_t port) : ip_(ip), port_(port) {}
    /// As people write it: `192.0.2.1:80`, `[2001:db8::1]:80`, `example.org:80`; without a port, and then an IPv6 address without brackets
    /// too, where there is a usual one. Not `valid` for anything else.
    [[gnu::cold]] static Endpoint parse(TextView text, int usual_port = -1) {
        const auto find = [&](char wanted) {
            std::size_t i = 0;
            while (i < text.size() && text[i] != wanted) ++i;
            return i;
        };
        const bool bracketed = text.size() > 0 && text[0] == '[';
        std::size_t from = 0, end = find(bracketed ? ']' : ':'), at = end;  // the host's, and the port's colon
        if (bracketed) {
            if (end == text.size()) return {};
            from = 1;
            at = end + 1;
        } else if (const auto v6 = IpAddress::parse(text); v6 && v6->family == Family::v6) {
            end = at = text.size();
        }
        const TextView host(text.data() + from, end - from);
        int port = usual_port;
        if (at < text.size()) {
            if (text[at] != ':' || text.size() - at < 2 || text.size() - at > 6) return {};
            port = 0;
            for (++at; at < text.size(); ++at) {
                if (text[at] < '0' || text[at] > '9') return {};
                port = port * 10 + (text[at] - '0');
            }
        }
        const Endpoint read(host, port);
        return bracketed && read.ip().family != Family::v6 ? Endpoint() : read;
    }
    Endpoint(const Endpoint& other) : ip_(other.ip_), port_(other.port_) {
        if (other.name_ != nullptr) set_name(other.name_);
    }
    Endpoint(Endpoint&& other) noexcept : ip_(other.ip_), name_(std::exchange(other.name_, nullptr)), port_(other.port_) {}
    Endpoint& operator=(Endpoint other) noexcept {
        ip_ = other.ip_;
        port_ = other.port_;
        std::swap(name_, other.name_);
        return *this;
    }
    ~Endpoint() { std::free(name_); }

    bool valid() const { return ip_.family != Family::none || name_ != nullptr; }
    /// The address; of family `none` while the host is a name.
    const IpAddress& ip() const { return ip_; }
    std::uint16_t port() const { return port_; }
    /// The name to be resolved, or null when the host is an address. Lives as long as this endpoint.
    const char* name() const { return name_; }

    friend bool operator==(const Endpoint& a, const Endpoint& b) {
        return a.ip_ == b.ip_ && a.port_ == b.port_ && TextView(a.name_) == TextView(b.name_);
    }

private:
    void set_name(TextView host) {
        name_ = static_cast<char*>(std::malloc(host.size() + 1));
        if (name_ == nullptr) return;  // not valid, and refused as such
        std::memcpy(name_, host.data(), host.size());
        name_[host.size()] = 0;
    }

    IpAddress ip_;
    char* name_ = nullptr;
    std::uint16_t port_ = 0;
};

/// `192.0.2.1:80`, `[2001:db8::1]:80`, `example.org:80`.
inline Description to_text(const Endpoint& endpoint) {
    Description text;
    if (endpoint.name() != nullptr)
        text.append(endpoint.name());
    else if (endpoint.ip().family == Family::v6)
        text.append("[").append(to_text(endpoint.ip())).append("]");
    else
        text.append(to_text(endpoint.ip()));
    return text.append(":").append_number(endpoint.port());
}

}  // namespace rejoin::inline v0_1
