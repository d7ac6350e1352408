// SPDX-License-Identifier: BSL-1.0
// Messages as the kernels' structures have them, written field by field from net/if.h and net/route.h of each system, and not from the
// decoder's tables.
#pragma once

#include <bit>
#include <rejoin/network/route_message.hpp>
#include <string>
#include <vector>

namespace bsd {

using namespace rejoin;
using Buffer = std::vector<std::byte>;

inline Buffer operator+(Buffer a, const Buffer& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

enum class System { macos, freebsd, freebsd_32, netbsd, openbsd, openbsd_32 };
inline constexpr System systems[] = {System::macos,  System::freebsd, System::freebsd_32,
                                     System::netbsd, System::openbsd, System::openbsd_32};

inline const RouteDialect& dialect(System s) {
    switch (s) {
        case System::macos:
            return route_dialect::macos;
        case System::freebsd:
            return route_dialect::freebsd;
        case System::freebsd_32:
            return route_dialect::freebsd_32;
        case System::netbsd:
            return route_dialect::netbsd;
        case System::openbsd:
            return route_dialect::openbsd;
        default:
            return route_dialect::openbsd_32;
    }
}

// rtm_flags
inline constexpr std::uint32_t up = 1, gateway = 2, to_host = 4, reject = 8, blackhole = 0x1000, ifscope = 0x1000000;
// ifm_flags: up, broadcast, running, simplex, multicast
inline constexpr std::uint32_t running = 0x8843, not_running = 0x8803, off = 0x8802, loopback = 0x8049;

class Writer {
public:
    Writer(System s, std::endian o) : system(s), order(o) {}
    const System system;
    const std::endian order;

    bool openbsd() const { return system == System::openbsd || system == System::openbsd_32; }
    bool freebsd() const { return system == System::freebsd || system == System::freebsd_32; }
    bool long_is_4() const { return system == System::freebsd_32 || system == System::openbsd_32; }

    Writer& u8(unsigned value) {
        bytes_.push_back(static_cast<std::byte>(value));
        return *this;
    }
    Writer& u16(unsigned value) { return number(value, 2); }
    Writer& u32(std::uint32_t value) { return number(value, 4); }
    Writer& zeros(std::size_t n) {
        bytes_.resize(bytes_.size() + n);
        return *this;
    }
    Writer& filled_to(std::size_t size) { return zeros(size - bytes_.size()); }
    Writer& text(const std::string& text, std::size_t room) {
        for (std::size_t i = 0; i < room; ++i) u8(i < text.size() ? static_cast<unsigned char>(text[i]) : 0);
        return *this;
    }
    Writer& add(const Buffer& more) {
        bytes_.insert(bytes_.end(), more.begin(), more.end());
        return *this;
    }
    // An address behind a header, with the padding that the system puts after it.
    Writer& address(const Buffer& sockaddr) {
        const std::size_t unit = system == System::macos || long_is_4() ? 4 : 8;
        std::size_t size = sockaddr.empty() ? unit : static_cast<std::size_t>(sockaddr[0]);
        if (size == 0) size = unit;
        add(sockaddr);
        return zeros((size + unit - 1) / unit * unit - sockaddr.size());
    }
    // The finished message: its length goes where every message has it, and where there is one, the header's.
    Buffer message(std::size_t header_length_at = 0, std::size_t header = 0) {
        set_u16(0, bytes_.size());
        if (header_length_at != 0) set_u16(header_length_at, header);
        return bytes_;
    }
    Buffer raw() const { return bytes_; }

private:
    Writer& number(std::uint32_t value, int size) {
        for (int i = 0; i < size; ++i) u8(value >> 8 * (order == std::endian::big ? size - 1 - i : i) & 0xff);
        return *this;
    }
    void set_u16(std::size_t at, std::size_t value) {
        const Buffer two = Writer(system, order).u16(static_cast<unsigned>(value)).raw();
        bytes_[at] = two[0], bytes_[at + 1] = two[1];
    }
    Buffer bytes_;
};

/// Makes the messages of one system in one byte order.
struct Kernel {
    System system = System::macos;
    std::endian order = std::endian::little;

    Writer writer() const { return {system, order}; }
    unsigned version() const { return system == System::netbsd ? 4 : 5; }
    unsigned af_inet6() const {
        if (system == System::macos) return 30;
        return writer().freebsd() ? 28 : 24;
    }

    // sockaddr_in, sockaddr_in6, masks cut off after the last byte that is not zero, sockaddr_dl
    Buffer v4(const IpAddress& ip) const {
        Writer w = writer().u8(16).u8(2).u16(0);
        for (int i = 0; i < 4; ++i) w.u8(ip.bytes[i]);
        return w.zeros(8).raw();
    }
    Buffer v6(const IpAddress& ip, bool embedded) const {
        Writer w = writer().u8(28).u8(af_inet6()).u16(0).zeros(4);
        for (int i = 0; i < 16; ++i) {
            const bool inside = embedded && ip.scope != 0 && (i == 2 || i == 3);
            w.u8(inside ? ip.scope >> 8 * (3 - i) & 0xff : ip.bytes[i]);
        }
        return w.u32(embedded ? 0 : ip.scope).raw();
    }
    Buffer ip(const IpAddress& ip, bool embedded = true) const { return ip.family == Family::v4 ? v4(ip) : v6(ip, embedded); }
    Buffer mask(Family family, unsigned length, unsigned says_family) const {
        const unsigned offset = family == Family::v4 ? 4 : 8, whole = length / 8, rest = length % 8;
        if (length == 0) return writer().u8(0).raw();
        Writer w = writer().u8(offset + whole + (rest != 0)).u8(says_family).zeros(offset - 2);
        for (unsigned i = 0; i < whole; ++i) w.u8(0xff);
        if (rest != 0) w.u8(0xff00u >> rest & 0xff);
        return w.raw();
    }
    Buffer link(unsigned index, const std::string& name) const {
        const auto size = static_cast<unsigned>(name.size());
        return writer().u8(8 + size + 6).u8(18).u16(index).u8(6).u8(size).u8(6).u8(0).text(name, size).zeros(6).raw();
    }

    // rt_msghdr
    Buffer route(unsigned type, unsigned index, std::uint32_t flags, std::uint32_t addrs, const std::vector<Buffer>& addresses,
                 std::uint32_t error = 0, std::uint32_t process = 0, std::uint32_t sequence = 0) const {
        Writer w = writer().u16(0).u8(version()).u8(type);
        const std::size_t header = system == System::macos        ? 92
                                   : system == System::freebsd    ? 152
                                   : system == System::freebsd_32 ? 92
                                   : system == System::netbsd     ? 120
                                                                  : 96;
        if (w.openbsd())
            w.u16(0).u16(index).u16(0).u8(8).u8(0).u32(addrs).u32(flags).u32(0).u32(process).u32(sequence).u32(error);
        else
            w.u16(index).u16(0).u32(flags).u32(addrs).u32(process).u32(sequence).u32(error);
        w.filled_to(header);
        for (const Buffer& address : addresses) w.address(address);
        return w.message(w.openbsd() ? 4 : 0, header);
    }
    // A default route by a gateway: DST, GATEWAY, NETMASK
    Buffer default_route(unsigned type, const IpAddress& by, unsigned index, std::uint32_t more_flags = 0) const {
        IpAddress any;
        any.family = by.family;
        return route(type, index, up | gateway | more_flags, 0x7, {ip(any), ip(by), mask(by.family, 0, 0)});
    }
    // The answer to RTM_GET: DST, GATEWAY, NETMASK, IFP, IFA
    Buffer answer(const IpAddress& to, const Buffer& by, unsigned index, const std::string& name, const IpAddress& from,
                  std::uint32_t flags, std::uint32_t process, std::uint32_t sequence) const {
        return route(4, index, flags, 0x37, {ip(to), by, mask(to.family, 0, 0), link(index, name), ip(from)}, 0, process, sequence);
    }

    // if_msghdr. Link states are FreeBSD's and NetBSD's: 1 down, 2 up, 0 unknown; on OpenBSD 2 and 4.
    Buffer interface_(unsigned index, std::uint32_t flags, unsigned link_state, const std::string& name = "") const {
        const std::uint32_t addrs = name.empty() ? 0 : 0x10;
        Writer w = writer().u16(0).u8(version()).u8(system == System::netbsd ? 0x14 : 0xe);
        std::size_t header = 0;
        if (w.openbsd()) {
            header = system == System::openbsd ? 168 : 160;
            w.u16(0).u16(index).u16(0).u8(0).u8(0).u32(addrs).u32(flags).u32(0);
            w.u8(6).u8(6).u8(14).u8(link_state == 0 ? 0 : link_state == 1 ? 2 : 4);
        } else {
            w.u32(addrs).u32(flags).u16(index).u16(0);
            if (w.freebsd()) w.u8(6).u8(0).u8(6).u8(14).u8(link_state), header = 168;
            if (system == System::netbsd) w.u8(6).u8(6).u8(14).u8(0).u32(link_state), header = 152;
            if (system == System::macos) header = 112;
        }
        w.filled_to(header);
        if (!name.empty()) w.address(link(index, name));
        return w.message(w.openbsd() ? 4 : 0, header);
    }
    // if_msghdr2 of macOS
    Buffer interface2(unsigned index, std::uint32_t flags, const std::string& name) const {
        return writer().u16(0).u8(5).u8(0x12).u32(0x10).u32(flags).u16(index).u16(0).filled_to(160).address(link(index, name)).message();
    }

    // ifa_msghdr with NETMASK, IFP, IFA. `type`: NEWADDR, DELADDR, and where there is one, the message of changed flags.
    enum class Said { is, gone, changed };
    Buffer address(Said said, unsigned index, const IpAddress& ip_, unsigned length, std::uint32_t address_flags = 0,
                   const std::string& name = "", bool embedded = true, unsigned mask_family = 255) const {
        const std::uint32_t addrs = 0x24 | (name.empty() ? 0 : 0x10);
        Writer w = writer().u16(0).u8(version());
        std::size_t header = 20;
        if (system == System::netbsd) {
            w.u8(said == Said::is ? 0x16 : said == Said::gone ? 0x17 : 0x18);
            w.u16(index).u16(0).u32(up).u32(addrs).u32(0).u32(address_flags).u32(0), header = 32;
        } else {
            w.u8(said == Said::is ? 0xc : said == Said::gone ? 0xd : 0x14);
            if (w.openbsd())
                w.u16(0).u16(index).u16(0).u8(0).u8(0).u32(addrs).u32(up).u32(0), header = 24;
            else
                w.u32(addrs).u32(up).u16(index).u16(0).u32(0);
        }
        w.filled_to(header).address(mask(ip_.family, length, mask_family));
        if (!name.empty()) w.address(link(index, name));
        w.address(ip(ip_, embedded));
        return w.message(w.openbsd() ? 4 : 0, header);
    }
    // The form before NetBSD 8: addrs, flags, metric, index
    Buffer old_address(Said said, unsigned index, const IpAddress& ip_, unsigned length) const {
        return writer()
            .u16(0)
            .u8(4)
            .u8(said == Said::is ? 0xc : 0xd)
            .u32(0x24)
            .u32(up)
            .u32(0)
            .u16(index)
            .filled_to(24)
            .address(mask(ip_.family, length, 2))
            .address(ip(ip_))
            .message();
    }

    // if_announcemsghdr; macOS has none
    Buffer announcement(unsigned index, const std::string& name, bool departure) const {
        Writer w = writer().u16(0).u8(version()).u8(system == System::netbsd ? 0x10 : w_openbsd() ? 0xf : 0x11);
        if (w.openbsd()) return w.u16(0).u16(index).u16(departure).text(name, 16).message(4, 26);
        return w.u16(index).text(name, 16).u16(departure).message();
    }
    Buffer desync() const { return writer().u16(0).u8(5).u8(0x10).u16(0).zeros(90).message(4, 96); }

    // if_msghdrl and ifa_msghdrl of FreeBSD, `longer` than they are today
    Buffer list_interface(unsigned index, std::uint32_t flags, unsigned link_state, const std::string& name, unsigned longer = 0) const {
        return writer()
            .u16(0)
            .u8(5)
            .u8(0xe)
            .u32(0x10)
            .u32(flags)
            .u16(index)
            .u16(0)
            .u16(176 + longer)
            .u16(24 + longer)
            .u32(0)
            .zeros(longer)
            .u8(6)
            .u8(0)
            .u8(6)
            .u8(14)
            .u8(link_state)
            .filled_to(176 + longer)
            .address(link(index, name))
            .message();
    }
    Buffer list_address(unsigned index, const IpAddress& ip_, unsigned length, unsigned longer = 0) const {
        return writer()
            .u16(0)
            .u8(5)
            .u8(0xc)
            .u32(0x24)
            .u32(up)
            .u16(index)
            .u16(0)
            .u16(176 + longer)
            .u16(24)
            .u32(0)
            .filled_to(176 + longer)
            .address(mask(ip_.family, length, 2))
            .address(ip(ip_, false))
            .message();
    }

private:
    bool w_openbsd() const { return writer().openbsd(); }
};

}  // namespace bsd
