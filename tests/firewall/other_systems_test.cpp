// SPDX-License-Identifier: BSL-1.0
// The firewalls of the other systems, by what their tools print, or their interfaces say.
#include <rejoin/firewall/tools/application_firewall.hpp>
#include <rejoin/firewall/tools/pf.hpp>
#include <rejoin/firewall/windows.hpp>
#include <string>

#include "catch.hpp"

using namespace rejoin;
using namespace rejoin::firewall;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }
Rule made(const char* what, const char* program = "") {
    Rule rule = *Rule::parse(what);
    rule.app = TextView("game");
    rule.program = TextView(program);
    return rule;
}
Sample sample_of(const char* what, const char* interface_name = "en0", bool v6 = false) {
    const Rule rule = *Rule::parse(what);
    Sample sample;
    sample.protocol = rule.protocol;
    sample.first_port = rule.port;
    sample.last_port = rule.last();
    sample.interface_name = TextView(interface_name);
    sample.v6 = v6;
    return sample;
}

}  // namespace

TEST_CASE("macOS: what socketfilterfw prints is understood in the words of several versions") {
    namespace af = application_firewall;
    using af::Listed;
    const auto state = [](const char* global, const char* block_all, const char* allow_signed, const char* program) {
        const af::State s = af::read(global, block_all, allow_signed, program);
        return std::string(!s.known ? "unknown"
                           : s.on   ? "on"
                                    : "off") +
               (s.blocks_all ? " blocks-all" : "") + (s.allows_signed ? "" : " unsigned") +
               (s.program == Listed::no        ? " no"
                : s.program == Listed::allowed ? " allowed"
                : s.program == Listed::blocked ? " blocked"
                                               : "");
    };
    const char* const signed_on =
        "Automatically allow signed built-in software ENABLED\nAutomatically allow downloaded signed software ENABLED\n";
    CHECK(state("Firewall is disabled. (State = 0)\n", "Block all DISABLED!\n", signed_on,
                "The application is not part of the firewall\n") == "off no");
    CHECK(state("Firewall is enabled. (State = 1)\n", "Block all DISABLED!\n", signed_on,
                "Incoming connection to the application is permitted\n") == "on allowed");
    CHECK(state("Firewall is enabled. (State = 1)\n", "Firewall has block all state set to disabled.\n", signed_on,
                "Incoming connection to /Applications/Game.app is blocked \n") == "on blocked");
    CHECK(state("Firewall is enabled. (State = 2)\n", "Firewall has block all state set to enabled.\n", signed_on, "") == "on blocks-all");
    CHECK(state("Firewall is enabled. (State = 2)\n", "Firewall is set to block all non-essential incoming connections\n", "", "") ==
          "on blocks-all");
    CHECK(state("Firewall is enabled. (State = 2) \n", "", "", "") == "on blocks-all");
    CHECK(state("Firewall is enabled. (State = 2)\n", "Block all DISABLED!\n", "", "") == "on");
    CHECK(state("Firewall is enabled. (State = 1)\n", "Block all DISABLED!\n",
                "Automatically allow signed built-in software ENABLED.\nAutomatically allow downloaded signed software DISABLED.\n",
                "The application is not part of the firewall") == "on unsigned no");
    CHECK(state("", "", "", "") == "unknown");
    CHECK(state("socketfilterfw: command not found", "", "", "") == "unknown");
    CHECK(af::managed("Firewall settings cannot be modified from command line on managed Mac computers.\n"));
}

TEST_CASE("macOS: what stands in the way of a program is said, with the commands") {
    namespace af = application_firewall;
    const Rule rule = made("7000/tcp", "/Applications/My Game.app");
    Gate gate;
    af::State state;
    state.known = true;
    CHECK_FALSE(af::judge(state, rule, false, gate));  // it is off
    state.on = true;
    state.program = af::Listed::no;
    REQUIRE(af::judge(state, rule, true, gate));
    CHECK(gate.stance == Stance::allows);
    gate = {};
    REQUIRE(af::judge(state, rule, false, gate));
    CHECK(gate.stance == Stance::blocks);
    CHECK(text(gate.command) ==
          "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --add '/Applications/My Game.app' && sudo "
          "/usr/libexec/ApplicationFirewall/socketfilterfw --unblockapp '/Applications/My Game.app'");
    CHECK(text(gate.inverse) == "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --remove '/Applications/My Game.app'");
    gate = {};
    state.program = af::Listed::blocked;
    REQUIRE(af::judge(state, rule, true, gate));
    CHECK(gate.stance == Stance::blocks);
    CHECK(text(gate.inverse) == "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --blockapp '/Applications/My Game.app'");
    gate = {};
    state.blocks_all = true;
    REQUIRE(af::judge(state, rule, true, gate));
    CHECK(gate.stance == Stance::refused);
    CHECK(gate.command.empty());
    gate = {};
    REQUIRE(af::judge(af::State(), rule, true, gate));
    CHECK(gate.stance == Stance::unknown);
}

TEST_CASE("pf: the last rule that matches decides, or the first that is quick") {
    constexpr char rules[] =
        "scrub in all fragment reassemble\n"
        "block drop in log all\n"
        "pass in quick on lo0 all flags S/SA keep state\n"
        "pass in inet proto tcp from any to any port = ssh flags S/SA keep state\n"
        "pass in on en0 proto udp from any to (self) port 5000:5010 keep state\n"
        "pass in proto tcp from 10.0.0.0/8 to any port = 8080 flags S/SA keep state\n"
        "block drop in quick proto tcp from any to any port = 6000\n"
        "pass in proto tcp from any to any port = 6000 flags S/SA keep state\n"
        "pass out all flags S/SA keep state\n"
        "anchor \"com.apple/*\" all\n"
        "anchor \"rejoin/*\" all\n"
        "block drop in quick proto tcp from any to any port = 9000\n";
    const auto fate = [&](const Sample& sample, bool own = false) {
        const auto judged = pf::judge(rules, sample, own);
        return std::string(judged.fate == Fate::dropped ? "drop" : "pass") + (judged.some_dropped ? " ?" : "") +
               (judged.own ? " own" : "") + (judged.anchored ? " anchored" : "");
    };
    CHECK(fate(sample_of("22/tcp")) == "pass anchored");
    CHECK(fate(sample_of("22/tcp", "en0", true)) == "drop anchored");
    CHECK(fate(sample_of("5000-5010/udp")) == "pass anchored");
    CHECK(fate(sample_of("5000/udp", "en1")) == "drop anchored");
    CHECK(fate(sample_of("8080/tcp")) == "drop anchored");
    CHECK(fate(sample_of("6000/tcp")) == "drop");
    CHECK(fate(sample_of("7000/tcp")) == "drop anchored");
    CHECK(fate(sample_of("7000/tcp"), true) == "pass own anchored");
    CHECK(fate(sample_of("9000/tcp"), true) == "pass own anchored");
    CHECK(fate(sample_of("6000/tcp"), true) == "drop");  // before the anchor
    CHECK(text(pf::judge(rules, sample_of("6000/tcp"), false).rule) == "block drop in quick proto tcp from any to any port = 6000");
    CHECK(pf::judge("", sample_of("7000/tcp"), false).fate == Fate::accepted);
    CHECK(pf::judge("pass in all flags S/SA keep state\nblock drop in from <bruteforce> to any\n", sample_of("7000/tcp"), false)
              .some_dropped);
    // Between two ports, without them: not that one port.
    const auto between =
        pf::judge("pass in all\nblock drop in proto tcp from any to any port 7000 >< 7010\n", sample_of("7000/tcp"), false);
    CHECK(between.fate == Fate::accepted);
    CHECK(between.some_dropped);
    const Rule rule = made("7000-7010/udp");
    CHECK(text(pf::open_command(rule)) ==
          "echo 'pass in quick proto udp from any to any port 7000:7010 label \"rejoin:game:udp/7000-7010\"' | pfctl -q -a "
          "rejoin/game.udp.7000:7010 -f -");
    CHECK(text(pf::close_command(rule)) == "pfctl -q -a rejoin/game.udp.7000:7010 -F rules");
}

TEST_CASE("ipfw: the first rule that matches decides") {
    constexpr char list[] =
        "00100 allow ip from any to any via lo0\n"
        "00200 deny ip from any to 127.0.0.0/8\n"
        "00300 check-state :default\n"
        "00400 allow tcp from me to any setup keep-state :default\n"
        "00500 allow tcp from any to me 22,80 in setup\n"
        "00600 allow udp from any to any dst-port 5000-5010 recv em0\n"
        "00700 deny log tcp from any to any established\n"
        "00800 allow ip6 from any to me 7000\n"
        "01000 allow tcp from any to me 7100 in // rejoin:game:tcp/7100\n"
        "65535 deny ip from any to any\n";
    const auto fate = [&](const char* what, const char* by = "em0", bool v6 = false) {
        const auto judged = ipfw::judge(list, sample_of(what, by, v6));
        return (judged.fate == Fate::accepted ? "allow " : "deny ") + std::to_string(judged.at);
    };
    CHECK(fate("22/tcp") == "allow 500");
    CHECK(fate("23/tcp") == "deny 65535");
    CHECK(fate("5000-5010/udp") == "allow 600");
    CHECK(fate("5000-5011/udp") == "deny 65535");
    CHECK(fate("5005/udp", "em1") == "deny 65535");
    CHECK(fate("7000/udp", "em0", true) == "allow 800");
    CHECK(fate("7000/udp") == "deny 65535");
    CHECK(fate("7100/tcp") == "allow 1000");
    CHECK(ipfw::judge("", sample_of("1/tcp")).fate == Fate::none);
    CHECK(ipfw::find(list, tag_of(made("7100/tcp"))) == 1000);
    CHECK(ipfw::find(list, tag_of(made("710/tcp"))) == 0);
    CHECK(text(ipfw::words(made("7000/tcp"), 65535).typed()) ==
          "ipfw -q add 65534 allow tcp from any to me 7000 in // rejoin:game:tcp/7000");
}

namespace {

// A Windows that the test makes up.
struct Played {
    windows::State state;
    Error answer, refuses;
    bool forgets = false;  // says that it did, and has not: as Wine does
    int added = 0, removed = 0;

    Text<1023> program() const { return Text<1023>(TextView("C:\\game.exe")); }
    Error read(windows::State& to) {
        if (answer) return answer;
        to.active = state.active;
        for (std::size_t i = 0; i < 3; ++i) {
            to.on[i] = state.on[i];
            to.blocks_all[i] = state.blocks_all[i];
            to.allows_by_default[i] = state.allows_by_default[i];
        }
        to.modify_state = state.modify_state;
        for (const windows::KnownRule& rule : state.rules) REQUIRE(to.rules.push(rule));
        return {};
    }
    Error add(const Rule& rule) {
        ++added;
        if (refuses || forgets) return refuses;
        windows::KnownRule made;
        made.name = TextView(tag_of(rule));
        made.program = rule.program;
        made.ports = TextView(ports_of(rule));
        made.protocol = static_cast<std::int32_t>(rule.protocol);
        made.profiles = windows::profiles_of(rule);
        REQUIRE(state.rules.push(made));
        return {};
    }
    Error remove(const Rule& rule) {
        ++removed;
        for (std::size_t i = state.rules.size(); i-- > 0;)
            if (state.rules[i].name == TextView(tag_of(rule))) state.rules.erase(i);
        return refuses;
    }
};
windows::KnownRule known(const char* name, const char* program, bool allows, const char* ports = "",
                         std::uint32_t profiles = windows::all_profiles) {
    windows::KnownRule rule;
    rule.name = TextView(name);
    rule.program = TextView(program);
    rule.ports = TextView(ports);
    rule.allows = allows;
    rule.profiles = profiles;
    return rule;
}

}  // namespace

TEST_CASE("what others have named is printed as nothing that a terminal would obey") {
    Report report;
    report.rule = made("7000/tcp");
    Gate gate;
    gate.stance = Stance::blocks;
    gate.where = TextView("inet x\n y");
    gate.why = TextView("its rule 1 drops it: \x1b]0;owned\x07 caf\xc3\xa9");
    REQUIRE(report.gates.push(std::move(gate)));
    std::string all;
    each_line(report, [&](TextView line) { all += text(line) + "\n"; });
    CHECK(all == "7000/tcp: blocked by this host\n  nftables, inet x? y: blocks (its rule 1 drops it: ?]0;owned? caf\xc3\xa9)\n");
}

TEST_CASE("Windows: a rule is added where none allows it, and read back; taken back, nothing is left") {
    WindowsFirewall<Played> firewall;
    Played& played = firewall.policy();
    played.state.active = windows::private_;
    played.state.on[0] = played.state.on[1] = played.state.on[2] = true;
    const Rule rule = made("7000/tcp", "C:\\Games\\My Game.exe");
    Report report = firewall.explain(rule);
    REQUIRE(report.gates.size() == 1);
    CHECK(report.gates[0].stance == Stance::blocks);
    CHECK(text(report.gates[0].where) == "profile private");
    CHECK(text(report.gates[0].command) ==
          "netsh advfirewall firewall add rule name=\"rejoin:game:tcp/7000\" dir=in action=allow protocol=TCP localport=7000 "
          "program=\"C:\\Games\\My Game.exe\" profile=domain,private");
    CHECK(text(report.gates[0].inverse) == "netsh advfirewall firewall delete rule name=\"rejoin:game:tcp/7000\"");
    CHECK(played.added == 0);
    report = firewall.apply(rule);
    CHECK(report.let_in());
    CHECK(report.changed());
    CHECK(report.gates[0].stance == Stance::opened);
    report = firewall.apply(rule);
    CHECK(report.let_in());
    CHECK_FALSE(report.changed());
    CHECK(played.added == 1);
    // Another program, or another port, is not let in by it.
    CHECK(firewall.explain(made("7000/tcp", "C:\\Games\\Other.exe")).gates[0].stance == Stance::blocks);
    CHECK(firewall.explain(made("7001/tcp", "c:/games/my game.EXE")).gates[0].stance == Stance::blocks);
    CHECK(firewall.explain(made("7000/udp", "C:\\Games\\My Game.exe")).gates[0].stance == Stance::blocks);
    CHECK(firewall.explain(made("7000/tcp", "c:/games/my game.EXE")).gates[0].stance == Stance::opened);
    CHECK(firewall.revert(rule).changed());
    CHECK(played.state.rules.size() == 0);
    CHECK(firewall.revert(rule).error == Error());
    CHECK(played.removed == 1);
    // What a crash has left is found by its tag.
    REQUIRE(firewall.apply(rule).let_in());
    CHECK_FALSE(firewall.clear("other"));
    CHECK(played.state.rules.size() == 1);
    CHECK_FALSE(firewall.clear("game"));
    CHECK(played.state.rules.size() == 0);
}

TEST_CASE("Windows: what decides is named, and what is not this computer's to change is final") {
    WindowsFirewall<Played> firewall;
    Played& played = firewall.policy();
    played.state.active = windows::private_;
    played.state.on[1] = true;
    const Rule rule = made("7000/tcp", "C:\\game.exe");
    const auto gate = [&] {
        Report report = firewall.apply(rule);
        REQUIRE(report.gates.size() == 1);
        return std::move(report.gates[0]);
    };
    REQUIRE(played.state.rules.push(known("Game", "c:\\GAME.exe", true, "80,7000-7010")));
    CHECK(gate().stance == Stance::allows);
    CHECK(firewall.explain(made("7000/tcp")).let_in());  // this program is meant where none is named
    REQUIRE(played.state.rules.push(known("My game (asked)", "C:\\game.exe", false)));
    Gate blocked = gate();
    CHECK(blocked.stance == Stance::refused);
    CHECK(text(blocked.why).find("My game (asked)") != std::string::npos);
    CHECK(text(blocked.command) == "netsh advfirewall firewall delete rule name=\"My game (asked)\" program=\"C:\\game.exe\"");
    // What could mean something else at a prompt is named, and not put into a command.
    played.state.rules.clear();
    REQUIRE(played.state.rules.push(known("x\" & calc & \"", "C:\\game.exe", false)));
    blocked = gate();
    CHECK(blocked.stance == Stance::refused);
    CHECK(blocked.command.empty());
    // For some addresses alone: neither is it let in, nor kept out.
    played.state.rules.clear();
    for (const bool allows : {true, false}) {
        windows::KnownRule some = known("some", "C:\\game.exe", allows);
        some.narrow = true;
        REQUIRE(played.state.rules.push(std::move(some)));
    }
    Report narrow = firewall.explain(rule);
    CHECK(narrow.gates[0].stance == Stance::blocks);
    CHECK(narrow.gates[0].some_dropped);
    played.state.rules.clear();
    played.state.blocks_all[1] = true;
    CHECK(gate().stance == Stance::refused);
    played.state.blocks_all[1] = false;
    played.state.modify_state = 1;
    CHECK(gate().stance == Stance::refused);
    played.state.modify_state = 0;
    played.state.active = windows::public_;
    played.state.on[2] = true;
    CHECK(gate().stance == Stance::refused);  // it was asked for private and domain networks alone
    played.state.on[2] = false;
    CHECK(firewall.explain(rule).gates.empty());  // it is off
    CHECK(played.added == 0);
    // Somebody who may not; a system that says yes and does nothing; one that says nothing.
    played.state.active = windows::private_;
    played.refuses = Error::system(5);
    Gate refused = gate();
    CHECK(refused.stance == Stance::blocks);
    CHECK(refused.error == Error::system(5));
    CHECK_FALSE(refused.command.empty());
    played.refuses = {};
    played.forgets = true;
    CHECK(gate().error == Errc::unsupported);
    played.answer = Error::system(1);
    Gate unknown = gate();
    CHECK(unknown.stance == Stance::unknown);
    CHECK_FALSE(unknown.command.empty());
    CHECK(firewall.detect().gates[0].stance == Stance::unknown);
}
#if defined(_WIN32)
TEST_CASE("Windows: the real one is asked, and says how it is or that it does not say") {
    WindowsFirewall<windows::ComPolicy> firewall;
    const Report report = firewall.explain(made("7000/tcp"));
    CHECK_FALSE(report.error);
    for (const Gate& gate : report.gates) CHECK((gate.stance != Stance::unknown || gate.error));
    each_line(report, [](TextView line) { std::printf("%s\n", text(line).c_str()); });
}
#endif
