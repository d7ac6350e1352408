// SPDX-License-Identifier: BSL-1.0
#include "network/route_messages.hpp"

#include <string>

#include "catch.hpp"

using namespace rejoin;
using namespace bsd;
using Kind = RouteUpdate::Kind;
using Said = Kernel::Said;

namespace {

IpAddress ip(const char* text, std::uint32_t scope = 0) {
    IpAddress address = *IpAddress::parse(text);
    address.scope = scope;
    return address;
}

struct Decoded {
    Result<void> result;
    std::vector<RouteUpdate> updates;
};

// From a copy of exactly the right size, so that a sanitizer sees every step outside.
Decoded decode(const RouteDialect& dialect, const Buffer& bytes, std::endian order) {
    const Buffer exact(bytes);
    Decoded decoded;
    decoded.result = decode_route_messages(dialect, Bytes(exact), order, [&](const RouteUpdate& u) { decoded.updates.push_back(u); });
    return decoded;
}

// Runs a test for every system and both byte orders.
template <class F>
void everywhere(F f) {
    for (System system : systems)
        for (std::endian order : {std::endian::little, std::endian::big}) {
            const Kernel kernel{system, order};
            INFO("system " << static_cast<int>(system) << (order == std::endian::big ? ", big-endian" : ", little-endian"));
            f(
                kernel,
                [&](const Buffer& message) {
                    const Decoded decoded = decode(dialect(system), message, order);
                    REQUIRE(decoded.result);
                    REQUIRE(decoded.updates.size() == 1);
                    return decoded.updates[0];
                },
                [&](const Buffer& message) {
                    const Decoded decoded = decode(dialect(system), message, order);
                    REQUIRE(decoded.result);
                    REQUIRE(decoded.updates.empty());
                });
        }
}

}  // namespace

TEST_CASE("an interface: up, carrier, name") {
    everywhere([](const Kernel& kernel, auto only, auto) {
        RouteUpdate is = only(kernel.interface_(0x103, running, 2, "en0"));
        REQUIRE(is.kind == Kind::interface_is);
        REQUIRE(is.interface_.index == 0x103);
        REQUIRE(is.interface_.name == "en0");
        REQUIRE(is.interface_.up);
        REQUIRE(is.interface_.carrier);
        REQUIRE_FALSE(is.interface_.loopback);
        REQUIRE_FALSE(is.interface_.noise);
        // Most systems tell of a change without the name.
        is = only(kernel.interface_(3, running, 2));
        REQUIRE(is.interface_.index == 3);
        REQUIRE(is.interface_.name.empty());
        is = only(kernel.interface_(3, off, 2, "en0"));
        REQUIRE_FALSE(is.interface_.up);
        is = only(kernel.interface_(1, loopback, 0, "lo0"));
        REQUIRE(is.interface_.loopback);
        REQUIRE(is.interface_.running());
        // What the driver does not know, the flag says; macOS has nothing else.
        REQUIRE_FALSE(only(kernel.interface_(3, not_running, 0, "en0")).interface_.carrier);
        const bool told = kernel.system != System::macos;
        REQUIRE(only(kernel.interface_(3, running, 1, "en0")).interface_.carrier == !told);
        REQUIRE(only(kernel.interface_(3, not_running, 2, "en0")).interface_.carrier == told);
    });
}

TEST_CASE("macOS' longer form of an interface, and which ones are its own") {
    const Kernel kernel;
    const Decoded decoded =
        decode(route_dialect::macos, kernel.interface2(7, running, "utun3") + kernel.interface2(4, running, "en0"), std::endian::little);
    REQUIRE(decoded.result);
    REQUIRE(decoded.updates.size() == 2);
    REQUIRE(decoded.updates[0].interface_.index == 7);
    REQUIRE(decoded.updates[0].interface_.noise);
    REQUIRE(decoded.updates[1].interface_.name == "en0");
    REQUIRE_FALSE(decoded.updates[1].interface_.noise);
    for (const char* noise : {"awdl0", "llw0", "utun12", "ipsec0", "gif0", "stf0", "XHC20", "anpi1", "ap1"})
        REQUIRE(noise_interface(noise));
    for (const char* real : {"en0", "lo0", "bridge100", "apple0", "pdp_ip0", "gifts", "", "a"}) REQUIRE_FALSE(noise_interface(real));
    // Elsewhere a gif or an ipsec is somebody's tunnel.
    const Kernel freebsd{System::freebsd, std::endian::little};
    const Decoded elsewhere = decode(route_dialect::freebsd, freebsd.interface_(3, running, 2, "gif0"), std::endian::little);
    REQUIRE_FALSE(elsewhere.updates.at(0).interface_.noise);
}

TEST_CASE("OpenBSD's link states between down and up") {
    const Kernel kernel{System::openbsd, std::endian::little};
    const auto carrier = [&](unsigned state) {
        Buffer message = kernel.interface_(3, running, 2, "em0");
        message[27] = static_cast<std::byte>(state);
        return decode(route_dialect::openbsd, message, std::endian::little).updates.at(0).interface_.carrier;
    };
    REQUIRE(carrier(0));
    for (unsigned down : {1u, 2u, 3u}) REQUIRE_FALSE(carrier(down));
    for (unsigned is_up : {4u, 5u, 6u}) REQUIRE(carrier(is_up));
}

TEST_CASE("an interface that left, and one that came") {
    everywhere([](const Kernel& kernel, auto only, auto) {
        if (kernel.system == System::macos) return;
        const RouteUpdate gone = only(kernel.announcement(0x105, "vlan0", true));
        REQUIRE(gone.kind == Kind::interface_gone);
        REQUIRE(gone.interface_.index == 0x105);
        REQUIRE(gone.interface_.name == "vlan0");
        REQUIRE(only(kernel.announcement(5, "averylongname_15", true)).interface_.name == "averylongname_1");
        // Of one that came nothing is told but its name.
        REQUIRE(only(kernel.announcement(5, "vlan0", false)).kind == Kind::overrun);
    });
}

TEST_CASE("addresses come and go") {
    everywhere([](const Kernel& kernel, auto only, auto none) {
        for (bool named : {false, true}) {
            const RouteUpdate is = only(kernel.address(Said::is, 0x103, ip("192.0.2.77"), 24, 0, named ? "en0" : ""));
            REQUIRE(is.kind == Kind::address_is);
            REQUIRE(is.address.interface_index == 0x103);
            REQUIRE(is.address.ip == ip("192.0.2.77"));
            REQUIRE(is.address.prefix_length == 24);
            REQUIRE(is.address.usable());
            REQUIRE(is.flags_told == (kernel.system == System::netbsd));
        }
        REQUIRE(only(kernel.address(Said::gone, 3, ip("192.0.2.77"), 24)).kind == Kind::address_gone);
        const RouteUpdate is6 = only(kernel.address(Said::is, 3, ip("2001:db8::7"), 64, 0, "en0"));
        REQUIRE(is6.address.ip == ip("2001:db8::7"));
        REQUIRE(is6.address.prefix_length == 64);
        // An interface's link-layer address is none of these.
        Buffer link = kernel.address(Said::is, 3, ip("192.0.2.77"), 24);
        link[link.size() - 15] = std::byte{18};  // sa_family of the last address, of 16 bytes
        none(link);
    });
}

TEST_CASE("masks are as long as they are, and of no certain family") {
    everywhere([](const Kernel& kernel, auto only, auto) {
        for (unsigned family : {0u, 255u, 2u}) {
            for (unsigned length : {0u, 1u, 7u, 8u, 15u, 20u, 24u, 31u, 32u})
                REQUIRE(only(kernel.address(Said::is, 3, ip("192.0.2.77"), length, 0, "", true, family)).address.prefix_length == length);
            for (unsigned length : {0u, 3u, 10u, 48u, 64u, 127u, 128u})
                REQUIRE(only(kernel.address(Said::is, 3, ip("2001:db8::7"), length, 0, "", true, family)).address.prefix_length == length);
        }
    });
}

TEST_CASE("a link-local address has its scope inside, beside it, or from its interface") {
    everywhere([](const Kernel& kernel, auto only, auto) {
        for (bool embedded : {true, false}) {
            const RouteUpdate is = only(kernel.address(Said::is, 0x103, ip("fe80::1:2", 0x103), 64, 0, "", embedded));
            REQUIRE(is.address.ip == ip("fe80::1:2", 0x103));
        }
        REQUIRE(only(kernel.address(Said::is, 9, ip("fe80::1:2", 0), 64)).address.ip == ip("fe80::1:2", 9));
        // Bytes 2 and 3 of any other address are its own.
        REQUIRE(only(kernel.address(Said::is, 9, ip("2001:db8::7"), 64)).address.ip == ip("2001:db8::7"));
    });
}

TEST_CASE("NetBSD tells how far an address is checked") {
    for (std::endian order : {std::endian::little, std::endian::big}) {
        const Kernel kernel{System::netbsd, order};
        const auto with = [&](const char* address, std::uint32_t flags, Said said = Said::is) {
            const RouteUpdate is = decode(route_dialect::netbsd, kernel.address(said, 3, ip(address), 64, flags), order).updates.at(0);
            REQUIRE(is.kind == Kind::address_is);
            return is.address;
        };
        REQUIRE(with("2001:db8::7", 0x42).tentative);
        REQUIRE(with("2001:db8::7", 0x08).tentative);  // detached: its link is gone
        REQUIRE(with("2001:db8::7", 0x06).duplicate);
        REQUIRE_FALSE(with("2001:db8::7", 0x06).tentative);
        REQUIRE(with("2001:db8::7", 0xd0, Said::changed).deprecated);
        REQUIRE(with("2001:db8::7", 0xd0, Said::changed).temporary);
        REQUIRE(with("2001:db8::7", 0xd0).usable());
        REQUIRE(with("192.0.2.7", 0x01).tentative);
        REQUIRE(with("192.0.2.7", 0x02).duplicate);
        REQUIRE(with("192.0.2.7", 0x04).tentative);
        REQUIRE(with("192.0.2.7", 0x08).tentative);
        REQUIRE(with("192.0.2.7", 0x10).usable());
        REQUIRE_FALSE(with("192.0.2.7", 0x10).deprecated);
    }
}

TEST_CASE("flags that were asked for") {
    InterfaceAddress address;
    address.ip = ip("2001:db8::7");
    set_address_flags(route_dialect::freebsd, 0x08, address);
    REQUIRE(address.usable());  // only NetBSD keeps a detached one from being used
    set_address_flags(route_dialect::macos, 0x82, address);
    REQUIRE(address.tentative);
    REQUIRE(address.temporary);
    set_address_flags(route_dialect::openbsd, 0x14, address);
    REQUIRE(address.duplicate);
    REQUIRE(address.deprecated);
    REQUIRE_FALSE(address.tentative);
    address = {};
    address.ip = ip("192.0.2.7");
    set_address_flags(route_dialect::freebsd, 0xff, address);
    REQUIRE(address.usable());
}

TEST_CASE("NetBSD's addresses of before version 8, and OpenBSD's changed ones") {
    for (std::endian order : {std::endian::little, std::endian::big}) {
        const Kernel netbsd{System::netbsd, order};
        const Decoded old = decode(
            route_dialect::netbsd,
            netbsd.old_address(Said::is, 0x103, ip("192.0.2.7"), 24) + netbsd.old_address(Said::gone, 0x103, ip("2001:db8::7"), 64), order);
        REQUIRE(old.result);
        REQUIRE(old.updates.size() == 2);
        REQUIRE(old.updates[0].kind == Kind::address_is);
        REQUIRE(old.updates[0].address.interface_index == 0x103);
        REQUIRE(old.updates[0].address.ip == ip("192.0.2.7"));
        REQUIRE(old.updates[0].address.prefix_length == 24);
        REQUIRE_FALSE(old.updates[0].flags_told);
        REQUIRE(old.updates[1].kind == Kind::address_gone);
        REQUIRE(old.updates[1].address.ip == ip("2001:db8::7"));

        const Kernel openbsd{System::openbsd, order};
        const Decoded changed = decode(route_dialect::openbsd, openbsd.address(Said::changed, 3, ip("2001:db8::7"), 64), order);
        REQUIRE(changed.updates.at(0).kind == Kind::address_is);
    }
}

TEST_CASE("FreeBSD's lists say themselves how long their headers are") {
    for (std::endian order : {std::endian::little, std::endian::big})
        for (System system : {System::freebsd, System::freebsd_32})
            for (unsigned longer : {0u, 16u}) {
                const Kernel kernel{system, order};
                const RouteDialect& list = system == System::freebsd ? route_dialect::freebsd_list : route_dialect::freebsd_list_32;
                const Decoded decoded = decode(
                    list,
                    kernel.list_interface(0x103, running, 1, "em0", longer) + kernel.list_interface(4, not_running, 2, "em1", longer) +
                        kernel.list_address(4, ip("192.0.2.7"), 24, longer) + kernel.list_address(4, ip("fe80::7", 4), 64, longer),
                    order);
                REQUIRE(decoded.result);
                REQUIRE(decoded.updates.size() == 4);
                REQUIRE(decoded.updates[0].interface_.index == 0x103);
                REQUIRE(decoded.updates[0].interface_.name == "em0");
                REQUIRE_FALSE(decoded.updates[0].interface_.carrier);
                REQUIRE(decoded.updates[1].interface_.carrier);
                REQUIRE(decoded.updates[2].address.ip == ip("192.0.2.7"));
                REQUIRE(decoded.updates[2].address.prefix_length == 24);
                REQUIRE(decoded.updates[3].address.ip == ip("fe80::7", 4));
            }
    // A header that ends where the message goes on to say it does not, or where its if_data is not.
    const Kernel kernel{System::freebsd, std::endian::little};
    Buffer interface_ = kernel.list_interface(3, running, 1, "em0");
    interface_[16] = std::byte{23};
    REQUIRE(decode(route_dialect::freebsd_list, interface_, std::endian::little).result.error() == Errc::malformed);
    interface_[16] = std::byte{0xff};
    REQUIRE(decode(route_dialect::freebsd_list, interface_, std::endian::little).result.error() == Errc::malformed);
    interface_ = kernel.list_interface(3, running, 1, "em0");
    interface_[18] = interface_[19] = std::byte{0xff};  // the data is said to be far away: then nothing is known of the link
    REQUIRE(decode(route_dialect::freebsd_list, interface_, std::endian::little).updates.at(0).interface_.carrier);
}

TEST_CASE("only broad routes count") {
    everywhere([](const Kernel& kernel, auto only, auto none) {
        const auto route = [&](unsigned type, const char* to, unsigned length, std::uint32_t flags = up | gateway) {
            const IpAddress by = ip(to).family == Family::v4 ? ip("192.0.2.254") : ip("fe80::ff", 3);
            return kernel.route(type, 3, flags, 0x7, {kernel.ip(ip(to)), kernel.ip(by), kernel.mask(by.family, length, 255)});
        };
        for (unsigned type : {1u, 2u, 3u}) {
            REQUIRE(only(kernel.default_route(type, ip("192.0.2.254"), 3)).kind == Kind::routes_touched);
            REQUIRE(only(kernel.default_route(type, ip("fe80::ff", 3), 3)).kind == Kind::routes_touched);
            REQUIRE(only(route(type, "128.0.0.0", 1)).kind == Kind::routes_touched);
            REQUIRE(only(route(type, "2000::", 3)).kind == Kind::routes_touched);
            REQUIRE(only(route(type, "16.0.0.0", 4)).kind == Kind::routes_touched);
            none(route(type, "8.0.0.0", 5));
            none(route(type, "10.0.0.0", 8));
            none(route(type, "2001:db8::", 32));
            none(kernel.route(type, 3, up | gateway | to_host, 0x3, {kernel.ip(ip("0.0.0.0")), kernel.ip(ip("192.0.2.254"))}));
            // Without a mask and without the flag it is a host as well.
            none(kernel.route(type, 3, up | gateway, 0x3, {kernel.ip(ip("8.8.8.8")), kernel.ip(ip("192.0.2.254"))}));
            // "default" in its shortest form; a route of another protocol; a request that failed.
            const Buffer zero = kernel.writer().u8(0).raw();
            REQUIRE(only(kernel.route(type, 3, up | gateway, 0x7, {zero, kernel.ip(ip("192.0.2.254")), zero})).kind ==
                    Kind::routes_touched);
            none(kernel.route(type, 3, up, 0x5, {kernel.link(3, "en0"), zero}));
            none(kernel.route(type, 3, up | gateway, 0x7, {kernel.ip(ip("0.0.0.0")), kernel.ip(ip("192.0.2.254")), zero}, 17));
        }
    });
}

TEST_CASE("macOS' routes of one interface alone are not the default route") {
    const Kernel macos, netbsd{System::netbsd, std::endian::little};
    const auto updates = [](const Kernel& kernel) {
        return decode(dialect(kernel.system), kernel.default_route(1, ip("192.0.2.254"), 3, ifscope), std::endian::little).updates.size();
    };
    REQUIRE(updates(macos) == 0);
    REQUIRE(updates(netbsd) == 1);  // where the flag means something else
}

TEST_CASE("the answer to a question") {
    everywhere([](const Kernel& kernel, auto only, auto) {
        RouteUpdate is = only(kernel.answer(ip("8.8.8.8"), kernel.ip(ip("192.0.2.254")), 0x103, "en0", ip("192.0.2.7"), up | gateway,
                                            0x11223344, 0x55667788));
        REQUIRE(is.kind == Kind::route_is);
        REQUIRE(is.process == 0x11223344);
        REQUIRE(is.sequence == 0x55667788);
        REQUIRE(is.route.present);
        REQUIRE(is.route.interface_index == 0x103);
        REQUIRE(is.route.gateway == ip("192.0.2.254"));
        REQUIRE(is.route.source == ip("192.0.2.7"));
        // On the link: the gateway is the interface.
        is = only(kernel.answer(ip("192.0.2.9"), kernel.link(3, "en0"), 3, "en0", ip("192.0.2.7"), up, 1, 1));
        REQUIRE(is.route.present);
        REQUIRE(is.route.gateway == IpAddress());
        // IPv6, by a link-local router; the header does not say by which interface.
        is = only(kernel.route(4, 0, up | gateway, 0x37,
                               {kernel.ip(ip("2001:db8::9")), kernel.ip(ip("fe80::ff", 7)), kernel.mask(Family::v6, 0, 0),
                                kernel.link(7, "en7"), kernel.ip(ip("2001:db8::7"))}));
        REQUIRE(is.route.interface_index == 7);
        REQUIRE(is.route.gateway == ip("fe80::ff", 7));
        REQUIRE(is.route.source == ip("2001:db8::7"));
        for (std::uint32_t refusing : {up | reject, up | blackhole, 0u})
            REQUIRE(only(kernel.answer(ip("8.8.8.8"), kernel.ip(ip("127.0.0.1")), 1, "lo0", ip("127.0.0.1"), refusing, 1, 1)).route ==
                    Route());
        is = only(kernel.route(4, 0, up, 0x1, {kernel.ip(ip("8.8.8.8"))}, 3, 1, 2));  // ESRCH
        REQUIRE(is.sequence == 2);
        REQUIRE(is.route == Route());
    });
}

TEST_CASE("the question, as the kernels' structures have it") {
    everywhere([](const Kernel& kernel, auto, auto) {
        for (const IpAddress& to : {ip("8.8.8.8"), ip("2001:4860:4860::8888"), ip("fe80::9", 0x103)}) {
            const bool embeds = !kernel.writer().freebsd();
            Buffer expected = kernel.route(4, 0, up | to_host, 0x11, {kernel.ip(to, embeds), kernel.writer().u8(20).u8(18).zeros(18).raw()},
                                           0, 0, 0x01020304);
            if (kernel.writer().openbsd()) expected[10] = std::byte{0};  // rtm_priority: any
            const RouteRequest request = route_query(dialect(kernel.system), to, 0x01020304, kernel.order);
            REQUIRE(Buffer(request.bytes().begin(), request.bytes().end()) == expected);
        }
    });
    const RouteRequest in_table = route_query(route_dialect::openbsd, ip("8.8.8.8"), 1, std::endian::little, 0x0102);
    REQUIRE(in_table.data[8] == std::byte{0x02});
    REQUIRE(in_table.data[9] == std::byte{0x01});
}

TEST_CASE("messages were lost") {
    for (std::endian order : {std::endian::little, std::endian::big}) {
        const Kernel kernel{System::openbsd, order};
        REQUIRE(decode(route_dialect::openbsd, kernel.desync(), order).updates.at(0).kind == Kind::overrun);
    }
}

TEST_CASE("what does not concern us is passed over, whatever it contains") {
    everywhere([](const Kernel& kernel, auto only, auto none) {
        const Buffer known = kernel.address(Said::is, 3, ip("192.0.2.7"), 24);
        // RTM_LOSING, REDIRECT, MISS, LOCK, RESOLVE and what nobody knows; nothing behind the first four bytes is looked at.
        for (unsigned type : {0u, 5u, 6u, 7u, 8u, 0xbu, 0x19u, 0xffu})
            for (std::size_t size : {std::size_t{4}, std::size_t{9}}) {
                const Buffer other = kernel.writer().u16(0).u8(kernel.version()).u8(type).filled_to(size).message();
                none(other);
                REQUIRE(only(other + known + other).address.ip == ip("192.0.2.7"));
            }
        Buffer other_version = known;
        other_version[2] = std::byte{99};
        none(other_version);
        REQUIRE(only(other_version + known).kind == Kind::address_is);
        none({});
    });
}

TEST_CASE("lengths that do not fit") {
    everywhere([](const Kernel& kernel, auto, auto) {
        const auto malformed = [&](const Buffer& bytes, std::size_t before = 0) {
            const Decoded decoded = decode(dialect(kernel.system), bytes, kernel.order);
            REQUIRE(decoded.result.error() == Errc::malformed);
            REQUIRE(decoded.updates.size() == before);
        };
        const auto with_length = [&](Buffer message, unsigned length) {
            const Buffer two = kernel.writer().u16(length).raw();
            message[0] = two[0], message[1] = two[1];
            return message;
        };
        const std::vector<Buffer> messages = {
            kernel.interface_(3, running, 2, "en0"), kernel.address(Said::is, 3, ip("192.0.2.7"), 24),
            kernel.default_route(1, ip("192.0.2.254"), 3),
            kernel.answer(ip("8.8.8.8"), kernel.ip(ip("192.0.2.254")), 3, "en0", ip("192.0.2.7"), up | gateway, 1, 1)};
        for (const Buffer& message : messages) {
            const auto size = static_cast<unsigned>(message.size());
            for (unsigned length : {0u, 1u, 3u, size + 1, 0xffffu}) {
                malformed(with_length(message, length));
                malformed(message + with_length(message, length), 1);
            }
            malformed({message[0]});
            malformed({message[0], message[1], message[2]});
            // Broken off anywhere before the padding of the last address.
            for (unsigned cut = 4; cut < size - 14; ++cut) malformed(with_length(Buffer(message.data(), message.data() + cut), cut));
        }
        if (kernel.system == System::macos) return;
        const Buffer announced = kernel.announcement(3, "vlan0", true);
        for (unsigned cut = 4; cut < announced.size(); ++cut) malformed(with_length(Buffer(announced.data(), announced.data() + cut), cut));
    });
}

TEST_CASE("an interface's name that is longer than its address") {
    const Kernel kernel;
    Buffer message = kernel.interface_(3, running, 2, "en0");
    message[112 + 5] = std::byte{200};
    REQUIRE(decode(route_dialect::macos, message, std::endian::little).result.error() == Errc::malformed);
}

TEST_CASE("a list's dialect asks nothing") {
    REQUIRE(route_query(route_dialect::freebsd_list, ip("8.8.8.8"), 1, std::endian::little).bytes().empty());
}
