// SPDX-License-Identifier: BSL-1.0
#include <rejoin/firewall/rule.hpp>
#include <string>

#include "catch.hpp"

using namespace rejoin;
using namespace rejoin::firewall;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }
Rule made(const char* what, const char* app = "game") {
    const auto rule = Rule::parse(what);
    REQUIRE(rule);
    Rule with = *rule;
    with.app = TextView(app);
    return with;
}

}  // namespace

TEST_CASE("a rule is read as people write it") {
    const Rule one = made("7000/tcp");
    CHECK(one.port == 7000);
    CHECK(one.last() == 7000);
    CHECK(one.protocol == Protocol::tcp);
    CHECK(one.valid());
    const Rule many = made("7000-7010/udp");
    CHECK(many.last() == 7010);
    CHECK(many.protocol == Protocol::udp);
    CHECK(made("7000-7000/tcp") == one);
    CHECK(made("65535/tcp").port == 65535);
    for (const char* bad : {"", "7000", "7000/", "/tcp", "0/tcp", "65536/tcp", "99999999999999/tcp", "7010-7000/tcp", "7000-/tcp",
                            "-7000/tcp", "7000/sctp", "7000/tcp ", "7000 /tcp", "+7000/tcp", "7000-7010-7020/tcp"})
        CHECK(Rule::parse(bad).error() == Errc::invalid_argument);
}

TEST_CASE("a rule says who it is for in a tag, which is read again") {
    CHECK(text(tag_of(made("7000/tcp"))) == "rejoin:game:tcp/7000");
    CHECK(text(tag_of(made("7000-7010/udp", "a.b_c-d"))) == "rejoin:a.b_c-d:udp/7000-7010");
    const std::string longest(32, 'x');
    for (const char* what : {"7000/tcp", "60000-60010/udp"})
        for (const char* app : {"game", "a.b_c-d", longest.c_str()}) {
            const Rule rule = made(what, app);
            const auto read = rule_of(tag_of(rule));
            REQUIRE(read);
            CHECK(*read == rule);
        }
    for (const char* bad :
         {"", "rejoin:", "rejoin:game", "rejoin:game:tcp", "rejoin:game:tcp/", "rejoin:game:tcp/0", "rejoin:game:tcp/07000",
          "rejoin:game:tcp/7000-7000", "rejoin:game:tcp/7000 ", "rejoin::tcp/7000", "rejoin:ga me:tcp/7000", "rejoin:game:icmp/7000",
          "other:game:tcp/7000", "rejoin:012345678901234567890123456789012:tcp/7000"})
        CHECK(rule_of(bad).error() == Errc::invalid_argument);
}

TEST_CASE("names that could mean something to anybody on the way are refused") {
    for (const char* bad : {"", "a b", "a\nb", "a'b", "a\"b", "a;b", "$(a)", "a:b", "a/b", "\xc3\xa4"})
        CHECK_FALSE(made("7000/tcp", bad).valid());
    Rule rule = made("7000/tcp");
    for (const char* bad : {"eth 0", "eth0\n", "a\"b", "a'b", "$(a)", "a/b"}) {
        rule.interface_name = TextView(bad);
        CHECK_FALSE(rule.valid());
        rule.interface_name = {};
        rule.zone = TextView(bad);
        CHECK_FALSE(rule.valid());
        rule.zone = {};
    }
    for (const char* good : {"eth0", "eth0.10", "wlp0s20f3", "br-lan", "eth0:1", "vlan@eth0"}) {
        rule.interface_name = TextView(good);
        CHECK(rule.valid());
    }
    rule.interface_name = {};
    rule.program = TextView("/home/me/it's a \"game\"");
    CHECK(rule.valid());
    rule.program = TextView("/home/me\n/game");
    CHECK_FALSE(rule.valid());
    rule.program = {};
    rule.expiry = Duration::milliseconds(-1);
    CHECK_FALSE(rule.valid());
    rule.expiry = Duration::milliseconds(1);
    CHECK(rule.seconds() == 1);
    rule.on_private = rule.on_domain = false;
    CHECK_FALSE(rule.valid());
    rule = made("7000/tcp");
    rule.last_port = 6999;
    CHECK_FALSE(rule.valid());
}

TEST_CASE("a word of a command is quoted where a shell would take it for something else") {
    const auto quoted = [](const char* word) {
        Command command;
        add_word(command, word);
        return text(command);
    };
    CHECK(quoted("--dport") == "--dport");
    CHECK(quoted("rejoin:game:tcp/7000") == "rejoin:game:tcp/7000");
    CHECK(quoted("") == "''");
    CHECK(quoted("a b") == "'a b'");
    CHECK(quoted("it's") == "'it'\\''s'");
    CHECK(quoted("$(x)") == "'$(x)'");
    CHECK(quoted("a\nb") == "'a\nb'");
    CHECK(quoted("*") == "'*'");
}
