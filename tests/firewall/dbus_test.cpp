// SPDX-License-Identifier: BSL-1.0
#include <rejoin/firewall/tools/dbus.hpp>
#include <rejoin/firewall/tools/firewalld.hpp>
#include <string>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::firewall;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }

}  // namespace

TEST_CASE("a call is written as D-Bus has it") {
    dbus::Call call(3, "a.b", "/p", "i.f", "M");
    call.add(TextView("xy")).add(std::int32_t{7});
    CHECK(test::to_hex(call.end()) == test::hex("6c010001 0c000000 03000000 48000000"
                                                "01016f00 02000000 2f7000 0000000000"
                                                "02017300 03000000 692e6600 00000000"
                                                "03017300 01000000 4d00 000000000000"
                                                "06017300 03000000 612e6200 00000000"
                                                "08016700 02736900"
                                                "02000000 787900 00 07000000"));
}

TEST_CASE("answers are read, whole or in pieces, and what is none is refused") {
    const test::Buffer answer = test::from_hex(
        "6c020101 0b000000 05000000 18000000"
        "05017500 02000000"
        "08016700 01 73 00 00 06017300 00000000"
        "06000000 7075626c6963 00");
    // The field 6 ends at byte 40 with its zero, which the fields' length does not hold: it is cut.
    Bytes from(answer);
    dbus::Reply reply;
    CHECK(dbus::next(from, reply).error() == Errc::malformed);

    const test::Buffer good = test::from_hex(
        "6c020101 0b000000 05000000 0f000000"
        "05017500 02000000"
        "08016700 01 73 00 00"
        "06000000 7075626c6963 00");
    for (std::size_t size = 0; size < good.size(); ++size) {
        from = Bytes(good).first(size);
        const auto there = dbus::next(from, reply);
        REQUIRE(there);
        CHECK_FALSE(*there);
    }
    from = good;
    REQUIRE(*dbus::next(from, reply));
    CHECK(from.empty());
    CHECK(reply.kind == dbus::Reply::Kind::returned);
    CHECK(reply.to == 2);
    CHECK(text(reply.text()) == "public");
    CHECK_FALSE(reply.truth());

    const test::Buffer list = test::from_hex(
        "6c020101 15000000 05000000 10000000"
        "05017500 09000000"
        "08016700 02 6173 00"
        "11000000 03000000 616263 00 04000000 64656667 00");
    from = list;
    REQUIRE(*dbus::next(from, reply));
    std::string all;
    CHECK(reply.each_text([&](TextView one) { all += text(one) + "."; }));
    CHECK(all == "abc.defg.");

    const test::Buffer truth = test::from_hex("42020101 00000004 00000005 0000000f 05017500 00000002 08016700 01 62 00 00 00000001");
    from = truth;
    REQUIRE(*dbus::next(from, reply));
    CHECK(reply.to == 2);
    CHECK(reply.truth());

    const auto error_of = [&](const char* hex) {
        const test::Buffer bytes = test::from_hex(hex);
        Bytes some(bytes);
        return dbus::next(some, reply).error();
    };
    CHECK(error_of("78020101 00000000 05000000 00000000") == Errc::malformed);  // neither order
    CHECK(error_of("6c020102 00000000 05000000 00000000") == Errc::malformed);  // another version
    CHECK(error_of("6c020101 01001000 05000000 00000000") == Errc::too_large);  // 1 MiB and a byte
    CHECK(error_of("6c020101 00000000 05000000 ffffffff") == Errc::too_large);
    CHECK(error_of("6c020101 00000000 05000000 08000000 05017500 02") == Error());                // not whole yet
    CHECK(error_of("6c020101 00000000 05000000 08000000 05017800 02000000") == Errc::malformed);  // a type that it has not
    CHECK(error_of("6c020101 00000000 05000000 08000000 04017300 ffffffff") == Errc::malformed);  // a text behind its end
}

TEST_CASE("firewalld is told in its own words") {
    Rule rule = *Rule::parse("7000-7010/udp");
    rule.app = TextView("game");
    CHECK(text(firewalld::rich_rule(rule)) ==
          "rule port port=\"7000-7010\" protocol=\"udp\" nflog prefix=\"rejoin:game:udp/7000-7010\" accept");
    rule.expiry = Duration::seconds(60);
    CHECK(text(firewalld::command(rule, "home", false)) ==
          "firewall-cmd --zone=home '--add-rich-rule=rule port port=\"7000-7010\" protocol=\"udp\" nflog "
          "prefix=\"rejoin:game:udp/7000-7010\" accept' "
          "--timeout=60");
    CHECK(text(firewalld::command(rule, "", true)) ==
          "firewall-cmd '--remove-rich-rule=rule port port=\"7000-7010\" protocol=\"udp\" nflog prefix=\"rejoin:game:udp/7000-7010\" "
          "accept'");
}
