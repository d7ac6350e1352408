// SPDX-License-Identifier: BSL-1.0
#include <cstdio>
#include <random>
#include <rejoin/network/netlink_decoder.hpp>
#include <vector>

#include "catch.hpp"

#if defined(__linux__)
#include <linux/if.h>
static_assert(rejoin::rtnetlink::iff_lower_up == IFF_LOWER_UP && rejoin::rtnetlink::iff_dormant == IFF_DORMANT);
#endif

using namespace rejoin;
using Kind = NetlinkUpdate::Kind;

namespace {

// Messages of a Linux 6.18 kernel on x86-64, as they came: a veth pair v0 (3), v1 (2), with 192.0.2.1/24 and 2001:db8::1/64 on v0.
constexpr const char* carrier_lost =
    "d405000010000000000000000000000000000100030000000310000000000000070003007630000008000d00e8030000050010000300000005001100"
    "00000000050043000000000008000400dc050000080032004400000008003300ffff000008001b000000000008001e000000000008003d0000000000"
    "08001f000200000008002800ffff0000080029000000010008003a000000010008003f0000000100080040000000010008003b00f8ff070008003c00"
    "ffff0000080042000000000008002000020000000500210000000000080023000300000008002f000100000008003000020000000600440000000000"
    "060045000000000005002700000000000a000100068952c54df600000a000200ffffffffffff0000cc00170006000000000000000800000000000000"
    "040200000000000004030000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000006400070006000000080000000402000004030000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000c002b00050002000000000010001200"
    "09000100766574680000000008000500020000000c0006006e6f71756575650030031a008c0002008800010000000000000000000000000001000000"
    "010000000100000001000000000000000100000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000010270000e80300000000000000000000000000000000000001000000a0020a00"
    "080001001000008014000500ffff0000a0dc0200b0560000e8030000f40002000000000040000000dc05000001000000010000000100000001000000"
    "ffffffffa00f0000e803000000000000803a0900805101000300000058020000100000000000000001000000010000000100000060ea000000000000"
    "000000000000000000000000000000000000000001000000000000000000000010270000e80300000100000000000000000000000100000000000000"
    "00000000010000000000000000000000000000000000000080ee36000000000000000000010000000000000000000000000000000000000000000000"
    "0004000000000000ffff0000ffffffff010000000000000000000000000000003401030026000000000000000600000000000000b001000000000000"
    "000000000000000006000000000000000000000000000000000000000000000000000000000000000800000000000000080000000000000094020000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000600000000000000080000000000000000000000000000000000000000000000b001000000000000"
    "940200000000000000000000000000000000000000000000000000000000000000000000000000003c00060007000000000000000000000000000000"
    "000000000000000008000000000000000000000000000000000000000000000000000000000000001400070000000000000000000000000000000000"
    "050008000000000024000e00000000000000000000000000000000000000000000000000000000000000000004003e8004004180";
constexpr const char* bridge_port_removed =
    "5400000011000000000000000000000007000100020000004310010000000000070003007631000008000a000400000008000400dc05000005001000"
    "060000000a00010052aec48c6d4c00000800050003000000";
constexpr const char* interface_removed =
    "a8020000110000000000000000000000000001000300000002100000ffffffff070003007630000008000d00e8030000050010000200000005001100"
    "00000000050043000000000008000400dc050000080032004400000008003300ffff000008001b000000000008001e000000000008003d0000000000"
    "08001f000200000008002800ffff0000080029000000010008003a000000010008003f0000000100080040000000010008003b00f8ff070008003c00"
    "ffff0000080042000000000008002000020000000500210000000000080023000700000008002f000300000008003000040000000600440000000000"
    "060045000000000005002700000000000a000100068952c54df600000a000200ffffffffffff0000cc00170000000000000000000d00000000000000"
    "000000000000000002050000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "0000000064000700000000000d0000000000000002050000000000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000c002b00050002000000000010001200"
    "0900010076657468000000000800050000000000090006006e6f6f700000000004001a0024000e000000000000000000000000000000000000000000"
    "00000000000000000000000004003e8004004180";
constexpr const char* address_v4 =
    "4c000000140000004ef2046b5a0e0000021880000300000008000100c000020108000200c00002010700030076300000080008008000000014000600"
    "ffffffffffffffff95dc020095dc0200";
constexpr const char* address_tentative =
    "480000001400000000000000000000000a40c000030000001400010020010db800000000000000000000000114000600ffffffffffffffffa5dc0200"
    "a5dc020008000800c0000000";
constexpr const char* address_link_local =
    "500000001400000000000000000000000a4080fd0300000014000100fe80000000000000048952fffec54df614000600ffffffffffffffffa0dc0200"
    "a0dc0200080008008000000005000b0003000000";
constexpr const char* address_removed =
    "4c0000001500000055f2046b660e0000021880000300000008000100c000020108000200c00002010700030076300000080008008000000014000600"
    "ffffffffffffffff95dc020095dc0200";
constexpr const char* default_v4 =
    "340000001800000651f2046b5e0e000002000000fe0300010000000008000f00fe00000008000500c00002fe0800040003000000";
constexpr const char* default_v6_removed =
    "740000001900000000000000000000000a000000fe0300010000000008000f00fe00000008000600000400001400050020010db80000000000000000"
    "000000ff080004000300000024000c0000000000000000000000000000000000000000000000000000000000000000000500140000000000";
constexpr const char* rule_added =
    "440000002000000055f2046b6a0e000002002000640000010000000008000f006400000008000e00ffffffff050015000000000008000600fd7f0000"
    "08000200c0000209";
constexpr const char* answer4 =
    "7000000018000000070000004c1b000002200000fe0000010002000008000f00fe0000000800010008080808080004000300000008000700c0000201"
    "08000500c00002fe080019000000000024000c000200000000000000000000000000000000000000000000000000000000000000";
constexpr const char* answer6 =
    "b000000018000000070000004c1b00000a808000fe0300010000000008000f00fe000000140001002001486048600000000000000000888814000200"
    "000000000000000000000000000000001400070020010db800000000000000000000000108000600000400001400050020010db80000000000000000"
    "000000ff080004000300000024000c0002000000000000000000000000000000000000000000000000000000000000000500140000000000";
constexpr const char* answer6ll =
    "b000000018000000070000004c1b00000a808000fe0300010000000008000f00fe000000140001002001486048600000000000000000888814000200"
    "000000000000000000000000000000001400070020010db8000000000000000000000001080006000004000014000500fe8000000000000000000000"
    "00000009080004000300000024000c0002000000000000000000000000000000000000000000000000000000000000000500140000000000";
constexpr const char* via6 =
    "8000000018000000070000004c1b000002200000fe0000010002000008000f00fe0000000800010008080808080004000300000008000700c0000201"
    "160012000a00fe8000000000000000000000000000090000080019000000000024000c00020000000000000000000000000000000000000000000000"
    "0000000000000000";
constexpr const char* local4 =
    "6800000018000000070000004c1b000002200000fe0000020002008008000f00fe000000080001007f0000010800040001000000080007007f000001"
    "080019000000000024000c000200000000000000000000000000000000000000000000000000000000000000";
constexpr const char* refused4 =
    "3800000002000000070000004c1b00009bffffff240000001a00010007000000000000000220000000000000000000000800010008080808";
constexpr const char* refused6 =
    "4400000002000000070000004c1b00009bffffff300000001a00010007000000000000000a8000000000000000000000140001002001486048600000"
    "0000000000008888";
constexpr const char* every_address =
    "4c00000014000200070000004c1b0000020880fe01000000080001007f000001080002007f000001070003006c6f0000080008008000000014000600"
    "ffffffffffffffffc4650400c46504004c00000014000200070000004c1b0000021880000300000008000100c000020108000200c000020107000300"
    "76300000080008008000000014000600ffffffffffffffffc5650400c56504005000000014000200070000004c1b00000a8080fe0100000014000100"
    "0000000000000000000000000000000114000600ffffffffffffffffc4650400c4650400080008008000000005000b00010000005000000014000200"
    "070000004c1b00000a4080fd0200000014000100fe800000000000008c069dfffeef50ac14000600ffffffffffffffffc5650400c565040008000800"
    "8000000005000b00030000004800000014000200070000004c1b00000a408200030000001400010020010db800000000000000000000000114000600"
    "ffffffffffffffffc5650400c565040008000800820000005000000014000200070000004c1b00000a4080fd0300000014000100fe80000000000000"
    "4c4b73fffe5c3e7414000600ffffffffffffffffc5650400c5650400080008008000000005000b0003000000";
constexpr const char* dump_end = "1400000003000200070000004c1b000000000000";
constexpr const char* all_fixtures[] = {carrier_lost,
                                        bridge_port_removed,
                                        interface_removed,
                                        address_v4,
                                        address_tentative,
                                        address_link_local,
                                        address_removed,
                                        default_v4,
                                        default_v6_removed,
                                        rule_added,
                                        answer4,
                                        answer6,
                                        answer6ll,
                                        via6,
                                        local4,
                                        refused4,
                                        refused6,
                                        every_address,
                                        dump_end};

using Buffer = std::vector<std::byte>;

Buffer from_hex(TextView hex) {
    const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
    Buffer bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) bytes.push_back(static_cast<std::byte>(digit(hex[i]) << 4 | digit(hex[i + 1])));
    return bytes;
}

void swap_at(Buffer& bytes, std::size_t at, std::size_t size) {
    for (std::size_t i = 0; i < size / 2; ++i) std::swap(bytes[at + i], bytes[at + size - 1 - i]);
}

// The same little-endian messages as a big-endian kernel would send them.
Buffer big_endian(Buffer bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t end = at + load<std::uint32_t>(&bytes[at], std::endian::little);
        const auto type = load<std::uint16_t>(&bytes[at + 4], std::endian::little);
        for (std::size_t field : {0u, 8u, 12u}) swap_at(bytes, at + field, 4);
        for (std::size_t field : {4u, 6u}) swap_at(bytes, at + field, 2);
        std::size_t body = at + 16, attributes = end;
        std::vector<std::uint16_t> numbers;  // the attributes that are numbers of four bytes
        if (type == rtnetlink::nlmsg_error || type == rtnetlink::nlmsg_done) swap_at(bytes, body, 4);
        if (type == rtnetlink::rtm_newlink || type == rtnetlink::rtm_dellink) {
            for (std::size_t field : {4u, 8u, 12u}) swap_at(bytes, body + field, 4);
            attributes = body + 16;
        } else if (type == rtnetlink::rtm_newaddr || type == rtnetlink::rtm_deladdr) {
            swap_at(bytes, body + 4, 4);
            attributes = body + 8, numbers = {rtnetlink::ifa_flags};
        } else if (type == rtnetlink::rtm_newroute || type == rtnetlink::rtm_delroute) {
            swap_at(bytes, body + 8, 4);
            attributes = body + 12, numbers = {rtnetlink::rta_oif};
        }
        while (attributes < end) {
            const auto size = load<std::uint16_t>(&bytes[attributes], std::endian::little);
            const auto what = load<std::uint16_t>(&bytes[attributes + 2], std::endian::little);
            swap_at(bytes, attributes, 2);
            swap_at(bytes, attributes + 2, 2);
            for (std::uint16_t number : numbers)
                if (what == number) swap_at(bytes, attributes + 4, 4);
            if (type == rtnetlink::rtm_newroute && what == rtnetlink::rta_via) swap_at(bytes, attributes + 4, 2);
            attributes += (size + 3u) & ~3u;
        }
        at = (end + 3) & ~std::size_t{3};
    }
    return bytes;
}

struct Decoded {
    Result<void> result;
    std::vector<NetlinkUpdate> updates;
};

// From a copy of exactly the right size, so that a sanitizer sees every step outside.
Decoded decode(const Buffer& bytes, std::endian order) {
    const Buffer exact(bytes);
    Decoded decoded;
    decoded.result = decode_netlink(Bytes(exact), order, [&](const NetlinkUpdate& update) { decoded.updates.push_back(update); });
    return decoded;
}

// The one update of a fixture, which both byte orders agree on.
NetlinkUpdate only(const char* hex) {
    const Decoded little = decode(from_hex(hex), std::endian::little);
    const Decoded big = decode(big_endian(from_hex(hex)), std::endian::big);
    REQUIRE(little.result);
    REQUIRE(big.result);
    REQUIRE(little.updates.size() == 1);
    REQUIRE(big.updates.size() == 1);
    const NetlinkUpdate &a = little.updates[0], &b = big.updates[0];
    REQUIRE(a.kind == b.kind);
    REQUIRE(a.sequence == b.sequence);
    REQUIRE(a.error == b.error);
    REQUIRE(a.interface_.index == b.interface_.index);
    REQUIRE(a.interface_.name == TextView(b.interface_.name));
    REQUIRE(a.interface_.up == b.interface_.up);
    REQUIRE(a.interface_.carrier == b.interface_.carrier);
    REQUIRE(a.address == b.address);
    REQUIRE(a.route == b.route);
    return a;
}

IpAddress ip(TextView text, std::uint32_t scope = 0) {
    auto parsed = IpAddress::parse(text);
    REQUIRE(parsed);
    parsed->scope = scope;
    return *parsed;
}

Buffer hand_made(std::initializer_list<unsigned> bytes) {
    Buffer made;
    for (unsigned b : bytes) made.push_back(static_cast<std::byte>(b));
    return made;
}

void set_flags(Buffer& link, std::uint32_t flags) {
    for (std::size_t i = 0; i < 4; ++i) link[24 + i] = static_cast<std::byte>(flags >> 8 * i);
}

}  // namespace

TEST_CASE("netlink: interfaces") {
    SECTION("up without carrier") {
        const NetlinkUpdate update = only(carrier_lost);
        REQUIRE(update.kind == Kind::interface_is);
        REQUIRE(update.interface_.index == 3);
        REQUIRE(update.interface_.name == TextView("v0"));
        REQUIRE(update.interface_.up);
        REQUIRE_FALSE(update.interface_.carrier);
        REQUIRE_FALSE(update.interface_.loopback);
    }
    SECTION("flags") {
        struct Row {
            std::uint32_t flags;
            bool up, carrier, loopback;
        };
        for (const Row& row : {Row{0x11043, true, true, false}, Row{0x31003, true, false, false}, Row{0x1002, false, false, false},
                               Row{0x10049, true, true, true}, Row{0x10002, false, false, false}, Row{0x11003, true, false, false},
                               Row{0x1043, true, false, false}}) {
            Buffer bytes = from_hex(carrier_lost);
            set_flags(bytes, row.flags);
            const Decoded decoded = decode(bytes, std::endian::little);
            REQUIRE(decoded.updates.size() == 1);
            const Interface& got = decoded.updates[0].interface_;
            CHECK(got.up == row.up);
            CHECK(got.carrier == row.carrier);
            CHECK(got.loopback == row.loopback);
            CHECK(got.running() == (row.up && row.carrier));
        }
    }
    SECTION("removed") {
        const NetlinkUpdate update = only(interface_removed);
        REQUIRE(update.kind == Kind::interface_gone);
        REQUIRE(update.interface_.index == 3);
    }
    SECTION("a port that leaves a bridge is no interface that goes") {
        REQUIRE(decode(from_hex(bridge_port_removed), std::endian::little).updates.empty());
        REQUIRE(decode(big_endian(from_hex(bridge_port_removed)), std::endian::big).updates.empty());
    }
    SECTION("a name that is too long or has no end is cut") {
        Buffer bytes = hand_made({16 + 16 + 4 + 20,
                                  0,
                                  0,
                                  0,
                                  16,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,  //
                                  0,
                                  0,
                                  1,
                                  0,
                                  9,
                                  0,
                                  0,
                                  0,
                                  1,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  0,
                                  24,
                                  0,
                                  3,
                                  0});
        bytes.insert(bytes.end(), 20, std::byte{'x'});
        const Decoded decoded = decode(bytes, std::endian::little);
        REQUIRE(decoded.updates.size() == 1);
        REQUIRE(decoded.updates[0].interface_.name == TextView("xxxxxxxxxxxxxxx"));
    }
}

TEST_CASE("netlink: addresses") {
    SECTION("IPv4") {
        const NetlinkUpdate update = only(address_v4);
        REQUIRE(update.kind == Kind::address_is);
        REQUIRE(update.address == InterfaceAddress{3, ip("192.0.2.1"), 24});
        REQUIRE(update.address.usable());
        REQUIRE(only(address_removed).kind == Kind::address_gone);
        REQUIRE(only(address_removed).address == update.address);
    }
    SECTION("IPv6 being checked") {
        const NetlinkUpdate update = only(address_tentative);
        REQUIRE(update.address == InterfaceAddress{3, ip("2001:db8::1"), 64, true});
        REQUIRE_FALSE(update.address.usable());
    }
    SECTION("a link-local one has its interface as scope") {
        REQUIRE(only(address_link_local).address.ip == ip("fe80::489:52ff:fec5:4df6", 3));
    }
    SECTION("flags: temporary, which in IPv4 means something else") {
        Buffer bytes = from_hex(address_tentative);
        bytes[68] = std::byte{0x01};
        CHECK(decode(bytes, std::endian::little).updates.at(0).address.temporary);
        bytes[68] = std::byte{0x80};
        CHECK_FALSE(decode(bytes, std::endian::little).updates.at(0).address.temporary);
        bytes = from_hex(address_v4);
        bytes[18] = std::byte{0x81};  // secondary, in the header
        CHECK_FALSE(decode(bytes, std::endian::little).updates.at(0).address.temporary);
    }
    SECTION("flags: tentative, optimistic, duplicate, deprecated") {
        Buffer bytes = from_hex(address_tentative);
        struct Row {
            std::uint8_t flags;
            bool tentative, duplicate, deprecated;
        };
        for (const Row& row : {Row{0x40, true, false, false}, Row{0x44, false, false, false}, Row{0x48, true, true, false},
                               Row{0xa0, false, false, true}, Row{0x00, false, false, false}}) {
            bytes[68] = std::byte{row.flags};  // in IFA_FLAGS, which counts more than the header
            const InterfaceAddress got = decode(bytes, std::endian::little).updates.at(0).address;
            CHECK(got.tentative == row.tentative);
            CHECK(got.duplicate == row.duplicate);
            CHECK(got.deprecated == row.deprecated);
        }
    }
    SECTION("point to point: the local one, whichever attribute comes first") {
        for (bool local_first : {false, true}) {
            Buffer bytes = hand_made({40, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 32, 0x80, 0, 5, 0, 0, 0});
            const Buffer peer = hand_made({8, 0, 1, 0, 10, 0, 0, 2}), local = hand_made({8, 0, 2, 0, 10, 0, 0, 1});
            const Buffer &first = local_first ? local : peer, &second = local_first ? peer : local;
            bytes.insert(bytes.end(), first.begin(), first.end());
            bytes.insert(bytes.end(), second.begin(), second.end());
            REQUIRE(decode(bytes, std::endian::little).updates.at(0).address.ip == ip("10.0.0.1"));
        }
    }
    SECTION("flag bits in an attribute's type do not count") {
        Buffer bytes = from_hex(address_tentative);
        bytes[67] = std::byte{0xc0};  // NLA_F_NESTED and NLA_F_NET_BYTEORDER on IFA_FLAGS
        bytes[68] = std::byte{0x20};
        REQUIRE(decode(bytes, std::endian::little).updates.at(0).address.deprecated);
    }
    SECTION("written by hand, big-endian") {
        const Buffer bytes = hand_made({0, 0, 0,    32, 0,  20, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0,  // nlmsghdr
                                        2, 8, 0x80, 0,  0,  0,  0, 7,                          // ifaddrmsg
                                        0, 8, 0,    2,  10, 1,  2, 3});                        // IFA_LOCAL
        const Decoded decoded = decode(bytes, std::endian::big);
        REQUIRE(decoded.result);
        REQUIRE(decoded.updates.at(0).sequence == 9);
        REQUIRE(decoded.updates.at(0).address == InterfaceAddress{7, ip("10.1.2.3"), 8});
        REQUIRE(decode(bytes, std::endian::little).result.error() == Errc::malformed);
    }
}

TEST_CASE("netlink: routes") {
    SECTION("announced") {
        const NetlinkUpdate update = only(default_v4);
        REQUIRE(update.kind == Kind::route_is);
        REQUIRE(update.route == Route{true, 3, ip("192.0.2.254"), {}});
        REQUIRE(update.family == Family::v4);
        REQUIRE(only(default_v6_removed).kind == Kind::routes_touched);
        REQUIRE(only(default_v6_removed).family == Family::v6);
        REQUIRE(only(rule_added).kind == Kind::routes_touched);
        REQUIRE(only(rule_added).family == Family::v4);
    }
    SECTION("looked up") {
        REQUIRE(only(answer4).route == Route{true, 3, ip("192.0.2.254"), ip("192.0.2.1")});
        REQUIRE(only(answer6).route == Route{true, 3, ip("2001:db8::ff"), ip("2001:db8::1")});
        REQUIRE(only(answer6ll).route == Route{true, 3, ip("fe80::9", 3), ip("2001:db8::1")});
        REQUIRE(only(via6).route == Route{true, 3, ip("fe80::9", 3), ip("192.0.2.1")});
        REQUIRE(only(local4).route == Route{true, 1, {}, ip("127.0.0.1")});
        REQUIRE(only(answer4).sequence == 7);
    }
    SECTION("refused") {
        for (const char* refused : {refused4, refused6}) {
            REQUIRE(only(refused).kind == Kind::end);
            REQUIRE(only(refused).error == 101);  // ENETUNREACH
            REQUIRE(only(refused).sequence == 7);
        }
    }
    SECTION("dead, linkdown and of a refusing type: absent") {
        Buffer bytes = from_hex(answer4);
        for (unsigned flag : {0x1u, 0x10u}) {
            bytes[24] = static_cast<std::byte>(flag);
            REQUIRE(decode(bytes, std::endian::little).updates.at(0).route == Route{});
        }
        bytes[24] = std::byte{0};
        for (unsigned type : {0u, 3u, 6u, 7u, 8u, 9u}) {
            bytes[23] = static_cast<std::byte>(type);
            REQUIRE(decode(bytes, std::endian::little).updates.at(0).route == Route{});
        }
    }
}

TEST_CASE("netlink: dumps") {
    const Decoded dump = decode(from_hex(every_address), std::endian::little);
    REQUIRE(dump.result);
    REQUIRE(dump.updates.size() == 6);
    REQUIRE(dump.updates[0].address.ip == ip("127.0.0.1"));
    REQUIRE(dump.updates[4].address == InterfaceAddress{3, ip("2001:db8::1"), 64});
    for (const NetlinkUpdate& update : dump.updates) {
        REQUIRE(update.sequence == 7);
        REQUIRE_FALSE(update.interrupted);
    }
    const Decoded big = decode(big_endian(from_hex(every_address)), std::endian::big);
    REQUIRE(big.updates.size() == 6);
    for (std::size_t i = 0; i < 6; ++i) REQUIRE(big.updates[i].address == dump.updates[i].address);

    REQUIRE(only(dump_end).kind == Kind::end);
    REQUIRE(only(dump_end).error == 0);
    Buffer end = from_hex(dump_end);
    end[6] |= std::byte{0x10};
    REQUIRE(decode(end, std::endian::little).updates.at(0).interrupted);
    end.resize(16);
    end[0] = std::byte{16};
    REQUIRE(decode(end, std::endian::little).updates.at(0).kind == Kind::end);  // without an error number
}

TEST_CASE("netlink: what is cut off is malformed, wherever it is cut") {
    for (const char* fixture : all_fixtures)
        for (std::endian order : {std::endian::little, std::endian::big}) {
            const Buffer whole = order == std::endian::little ? from_hex(fixture) : big_endian(from_hex(fixture));
            const std::size_t messages = fixture == every_address ? 6 : fixture == bridge_port_removed ? 0 : 1;
            for (std::size_t size = 0; size < whole.size(); ++size) {
                const Decoded decoded = decode(Buffer(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)), order);
                // Only between two messages of a dump may it end.
                std::size_t boundary = 0, complete = 0;
                while (boundary < size) boundary += load<std::uint32_t>(&whole[boundary], order), ++complete;
                REQUIRE(static_cast<bool>(decoded.result) == (boundary == size));
                if (boundary != size) {
                    REQUIRE(decoded.result.error() == Errc::malformed);
                    --complete;
                }
                REQUIRE(decoded.updates.size() == (messages == 0 ? 0 : complete));
            }
            REQUIRE(decode(whole, order).updates.size() == messages);
        }
}

TEST_CASE("netlink: a message that is shorter inside than it says is malformed, or lacks what stood there") {
    for (const char* fixture : all_fixtures) {
        const Buffer whole = from_hex(fixture);
        const Decoded full = decode(whole, std::endian::little);
        for (std::size_t size = 16; size < whole.size() && fixture != every_address; ++size) {
            Buffer cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            const auto length = static_cast<std::uint32_t>(size);
            std::memcpy(cut.data(), &length, 4);
            const Decoded decoded = decode(cut, std::endian::little);
            if (!decoded.result) REQUIRE(decoded.result.error() == Errc::malformed);
            REQUIRE(decoded.updates.size() == (decoded.result ? full.updates.size() : 0));
        }
    }
}

TEST_CASE("netlink: lengths that cannot be") {
    const auto expect_malformed = [](const Buffer& bytes) {
        const Decoded decoded = decode(bytes, std::endian::little);
        REQUIRE(decoded.result.error() == Errc::malformed);
        REQUIRE(decoded.updates.empty());
    };
    SECTION("of the message") {
        for (std::uint32_t length : {0u, 1u, 15u, 53u, 0x7fffffffu, 0xffffffffu, 0xfffffffdu}) {
            Buffer bytes = from_hex(default_v4);
            std::memcpy(bytes.data(), &length, 4);
            expect_malformed(bytes);
        }
    }
    SECTION("of an attribute") {
        for (unsigned length : {0u, 3u, 25u, 0xfffu, 0xffffu}) {
            Buffer bytes = from_hex(default_v4);
            bytes[28] = static_cast<std::byte>(length);
            bytes[29] = static_cast<std::byte>(length >> 8);
            expect_malformed(bytes);
        }
    }
    SECTION("of an address, an index or flags") {
        const auto with_size = [](const char* hex, std::size_t attribute, unsigned size) {
            Buffer bytes = from_hex(hex);
            bytes[attribute] = static_cast<std::byte>(size);
            return bytes;
        };
        expect_malformed(with_size(address_v4, 24, 7));
        expect_malformed(with_size(address_tentative, 24, 8));
        expect_malformed(with_size(address_tentative, 64, 7));  // IFA_FLAGS
        expect_malformed(with_size(default_v4, 36, 7));         // RTA_GATEWAY
        expect_malformed(with_size(default_v4, 44, 6));         // RTA_OIF
        expect_malformed(with_size(answer4, 52, 6));            // RTA_PREFSRC
        expect_malformed(with_size(via6, 60, 5));               // RTA_VIA without a family
        expect_malformed(with_size(via6, 60, 10));              // and with too short an address
    }
    SECTION("of a gateway of the other family, at the very end") {
        expect_malformed(
            hand_made({33, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0, 18, 0, 10}));
    }
    SECTION("no address at all, no body at all") {
        expect_malformed(hand_made({24, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 24, 0, 0, 1, 0, 0, 0}));
        for (unsigned type : {16u, 17u, 20u, 21u, 24u, 2u})
            expect_malformed(hand_made({16, 0, 0, 0, type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
    }
    SECTION("what comes before has been delivered") {
        Buffer bytes = from_hex(address_v4);
        const Buffer broken = hand_made({15, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
        bytes.insert(bytes.end(), broken.begin(), broken.end());
        const Decoded decoded = decode(bytes, std::endian::little);
        REQUIRE(decoded.result.error() == Errc::malformed);
        REQUIRE(decoded.updates.size() == 1);
    }
}

TEST_CASE("netlink: what is not ours is skipped by its length") {
    Buffer bytes = hand_made({18, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,  2, 0, 0,    // an unknown type, padded
                              17, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 45, 0, 0, 0,    // an address of AF_MCTP, too short for us
                              17, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0});  // a route of AF_MPLS
    const Buffer ours = from_hex(default_v4);
    bytes.insert(bytes.end(), ours.begin(), ours.end());
    const Decoded decoded = decode(bytes, std::endian::little);
    REQUIRE(decoded.result);
    REQUIRE(decoded.updates.size() == 1);
    REQUIRE(decoded.updates[0].kind == Kind::route_is);
    REQUIRE(decode({}, std::endian::little).result);
}

TEST_CASE("netlink: random bytes are read without a step outside") {
    std::mt19937 random(20240607);
    std::size_t accepted = 0, refused = 0;
    for (int round = 0; round < 200'000; ++round) {
        Buffer bytes;
        if (round % 2 == 0) {  // a real message with a few bytes changed gets further than noise
            bytes = from_hex(all_fixtures[random() % (sizeof all_fixtures / sizeof all_fixtures[0])]);
            if (bytes.size() > 500) bytes.resize(500), bytes[0] = std::byte{0xf4}, bytes[1] = std::byte{1};
            for (auto n = random() % 8; n > 0; --n) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        } else {
            bytes.resize(random() % 80);
            for (std::byte& b : bytes) b = static_cast<std::byte>(random());
        }
        for (std::endian order : {std::endian::little, std::endian::big}) {
            const Decoded decoded = decode(bytes, order);
            ++(decoded.result ? accepted : refused);
        }
    }
    REQUIRE(accepted > 1000);
    REQUIRE(refused > 1000);
}

TEST_CASE("netlink: requests, byte for byte") {
    const auto same = [](const NetlinkRequest& request, const Buffer& bytes) {
        return request.size == bytes.size() && std::memcmp(request.data, bytes.data(), bytes.size()) == 0;
    };
    using std::endian;
    REQUIRE(same(link_dump(5, endian::little), hand_made({32, 0, 0, 0, 18, 0, 1, 3, 5, 0, 0, 0, 0, 0, 0, 0,  //
                                                          0,  0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})));
    REQUIRE(
        same(address_dump(0x01020304, endian::big), hand_made({0, 0, 0, 24, 0, 22, 3, 1, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})));
    REQUIRE(same(route_query(ip("8.8.8.8"), 7, endian::little), hand_made({36, 0, 0, 0, 26, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 32,
                                                                           0,  0, 0, 0, 0,  0, 0, 0, 0, 0, 8, 0, 1, 0, 8, 8, 8, 8})));
    REQUIRE(same(route_query(ip("8.8.8.8"), 7, endian::little, ip("10.0.0.9"), 0x0a0b),
                 hand_made({52, 0, 0, 0, 26, 0, 1, 0, 7, 0, 0, 0, 0,  0, 0, 0, 2, 32, 32, 0, 0,    0,    0, 0, 0, 0, 0, 0,  //
                            8,  0, 1, 0, 8,  8, 8, 8, 8, 0, 2, 0, 10, 0, 0, 9, 8, 0,  16, 0, 0x0b, 0x0a, 0, 0})));
    // A source of the other family does not count; one with everything fits.
    REQUIRE(route_query(ip("8.8.8.8"), 7, endian::little, ip("fe80::1")).size == 36);
    REQUIRE(route_query(ip("fe80::1", 9), 7, endian::little, ip("fe80::2", 9), 1).size == 16 + 12 + 20 + 20 + 8 + 8);
    REQUIRE(same(route_query(ip("fe80::1", 9), 7, endian::big),
                 hand_made({0, 0,  0, 56, 0,    26,   0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 10, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
                            0, 20, 0, 1,  0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0,   0, 1,                          //
                            0, 8,  0, 4,  0,    0,    0, 9})));
}
