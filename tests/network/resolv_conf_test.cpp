// SPDX-License-Identifier: BSL-1.0
#include <rejoin/network/resolv_conf.hpp>
#include <string>
#include <vector>

#include "catch.hpp"

using namespace rejoin;

namespace {

NetworkState with_eth0() {
    NetworkState state;
    REQUIRE(state.put(Interface{.index = 7, .name = Text<15>("eth0")}));
    return state;
}
// The servers that a file with this text lists, as text.
std::vector<std::string> servers(const std::string& text) {
    NetworkState state = with_eth0();
    REQUIRE(parse_resolv_conf(text, state));
    std::vector<std::string> listed;
    for (const IpAddress& ip : state.dns_servers) listed.push_back(to_text(ip).c_str());
    return listed;
}
using Servers = std::vector<std::string>;

}  // namespace

TEST_CASE("resolv.conf: servers in their order, each once, among other lines") {
    REQUIRE(servers("") == Servers{});
    REQUIRE(servers("nameserver 192.0.2.1") == Servers{"192.0.2.1"});
    REQUIRE(servers("# made by hand\n; so was this\nsearch example.org\nnameserver 192.0.2.2\noptions edns0 trust-ad\n"
                    "nameserver\t2001:DB8::1\nnameserver 192.0.2.2\nnameserver   192.0.2.1  # the old one\n") ==
            Servers{"192.0.2.2", "2001:db8::1", "192.0.2.1"});
    REQUIRE(servers("nameserver 192.0.2.1\r\nnameserver 192.0.2.2\r\n") == Servers{"192.0.2.1", "192.0.2.2"});
}

TEST_CASE("resolv.conf: what is not a server's line is passed over") {
    for (const char* line :
         {"#nameserver 192.0.2.1", ";nameserver 192.0.2.1", " nameserver 192.0.2.1", "nameservers 192.0.2.1", "nameserver192.0.2.1",
          "Nameserver 192.0.2.1", "nameserver", "nameserver ", "nameserver \t \r", "nameserver 192.0.2", "nameserver 192.0.2.256",
          "nameserver example.org", "nameserver 192.0.2.1:53", "nameserver %eth0", "nameserver :::", "options nameserver 192.0.2.1"}) {
        INFO(line);
        REQUIRE(servers(std::string(line) + "\nnameserver 192.0.2.9\n") == Servers{"192.0.2.9"});
    }
}

TEST_CASE("resolv.conf: a link-local server has its interface as scope, by name or number; others have none") {
    REQUIRE(servers("nameserver fe80::1%eth0") == Servers{"fe80::1%7"});
    REQUIRE(servers("nameserver fe80::1%7") == Servers{"fe80::1%7"});
    REQUIRE(servers("nameserver fe80::1%eth1") == Servers{"fe80::1"});
    REQUIRE(servers("nameserver fe80::1%99999999999999999999") == Servers{"fe80::1"});
    REQUIRE(servers("nameserver fe80::1%") == Servers{"fe80::1"});
    REQUIRE(servers("nameserver fe80::1") == Servers{"fe80::1"});
    REQUIRE(servers("nameserver 2001:db8::1%eth0") == Servers{"2001:db8::1"});
    REQUIRE(servers("nameserver fe80::1%eth0\nnameserver fe80::1%7") == Servers{"fe80::1%7"});
}

TEST_CASE("resolv.conf: at most so many servers, lines of any length, and any bytes") {
    std::string many;
    for (int i = 1; i <= 20; ++i) many += "nameserver 192.0.2." + std::to_string(i) + "\n";
    REQUIRE(servers(many).size() == NetworkState::dns_servers_max);
    REQUIRE(servers(many).back() == "192.0.2.8");
    REQUIRE(servers("search " + std::string(100'000, 'x') + "\nnameserver 192.0.2.1") == Servers{"192.0.2.1"});
    REQUIRE(servers("nameserver " + std::string(100'000, '1') + "\nnameserver 192.0.2.1") == Servers{"192.0.2.1"});
    REQUIRE(servers("nameserver " + std::string(100'000, ' ') + "192.0.2.1") == Servers{"192.0.2.1"});
    REQUIRE(servers(std::string("\0\xff\nnameserver 192.0.2.1\0\nnameserver 192.0.2.2", 45)) == Servers{"192.0.2.2"});
}

TEST_CASE("resolv.conf: what a state listed before is replaced") {
    NetworkState state = with_eth0();
    REQUIRE(parse_resolv_conf("nameserver 192.0.2.1\nnameserver 192.0.2.2", state));
    REQUIRE(parse_resolv_conf("nameserver 192.0.2.3", state));
    REQUIRE(state.dns_servers.size() == 1);
    REQUIRE(state.dns_servers[0] == IpAddress::v4(192, 0, 2, 3));
    REQUIRE(state.interfaces.size() == 1);
}
