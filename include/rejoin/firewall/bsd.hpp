// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/journal_file.hpp>
#include <rejoin/firewall/tools/application_firewall.hpp>
#include <rejoin/firewall/tools/pf.hpp>
#include <rejoin/firewall/tools/run.hpp>
#include <rejoin/os/clock.hpp>

#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__)
#include <stdlib.h>

namespace rejoin::inline v0_1::firewall {

/// The firewalls of macOS and the BSDs, by their own tools: the application firewall, pf, ipfw. As `LinuxFirewall` in what it promises.
/// Openings of the application firewall carry no tag: the journal alone knows of them, and nothing is opened that it does not take.
class BsdFirewall {
public:
    struct Options {
        Text<255> helper;  ///< unused: the commands say it all
        Text<255> journal = TextView("/var/db/rejoin/openings");
    };

    BsdFirewall() = default;
    explicit BsdFirewall(const Options& options) : options_(options) {}

    Report detect() { return look(Rule()); }
    Report explain(const Rule& rule) { return rule.valid() ? look(rule) : failed(rule, Errc::invalid_argument); }
    Report apply(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        Report before = look(rule);
        bool any = false, opened = false;
        for (const Gate& gate : before.gates) any = any || gate.stance == Stance::blocks || gate.stance == Stance::opened;
        // Noted first: of what the application firewall is told, nothing else would tell after a crash.
        const Journal journal(options_.journal);
        const JournalEntry entry{tag_of(rule), rule.expiry > Duration() ? realtime_now() / 1000 + rule.seconds() : 0, ::getuid()};
        JournalEntry old;
        const bool noted = journal.find(entry.tag, old);
        const Error unnoted = any ? journal.note(entry) : Error();
        for (Gate& gate : before.gates) {
            if (gate.stance == Stance::blocks) gate.error = unnoted ? unnoted : open(gate, rule);
            opened = opened || gate.stance == Stance::opened || (gate.stance == Stance::blocks && !gate.error);
        }
        if (any && !opened && !noted) static_cast<void>(journal.note(entry, true));
        Report after = look(rule);
        for (Gate& gate : after.gates) {
            const Gate* const was = find_gate(before, gate);
            if (was == nullptr || was->stance != Stance::blocks) continue;
            gate.changed = gate.stance != Stance::blocks;
            if (was->error) gate.error = was->error;
        }
        if (opened) after.error = unnoted;  // where nothing was, the gates say why
        return after;
    }
    Report verify(const Rule& rule, Proof proof = Proof::none) {
        Report report = explain(rule);
        report.proof = proof;
        return report;
    }
    Report revert(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        JournalEntry entry;
        const Journal journal(options_.journal);
        const bool noted = journal.find(tag_of(rule), entry);
        const Report before = look(rule);
        Error first;
        const auto keep = [&](Error error) {
            if (error && !first) first = error;
        };
        for (const Gate& gate : before.gates) {
            if (gate.system == System::pf && gate.stance == Stance::opened) keep(run(flush_words(rule)));
            if (gate.system == System::ipfw && gate.stance == Stance::opened) {
                Array<char> list;
                keep(print(ipfw_list(), list));
                iptables::Words words;
                words.add("ipfw").add("-q").add("delete").add(Text<15>().append_number(ipfw::find(view(list), tag_of(rule))));
                keep(run(words));
            }
            if (gate.system == System::application_firewall && noted && gate.stance == Stance::allows)
                keep(run(application_firewall::words("--remove", with_program(rule))));
        }
        keep(journal.note({tag_of(rule), 0, 0}, true));
        Report after = look(rule);
        for (Gate& gate : after.gates)
            if (const Gate* const was = find_gate(before, gate)) gate.changed = !(gate.stance == was->stance);
        if (first) after.error = first;
        return after;
    }
    /// As `LinuxFirewall`'s; of the application firewall's, the journal alone tells.
    template <class F>
    Error each_opening(F f) {
        Array<Tag> tags;
        Array<char> anchored, list;
        iptables::Words words;
        words.add("pfctl").add("-q").add("-a").add(pf::anchors).add("-s").add("rules");
        static_cast<void>(print(words, anchored));
        static_cast<void>(print(ipfw_list(), list));
        bool kept = collect_tags(view(anchored), tags) && collect_tags(view(list), tags);
        const Journal journal(options_.journal);
        const Error error = journal.each([&](const JournalEntry& entry) { kept = kept && collect_tags(entry.tag, tags); });
        if (error || !kept) return Errc::out_of_memory;
        for (const Tag& tag : tags) {
            JournalEntry entry;
            const bool noted = journal.find(tag, entry);
            f(*rule_of(tag), noted ? &entry : nullptr);
        }
        return {};
    }
    Error clear(TextView app) {
        Array<Rule> old;
        bool kept = true;
        const std::int64_t now = realtime_now() / 1000;
        Error first = each_opening([&](const Rule& rule, const JournalEntry* entry) {
            if (rule.app == app && (entry == nullptr || (entry->until != 0 && entry->until <= now))) kept = kept && old.push(rule);
        });
        for (const Rule& rule : old)
            if (const Error error = revert(rule).error; error && !first) first = error;
        return kept ? first : Error(Errc::out_of_memory);
    }

private:
    static Report failed(const Rule& rule, Error error) {
        Report report;
        report.rule = rule;
        report.error = error;
        return report;
    }
    static TextView view(const Array<char>& text) { return {text.data(), text.size()}; }
    static Error print(const iptables::Words& words, Array<char>& to) {
        const auto status = run_tool(words, to);
        // Where a device is managed its tool says so, and yet that all went well.
        const bool refused = status && (*status != 0 || application_firewall::managed(view(to)));
        return !status ? status.error() : refused ? Error::system(EPERM) : Error();
    }
    static Error run(const iptables::Words& words) {
        Array<char> output;
        return print(words, output);
    }
    static iptables::Words pf_words(const char* what) {
        iptables::Words words;
        return words.add("pfctl").add("-q").add("-s").add(what);
    }
    static iptables::Words ipfw_list() {
        iptables::Words words;
        return words.add("ipfw").add("list");
    }
    static iptables::Words flush_words(const Rule& rule) {
        iptables::Words words;
        return words.add("pfctl").add("-q").add("-a").add(pf::anchor_of(rule)).add("-F").add("rules");
    }
    static Rule with_program(const Rule& rule) {
        Rule with = rule;
        if (!with.program.empty()) return with;
        with.program = TextView(::getprogname());  // a name alone, where nothing better is known
        return with;
    }
    static Sample sample_of(const Rule& rule, bool v6) {
        Sample sample;
        sample.v6 = v6;
        sample.protocol = rule.protocol;
        sample.first_port = rule.port == 0 ? std::uint16_t{1} : rule.port;
        sample.last_port = rule.port == 0 ? std::uint16_t{1} : rule.last();
        sample.interface_name = rule.interface_name;
        return sample;
    }

    Report look(const Rule& rule) {
        Report report;
        report.rule = rule;
        bool kept = true;
        if (!find_tool("socketfilterfw").empty()) kept = add_application_firewall(rule, report);
        if (!find_tool("pfctl").empty()) kept = kept && add_pf(rule, report);
        if (!find_tool("ipfw").empty()) kept = kept && add_ipfw(rule, report);
        if (!kept) report.error = Errc::out_of_memory;
        return report;
    }
    bool add_application_firewall(const Rule& asked, Report& report) {
        const Rule rule = with_program(asked);
        Array<char> said[4];
        const char* const options[] = {"--getglobalstate", "--getblockall", "--getallowsigned", "--getappblocked"};
        for (std::size_t i = 0; i < 4; ++i) {
            iptables::Words words;
            words.add("socketfilterfw").add(options[i]);
            if (i == 3) words.add(rule.program);
            static_cast<void>(run_tool(words, said[i]));
        }
        iptables::Words verifies;
        verifies.add("codesign").add("--verify").add("--strict").add(rule.program);
        Array<char> output;
        const auto status = run_tool(verifies, output);
        Gate gate;
        const auto state = application_firewall::read(view(said[0]), view(said[1]), view(said[2]), view(said[3]));
        if (!application_firewall::judge(state, rule, status && *status == 0, gate)) return true;
        return report.gates.push(std::move(gate));
    }
    bool add_pf(const Rule& rule, Report& report) {
        Array<char> info, rules, own;
        Gate gate;
        gate.system = System::pf;
        gate.where = TextView("main ruleset");
        gate.error = print(pf_words("info"), info);
        if (!gate.error && !application_firewall::detail::has(view(info), "Status: Enabled")) return true;
        if (!gate.error) gate.error = print(pf_words("rules"), rules);
        if (!gate.error && rules.empty()) return true;
        if (gate.error) {
            gate.stance = Stance::unknown;
            if (rule.port != 0) gate.command = pf::open_command(rule), gate.inverse = pf::close_command(rule);
            return report.gates.push(std::move(gate));
        }
        if (rule.port == 0) return report.gates.push(std::move(gate));
        iptables::Words of_anchor;
        of_anchor.add("pfctl").add("-q").add("-a").add(pf::anchor_of(rule)).add("-s").add("rules");
        static_cast<void>(print(of_anchor, own));
        bool dropped = false, anchored = false;
        for (bool v6 : {false, true}) {
            const auto judged = pf::judge(view(rules), sample_of(rule, v6), !own.empty());
            dropped = dropped || judged.fate == Fate::dropped;
            anchored = judged.anchored;
            gate.some_dropped = gate.some_dropped || judged.some_dropped;
            if (judged.fate == Fate::dropped) gate.why = Text<255>("its rule drops it: ").append(judged.rule);
        }
        gate.stance = !dropped ? (own.empty() ? Stance::allows : Stance::opened) : anchored ? Stance::blocks : Stance::refused;
        if (dropped && !anchored)
            gate.command =
                Command("echo 'anchor \"rejoin/*\"' >>/etc/pf.conf && pfctl -q -f /etc/pf.conf && ").append(pf::open_command(rule));
        else if (dropped)
            gate.command = pf::open_command(rule);
        if (gate.stance != Stance::allows) gate.inverse = pf::close_command(rule);
        return report.gates.push(std::move(gate));
    }
    bool add_ipfw(const Rule& rule, Report& report) {
        Array<char> list;
        Gate gate;
        gate.system = System::ipfw;
        gate.where = TextView("its list");
        gate.error = print(ipfw_list(), list);
        if (gate.error == Error::system(EPERM) && list.empty()) return true;  // it is not loaded
        if (rule.port == 0) return report.gates.push(std::move(gate));
        std::uint32_t at = 0;
        for (bool v6 : {false, true}) {
            const auto judged = ipfw::judge(view(list), sample_of(rule, v6));
            gate.some_dropped = gate.some_dropped || judged.some_dropped;
            if (judged.fate == Fate::dropped && (at == 0 || judged.at < at)) at = judged.at;
        }
        const std::uint32_t own = ipfw::find(view(list), tag_of(rule));
        gate.stance = at != 0 ? Stance::blocks : own != 0 ? Stance::opened : Stance::allows;
        if (at != 0) gate.command = ipfw::words(rule, at).typed();
        if (own != 0) gate.inverse = Command("ipfw -q delete ").append_number(own);
        return report.gates.push(std::move(gate));
    }
    Error open(const Gate& gate, const Rule& rule) {
        if (gate.system == System::application_firewall) {
            const Rule with = with_program(rule);
            static_cast<void>(run(application_firewall::words("--add", with)));
            return run(application_firewall::words("--unblockapp", with));
        }
        if (gate.system == System::ipfw) {
            Array<char> list;
            if (const Error error = print(ipfw_list(), list)) return error;
            std::uint32_t at = 0;
            for (bool v6 : {false, true})
                if (const auto judged = ipfw::judge(view(list), sample_of(rule, v6));
                    judged.fate == Fate::dropped && (at == 0 || judged.at < at))
                    at = judged.at;
            return run(ipfw::words(rule, at));
        }
        if (gate.system == System::pf) {  // pfctl reads rules from a file, or from its input
            char path[] = "/tmp/rejoin-pf-XXXXXX";
            const int fd = ::mkstemp(path);
            if (fd < 0) return Error::system(errno);
            const auto text = pf::rule_text(rule);
            bool wrote = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::write(fd, "\n", 1) == 1;
            wrote = ::close(fd) == 0 && wrote;
            iptables::Words words;
            words.add("pfctl").add("-q").add("-a").add(pf::anchor_of(rule)).add("-f").add(path);
            const Error error = wrote ? run(words) : Error::system(ENOSPC);
            ::unlink(path);
            return error;
        }
        return Errc::unsupported;
    }

    Options options_;
};

}  // namespace rejoin::inline v0_1::firewall
#endif
