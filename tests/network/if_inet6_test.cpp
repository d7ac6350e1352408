// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/if_inet6.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace rejoin;

namespace {

std::vector<std::string> parse(const std::string& text) {
    std::vector<std::string> found;
    parse_if_inet6(TextView(text.data(), text.size()), [&](const InterfaceAddress& a, TextView name) {
        found.push_back(std::string(to_text(a.ip).c_str()) + "/" + std::to_string(a.prefix_length) + " " +
                        std::to_string(a.interface_index) + " " + std::string(name.data(), name.size()) +
                        (a.tentative ? " tentative" : "") + (a.duplicate ? " duplicate" : "") + (a.deprecated ? " deprecated" : "") +
                        (a.temporary ? " temporary" : ""));
    });
    return found;
}

}  // namespace

TEST_CASE("if_inet6: addresses, prefix lengths, interfaces and flags") {
    const std::vector<std::string> expected{"::1/128 1 lo",
                                            "fe80::7%18/64 18 eth0",
                                            "2001:db8::7/64 18 eth0 temporary",
                                            "2001:db8::8/64 18 eth0 tentative",
                                            "2001:db8::9/64 18 eth0 tentative duplicate",
                                            "2001:db8::a/64 18 eth0 deprecated",
                                            "2001:db8::b/64 18 eth0"};
    REQUIRE(parse("00000000000000000000000000000001 01 80 10 80       lo\n"
                  "fe800000000000000000000000000007 12 40 20 80     eth0\n"
                  "20010db8000000000000000000000007 12 40 00 01     eth0\n"
                  "20010db8000000000000000000000008 12 40 00 40     eth0\n"
                  "20010db8000000000000000000000009 12 40 00 c8     eth0\n"
                  "20010db800000000000000000000000a 12 40 00 20     eth0\n"
                  "20010db800000000000000000000000b 12 40 00 44     eth0\n") == expected);  // optimistic: usable
}

TEST_CASE("if_inet6: what makes no sense is passed over") {
    REQUIRE(parse("").empty());
    REQUIRE(parse("\n\n\n").empty());
    REQUIRE(parse("nonsense\n").empty());
    REQUIRE(parse("0000000000000000000000000000000 01 80 10 80 lo\n").empty());     // a digit short
    REQUIRE(parse("00000000000000000000000000000001 00 80 10 80 lo\n").empty());    // no interface
    REQUIRE(parse("00000000000000000000000000000001 01 81 10 80 lo\n").empty());    // longer than an address
    REQUIRE(parse("00000000000000000000000000000001 01 80 10 80\n").empty());       // no name
    REQUIRE(parse("00000000000000000000000000000001 01 80 10 80 lo").size() == 1);  // no end of line
    REQUIRE(parse(std::string("\0\0\0\n", 4) + "00000000000000000000000000000001 01 80 10 80 lo\n").size() == 1);
}
