// SPDX-License-Identifier: BSL-1.0
#include <rejoin/firewall/nft/steps.hpp>
#include <string>

#include "catch.hpp"
#include "firewall/recorded_nft.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::firewall;
using nft::Ruleset;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }

constexpr std::endian recorded = std::endian::little;

Ruleset read() {
    Ruleset rules(recorded);
    for (const char* hex : test::recorded_nft) {
        const test::Buffer bytes = test::from_hex(hex);
        bool done = false;
        REQUIRE_FALSE(rules.read(bytes, load<std::uint32_t>(bytes.data() + 8, recorded), done));
    }
    for (nft::Set& set : rules.sets()) set.known = set.matters();
    return rules;
}
// What becomes of it in one chain of the ruleset: `accept`, `drop`, by which rule of the chain, counted from 1; `policy`; `?` where some
// are dropped.
std::string fate(const Ruleset& rules, const char* what, const char* by = "eth0", bool v6 = false, const char* table = "filter",
                 const char* chain = "input") {
    const Rule rule = *Rule::parse(what);
    Sample sample;
    sample.protocol = rule.protocol;
    sample.first_port = rule.port;
    sample.last_port = rule.last();
    sample.interface_name = TextView(by);
    sample.interface_index = *by == 0 ? 0 : 2;
    sample.v6 = v6;
    std::string said;
    REQUIRE(rules.decide(sample, [&](std::size_t which, const Ruleset::Decision& decision) {
        const Ruleset::Chain& one = rules.chains()[which];
        if (!(one.table == TextView(table)) || !(one.name == TextView(chain))) return;
        said = decision.fate == Fate::accepted ? "accept" : "drop";
        if (decision.rule == Ruleset::no_rule) {
            said += " policy";
        } else {
            std::size_t number = 0;
            for (std::size_t i = 0; i <= decision.rule; ++i)
                number += rules.rules()[i].chain == rules.rules()[decision.rule].chain ? 1u : 0u;
            said += " " + std::to_string(number);
        }
        if (decision.some_dropped) said += " ?";
    }));
    return said;
}

}  // namespace

TEST_CASE("chains, sets and rules are read as the kernel says them") {
    const Ruleset rules = read();
    std::string chains;
    for (const Ruleset::Chain& chain : rules.chains())
        chains += std::string(nft::family_name(chain.family)) + " " + text(chain.table) + " " + text(chain.name) +
                  (chain.base ? " " + text(chain.type) + std::to_string(chain.hook) + (chain.drops ? " drop" : " accept") : "") + "\n";
    CHECK(chains ==
          "inet filter input filter1 drop\ninet filter more\ninet filter leaves\ninet filter forward filter2 drop\nip filter INPUT filter1 "
          "drop\n");
    std::string comments;
    for (const Ruleset::Entry& entry : rules.rules())
        if (!entry.comment.empty()) comments += text(entry.comment) + "\n";
    CHECK(comments == "voice\nrejoin:game:tcp/9026\nthe door\n");
    CHECK(rules.sets().size() == 5);
    CHECK_FALSE(rules.interrupted());
}

TEST_CASE("what a ruleset does with a first packet is found out, and by which rule") {
    const Ruleset rules = read();
    // Plain ports, sets, intervals; addresses that are blocked may be anybody's.
    CHECK(fate(rules, "22/tcp") == "accept 5 ?");
    CHECK(fate(rules, "80/tcp", "eth0", true) == "accept 5");
    CHECK(fate(rules, "8000-8003/tcp", "eth0", true) == "accept 5");
    CHECK(fate(rules, "8002/tcp", "eth0", true) == "accept 5");
    CHECK(fate(rules, "8004/tcp", "eth0", true) == "drop 17");
    CHECK(fate(rules, "22/udp", "eth0", true) == "drop 17");
    CHECK(fate(rules, "5000/udp", "eth0", true) == "accept 6");
    CHECK(fate(rules, "5000-5010/udp", "eth0", true) == "accept 6");
    CHECK(fate(rules, "5000/tcp", "eth0", true) == "drop 17");
    CHECK(fate(rules, "5009-5011/udp", "eth0", true) == "drop 17");  // one of them is not let in
    // What comes too often is dropped, which is not known beforehand.
    CHECK(fate(rules, "9000/tcp", "eth0", true) == "drop 17");
    // By which interface.
    CHECK(fate(rules, "9001/tcp", "eth1", true) == "accept 8");
    CHECK(fate(rules, "9001/tcp", "eth3", true) == "drop 17");
    CHECK(fate(rules, "9001/tcp", "", true) == "drop 17");
    CHECK(fate(rules, "1/tcp", "lo", true) == "accept 1");
    // This host's address, a new conversation, a packet for this host.
    CHECK(fate(rules, "9002/tcp", "eth0", true) == "accept 9");
    CHECK(fate(rules, "9003/tcp", "eth0", true) == "accept 10");
    CHECK(fate(rules, "9005/tcp", "eth0", true) == "accept 11");
    CHECK(fate(rules, "9003-9005/tcp", "eth0", true) == "drop 17 ?");
    // The protocol, as either family has it.
    CHECK(fate(rules, "9011/udp").substr(0, 9) == "accept 12");
    CHECK(fate(rules, "9012/udp", "eth0", true) == "accept 13");
    // Maps of verdicts, and other chains.
    CHECK(fate(rules, "9020/tcp", "eth0", true) == "accept 14");
    CHECK(fate(rules, "9021/tcp", "eth0", true) == "drop 14");
    CHECK(fate(rules, "9022/tcp", "eth0", true) == "drop policy");  // whoever goes there does not come back
    CHECK(fate(rules, "9024/tcp", "eth0", true) == "drop 17");
    CHECK(fate(rules, "9025/tcp", "eth0", true) == "drop 16");
    CHECK(fate(rules, "9026/tcp", "eth0", true) == "accept 16");
    CHECK(fate(rules, "9030/tcp", "eth0", true) == "drop policy");
}

TEST_CASE("what iptables leaves to its modules is understood as far as it matters") {
    const Ruleset rules = read();
    const auto v4 = [&](const char* what) { return fate(rules, what, "eth0", false, "filter", "INPUT"); };
    CHECK(v4("22/tcp") == "accept 2");
    CHECK(v4("23/tcp") == "drop 9");
    CHECK(v4("100/udp") == "accept 3");
    CHECK(v4("200-210/udp") == "accept 3");
    CHECK(v4("99/udp") == "drop policy");
    CHECK(v4("209-211/udp") == "drop policy");
    CHECK(v4("300/udp") == "accept 4");
    CHECK(v4("301/tcp") == "accept 6");
    CHECK(v4("302/tcp") == "drop 9");
    CHECK(v4("303/tcp") == "drop policy");
    CHECK(fate(rules, "22/tcp", "eth0", true, "filter", "INPUT").empty());  // of IPv4 alone
}

TEST_CASE("answers cut short, and of too much, are refused and bound") {
    for (const char* hex : test::recorded_nft) {
        const test::Buffer bytes = test::from_hex(hex);
        const auto sequence = load<std::uint32_t>(bytes.data() + 8, recorded);
        for (std::size_t size = 0; size < bytes.size(); size += 7) {
            Ruleset rules(recorded);
            bool done = false;
            const test::Buffer piece(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
            static_cast<void>(rules.read(piece, sequence, done));
        }
        // An answer to another question is passed over.
        Ruleset rules(recorded);
        bool done = false;
        CHECK_FALSE(rules.read(bytes, sequence + 1, done));
        CHECK_FALSE(done);
        CHECK(rules.chains().size() + rules.rules().size() + rules.sets().size() == 0);
    }
    Ruleset rules(recorded);
    bool done = false;
    CHECK(rules.read(test::from_hex("18000000 030a 0000 01000000 00000000 01000000 05000100"), 1, done) == Errc::malformed);
    const test::Buffer chain = test::from_hex("1c000000 030a 0000 01000000 00000000 01000000 05000100 41000000");
    Error error;
    for (std::size_t i = 0; i <= Ruleset::chains_max && !error; ++i) error = rules.read(chain, 1, done);
    CHECK(error == Errc::too_large);
    CHECK(rules.chains().size() == Ruleset::chains_max);
    const test::Buffer refused = test::from_hex("24000000 0200 0000 01000000 00000000 ffffffff 00000000 00000000 00000000 00000000");
    CHECK(rules.read(refused, 1, done) == Error::system(1));
    const test::Buffer least = test::from_hex("24000000 0200 0000 01000000 00000000 00000080 00000000 00000000 00000000 00000000");
    CHECK(rules.read(least, 1, done));  // no number has that one's opposite
    CHECK(done);
}

TEST_CASE("10,000 rules are walked, and chains that jump to each other in every way") {
    // Each of thirty chains jumps twice to the next: two to the thirtieth ways, and each chain is walked once.
    Array<FilterChain> chains;
    for (std::uint32_t i = 0; i < 30; ++i) {
        FilterChain chain;
        for (int twice = 0; twice < 2; ++twice) {
            FilterRule jump;
            jump.holds = Holds::always;
            jump.verdict = FilterRule::Verdict::jump;
            jump.target = (i + 1) % 30;
            REQUIRE(chain.rules.push(jump));
        }
        REQUIRE(chains.push(std::move(chain)));
    }
    CHECK(walk(chains, 0, Fate::accepted).fate == Fate::accepted);
    FilterChain large;
    for (int i = 0; i < 10'000; ++i) {
        FilterRule rule;
        rule.holds = i == 9'999 ? Holds::always : Holds::perhaps;
        rule.verdict = i == 9'999 ? FilterRule::Verdict::accept : FilterRule::Verdict::drop;
        REQUIRE(large.rules.push(rule));
    }
    REQUIRE(chains.push(std::move(large)));
    const Walk walked = walk(chains, 30, Fate::dropped);
    CHECK(walked.fate == Fate::accepted);
    CHECK(walked.at == 9'999);
    CHECK(walked.some_dropped);
}

TEST_CASE("what is opened is written as the kernel reads it, and as nft does") {
    Rule rule = *Rule::parse("7000/tcp");
    rule.app = TextView("game");
    Ruleset::Chain chain;
    chain.table = TextView("filter");
    chain.name = TextView("input");
    chain.family = nft::nfproto_inet;
    std::uint32_t sequence = 0;
    nft::Writer to(recorded);
    nft::open(to, {&chain, 7}, rule, sequence);
    // Read again as an answer, it lets in what was asked for, and nothing else.
    Ruleset rules = [] {
        Ruleset made(recorded);
        const test::Buffer base = test::from_hex(test::recorded_nft[0]);
        bool done = false;
        REQUIRE_FALSE(made.read(base, load<std::uint32_t>(base.data() + 8, recorded), done));
        return made;
    }();
    bool done = false;
    REQUIRE_FALSE(rules.read(to.end(), 1, done));
    REQUIRE(rules.rules().size() == 1);
    CHECK(text(rules.rules()[0].comment) == "rejoin:game:tcp/7000");
    CHECK(fate(rules, "7000/tcp") == "accept 1");
    CHECK(fate(rules, "7000/udp") == "drop policy");
    CHECK(fate(rules, "7001/tcp") == "drop policy");
    CHECK(text(nft::open_command({&chain, 7}, rule)) ==
          "nft 'insert rule inet filter input handle 7 tcp dport 7000 accept comment \"rejoin:game:tcp/7000\"'");
    CHECK(text(nft::open_command({&chain, 0}, rule)) ==
          "nft 'add rule inet filter input tcp dport 7000 accept comment \"rejoin:game:tcp/7000\"'");
    CHECK(text(nft::close_command(chain, 9, rule, false)) == "nft 'delete rule inet filter input handle 9'");
    rule.expiry = Duration::seconds(90);
    rule.last_port = 7005;
    rule.interface_name = TextView("eth0");
    CHECK(text(nft::open_command({&chain, 0}, rule)) ==
          "nft 'add set inet filter rejoin/game/tcp/7000-7005 { type inet_service; flags interval,timeout; }; add element inet filter "
          "rejoin/game/tcp/7000-7005 { 7000-7005 timeout 90s }; add rule inet filter input iifname \"eth0\" tcp dport "
          "@rejoin/game/tcp/7000-7005 accept "
          "comment \"rejoin:game:tcp/7000-7005\"'");
}
