// SPDX-License-Identifier: BSL-1.0
#if defined(_WIN32)
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <arpa/inet.h>
#endif

#include <algorithm>
#include <cstring>
#include <random>
#include <rejoin/core/address.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using rejoin::Endpoint;
using rejoin::Family;
using rejoin::IpAddress;
using rejoin::TextView;

namespace {

std::string written(const IpAddress& ip) { return to_text(ip).c_str(); }

IpAddress v6(const std::vector<unsigned>& groups) {
    IpAddress ip;
    ip.family = Family::v6;
    for (std::size_t i = 0; i < 8; ++i) {
        ip.bytes[2 * i] = static_cast<std::uint8_t>(groups[i] >> 8);
        ip.bytes[2 * i + 1] = static_cast<std::uint8_t>(groups[i]);
    }
    return ip;
}

// The system's parser accepts and reads the same.
void agree(const std::string& text) {
    INFO(text);
    unsigned char theirs[16] = {};
    const bool is_v4 = inet_pton(AF_INET, text.c_str(), theirs) == 1;
    const bool is_v6 = !is_v4 && inet_pton(AF_INET6, text.c_str(), theirs) == 1;
    const auto ours = IpAddress::parse(text);
#if defined(_WIN32)  // whose parser takes more, such as a leading zero
    REQUIRE((!ours || is_v4 || is_v6));
#else
    REQUIRE(static_cast<bool>(ours) == (is_v4 || is_v6));
#endif
    if (!ours) {
        REQUIRE(ours.error() == rejoin::Errc::invalid_argument);
        return;
    }
    REQUIRE(ours->family == (is_v4 ? Family::v4 : Family::v6));
    REQUIRE(std::memcmp(ours->bytes, theirs, 16) == 0);
    REQUIRE(ours->scope == 0);
}

}  // namespace

TEST_CASE("Addresses that people write") {
    for (const char* text : {"0.0.0.0",
                             "127.0.0.1",
                             "255.255.255.255",
                             "1.2.3.4",
                             "::",
                             "::1",
                             "1::",
                             "1::8",
                             "1:2:3:4:5:6:7:8",
                             "1:2:3:4:5:6:7::",
                             "::2:3:4:5:6:7:8",
                             "1:2:3::5:6:7:8",
                             "fe80::1",
                             "2001:DB8::aBcD",
                             "::ffff:192.0.2.1",
                             "::192.0.2.1",
                             "64:ff9b::192.0.2.33",
                             "1:2:3:4:5:6:1.2.3.4",
                             "1::5:6:1.2.3.4",
                             "0:0:0:0:0:0:0:0",
                             "0001:0002::0003"}) {
        agree(text);
        CHECK(IpAddress::parse(text));
    }
}

TEST_CASE("Texts that are no addresses") {
    for (const char* text : {"",
                             " ",
                             ".",
                             "1",
                             "1.2",
                             "1.2.3",
                             "1.2.3.",
                             "1.2.3.4.",
                             "1.2.3.4.5",
                             ".1.2.3.4",
                             "1..2.3",
                             "256.1.1.1",
                             "1.1.1.999",
                             "1.1.1.1000",
                             "01.2.3.4",
                             "1.2.3.00",
                             "0x1.2.3.4",
                             "1.2.3.4 ",
                             " 1.2.3.4",
                             "1.2.3.-4",
                             "+1.2.3.4",
                             "1,2,3,4",
                             "a.b.c.d",
                             "127.1",
                             "2130706433",
                             ":",
                             ":::",
                             "1",
                             "1:",
                             ":1",
                             "1:2",
                             "1:2:3:4:5:6:7",
                             "1:2:3:4:5:6:7:",
                             ":2:3:4:5:6:7:8",
                             "1:2:3:4:5:6:7:8:",
                             "1:2:3:4:5:6:7:8:9",
                             "1:2:3:4:5:6:7:8::",
                             "::1:2:3:4:5:6:7:8",
                             "1:2:3:4::5:6:7:8",
                             "1::2::3",
                             ":::1",
                             "1:::2",
                             "1:2:::",
                             "12345::",
                             "::00001",
                             "g::",
                             "::g",
                             "::1 ",
                             " ::1",
                             "[::1]",
                             "::1%1",
                             "fe80::1%eth0",
                             "::1.2.3",
                             "::1.2.3.4.5",
                             "::1.2.3.256",
                             "1.2.3.4::",
                             "::1.2.3.4:5",
                             "1:2:3:4:5:6:7:1.2.3.4",
                             "1:2:3:4:5:1.2.3.4",
                             "::01.2.3.4",
                             "::.2.3.4",
                             "::ffff:1.2.3.4:",
                             "-1::",
                             "0x1::",
                             "::1/128",
                             "example.org",
                             "localhost"}) {
        INFO(text);
        agree(text);
        CHECK_FALSE(IpAddress::parse(text));
    }
    CHECK_FALSE(IpAddress::parse(TextView("127.0.0.1\0", 10)));
    CHECK_FALSE(IpAddress::parse(TextView("::1\0", 4)));
    CHECK_FALSE(IpAddress::parse(TextView()));
    CHECK(IpAddress::parse(TextView("127.0.0.12", 9)));  // no byte behind the end is read
    CHECK(*IpAddress::parse(TextView("::12", 3)) == *IpAddress::parse("::1"));
}

TEST_CASE("Any text at all: the system's parser and ours agree") {
    std::mt19937 random(1);
    const std::string alphabet = "0123456789abcdefABCDEF::::....gx% ";
    for (int i = 0; i < 100'000; ++i) {
        std::string text;
        if (i % 2 == 0) {  // made from parts that are right
            for (std::size_t n = random() % 10; n > 0; --n) {
                const std::size_t dice = random() % 10;
                text += dice == 0 ? "::" : dice == 1 ? "." : ":";
                const char* const numbers[] = {"0", "1", "ff", "255", "256", "12ab", "1.2.3.4", "0255", "ffff", "10000"};
                text += numbers[random() % std::size(numbers)];
            }
            if (random() % 3 != 0 && !text.empty()) text.erase(0, 1);
        } else {  // and one that is right, damaged
            char good[64];
            unsigned char raw[16];
            for (auto& b : raw) b = random() % 3 == 0 ? static_cast<unsigned char>(random()) : 0;
            text = inet_ntop(random() % 4 == 0 ? AF_INET : AF_INET6, raw, good, sizeof good);
            for (std::size_t n = random() % 3; n > 0; --n) {
                const std::size_t at = random() % (text.size() + 1);
                const char c = alphabet[random() % alphabet.size()];
                if (random() % 2 == 0)
                    text.insert(at, 1, c);
                else if (at < text.size())
                    random() % 2 == 0 ? static_cast<void>(text[at] = c) : static_cast<void>(text.erase(at, 1));
            }
        }
        agree(text);
    }
}

TEST_CASE("Addresses are written as RFC 5952 has them") {
    CHECK(written(IpAddress()) == "none");
    CHECK(written(IpAddress::v4(192, 0, 2, 1)) == "192.0.2.1");
    CHECK(written(v6({0, 0, 0, 0, 0, 0, 0, 0})) == "::");
    CHECK(written(v6({0, 0, 0, 0, 0, 0, 0, 1})) == "::1");
    CHECK(written(v6({1, 0, 0, 0, 0, 0, 0, 0})) == "1::");
    CHECK(written(v6({0x2001, 0xdb8, 0, 0, 1, 0, 0, 1})) == "2001:db8::1:0:0:1");     // §4.2.3: the first of equal runs
    CHECK(written(v6({0x2001, 0, 0, 1, 0, 0, 0, 1})) == "2001:0:0:1::1");             // the longest
    CHECK(written(v6({0x2001, 0xdb8, 0, 1, 1, 1, 1, 1})) == "2001:db8:0:1:1:1:1:1");  // §4.2.2: not a single one
    CHECK(written(v6({1, 2, 3, 4, 5, 6, 0, 0})) == "1:2:3:4:5:6::");
    CHECK(written(v6({0, 0, 3, 4, 5, 6, 7, 8})) == "::3:4:5:6:7:8");
    CHECK(written(v6({0, 2, 0, 4, 0, 6, 0, 8})) == "0:2:0:4:0:6:0:8");
    CHECK(written(v6({0xABCD, 0xef, 1, 1, 1, 1, 1, 0xffff})) == "abcd:ef:1:1:1:1:1:ffff");
    IpAddress scoped = v6({0xfe80, 0, 0, 0, 0, 0, 0, 1});
    scoped.scope = UINT32_MAX;
    CHECK(written(scoped) == "fe80::1%4294967295");
}

TEST_CASE("What is written is what inet_ntop writes, and reads as the same address") {
    std::mt19937 random(2);
    for (int i = 0; i < 50'000; ++i) {
        IpAddress ip;
        ip.family = i % 5 == 0 ? Family::v4 : Family::v6;
        for (std::size_t b = 0; b < ip.size(); b += 2) {
            if (ip.family == Family::v6 && random() % 2 == 0) continue;
            ip.bytes[b] = random() % 3 == 0 ? 0 : static_cast<std::uint8_t>(random());
            ip.bytes[b + 1] = static_cast<std::uint8_t>(random());
        }
        char theirs[64];
        inet_ntop(ip.family == Family::v4 ? AF_INET : AF_INET6, ip.bytes, theirs, sizeof theirs);
        // inet_ntop writes the IPv4 address in ::a.b.c.d and ::ffff:a.b.c.d with dots; we write every IPv6 address alike.
        if (ip.family == Family::v4 || std::string(theirs).find('.') == std::string::npos) REQUIRE(written(ip) == theirs);
        const auto back = IpAddress::parse(to_text(ip));
        REQUIRE(back);
        REQUIRE(*back == ip);
    }
}

TEST_CASE("Kinds of addresses") {
    const auto ip = [](const char* text) { return *IpAddress::parse(text); };
    CHECK(ip("127.0.0.1").is_loopback());
    CHECK(ip("127.255.255.254").is_loopback());
    CHECK(ip("::1").is_loopback());
    for (const char* text : {"128.0.0.1", "126.255.255.255", "::2", "1::1", "::", "0.0.0.1"}) CHECK_FALSE(ip(text).is_loopback());
    CHECK(ip("169.254.0.1").is_link_local());
    CHECK(ip("fe80::1").is_link_local());
    CHECK(ip("febf::1").is_link_local());
    for (const char* text : {"169.253.0.1", "fec0::1", "fe00::1", "ff80::1", "::"}) CHECK_FALSE(ip(text).is_link_local());
    CHECK(ip("0.0.0.0").is_unspecified());
    CHECK(ip("::").is_unspecified());
    CHECK(IpAddress().is_unspecified());
    CHECK_FALSE(ip("::1").is_unspecified());
    CHECK_FALSE(IpAddress().is_loopback());
    CHECK_FALSE(IpAddress().is_link_local());
    CHECK(IpAddress().size() == 0);
    CHECK(ip("1.2.3.4").size() == 4);
    CHECK(ip("::").size() == 16);
    CHECK(ip("0.0.0.0") != ip("::"));
    STATIC_REQUIRE(sizeof(IpAddress) == 24);
    STATIC_REQUIRE(IpAddress::v4(1, 2, 3, 4).bytes[3] == 4);
}

TEST_CASE("Endpoint keeps an address as an address and a name as a name") {
    const Endpoint number("192.0.2.1", 80), six("2001:db8::1", 443), name("example.org", 4000);
    CHECK(number.valid());
    CHECK(number.name() == nullptr);
    CHECK(number.ip() == IpAddress::v4(192, 0, 2, 1));
    CHECK(number.port() == 80);
    CHECK(name.valid());
    CHECK(name.ip().family == Family::none);
    REQUIRE(name.name() != nullptr);
    CHECK(std::string(name.name()) == "example.org");
    CHECK(to_text(number) == "192.0.2.1:80");
    CHECK(to_text(six) == "[2001:db8::1]:443");
    CHECK(to_text(name) == "example.org:4000");
    CHECK(to_text(Endpoint()) == "none:0");
    CHECK(Endpoint(IpAddress::v4(10, 0, 0, 1), 65535).valid());
    CHECK(Endpoint("::1", 0).valid());
    CHECK(Endpoint(std::string("fe80::1%eth0"), 1).name() != nullptr);  // a scope by name is for the system to resolve
}

TEST_CASE("Endpoint refuses what can be neither") {
    CHECK_FALSE(Endpoint().valid());
    CHECK_FALSE(Endpoint("", 80).valid());
    CHECK_FALSE(Endpoint(nullptr, 80).valid());
    CHECK_FALSE(Endpoint("127.0.0.1", -1).valid());
    CHECK_FALSE(Endpoint("127.0.0.1", 65536).valid());
    CHECK_FALSE(Endpoint("example.org", 65536).valid());
    CHECK_FALSE(Endpoint("example.org", INT32_MIN).valid());
    for (const char* host : {" ", "exam ple.org", "example.org\n", "\texample.org", "127.0.0.1 "}) CHECK_FALSE(Endpoint(host, 80).valid());
    CHECK_FALSE(Endpoint(TextView("example.org\0.evil", 17), 80).valid());
    CHECK_FALSE(Endpoint(IpAddress(), 80).valid());
    CHECK(Endpoint(std::string(253, 'a'), 80).valid());  // RFC 1035 §2.3.4, without the length bytes
    CHECK_FALSE(Endpoint(std::string(254, 'a'), 80).valid());
    CHECK(to_text(Endpoint(std::string(253, 'a'), 80)).size() == 207);  // cut off, not overrun
}

TEST_CASE("Endpoint as people write it") {
    struct Row {
        const char *text, *host;
        int port, usual;
    };
    for (const Row& row : {
             Row{"192.0.2.1:80", "192.0.2.1", 80, -1},
             {"192.0.2.1:80", "192.0.2.1", 80, 1883},
             {"[2001:db8::1]:80", "2001:db8::1", 80, -1},
             {"example.org:65535", "example.org", 65535, -1},
             {"example.org:0", "example.org", 0, -1},
             {"example.org", "example.org", 1883, 1883},
             {"192.0.2.1", "192.0.2.1", 1883, 1883},
             {"[::1]", "::1", 1883, 1883},
             {"::1", "::1", 1883, 1883},
             {"2001:db8::1:80", "2001:db8::1:80", 1883, 1883},
         }) {
        CAPTURE(row.text);
        const Endpoint read = Endpoint::parse(row.text, row.usual);
        CHECK(read.valid());
        CHECK(read == Endpoint(row.host, row.port));
    }
    for (const char* text :
         {"",        ":",      ":80",   "x:",   "x:99999", "x:65536",      "x:1a",   "x:-1",  "x:+1",        "x:000080", "[::1",
          "[::1]80", "[::1]:", "[]:80", "[:80", "[x]:80",  "[1.2.3.4]:80", "a:b:80", "::1:x", "[::1]:80:80", "x y:80"}) {
        CAPTURE(text);
        CHECK_FALSE(Endpoint::parse(text).valid());
        CHECK_FALSE(Endpoint::parse(text, 1883).valid());
    }
    for (const char* text : {"example.org", "192.0.2.1", "[::1]", "::1"}) CHECK_FALSE(Endpoint::parse(text).valid());
}

TEST_CASE("Endpoint is a value") {
    const Endpoint name("example.org", 1);
    Endpoint copy = name;
    CHECK(copy == name);
    CHECK(copy.name() != name.name());
    Endpoint moved = std::move(copy);
    CHECK(moved == name);
    CHECK_FALSE(copy.valid());
    copy = moved;
    CHECK(copy == name);
    const Endpoint& itself = copy;
    copy = itself;
    CHECK(copy == name);
    copy = Endpoint("::1", 1);
    CHECK(copy.name() == nullptr);
    CHECK(copy != name);
    CHECK(name == Endpoint("example.org", 1));
    CHECK(name != Endpoint("example.org", 2));
    CHECK(name != Endpoint("example.com", 1));
    CHECK(Endpoint("::1", 1) != Endpoint("::1", 2));
    CHECK(Endpoint() == Endpoint());
}
