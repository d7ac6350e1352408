// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/journal.hpp>
#include <rejoin/firewall/nft/kernel.hpp>
#include <rejoin/firewall/tools/firewalld.hpp>
#include <rejoin/firewall/tools/run.hpp>
#include <rejoin/firewall/tools/ufw.hpp>

#if defined(__linux__)
#include <ifaddrs.h>
#include <net/if.h>

namespace rejoin::inline v0_1::firewall {

/// The firewalls of a Linux host, all of them: what would drop is read from the kernel, and changed through whoever is in charge of it, or
/// it would be lost when that starts again: firewalld, ufw, iptables, or nobody. Of the network namespace of the thread that asks. Every
/// call reads everything anew, and may block for as long as the system's tools take.
class LinuxFirewall {
public:
    struct Options {
        /// What an administrator can run where nothing can be read, with the rule behind it: `sudo letin open`. Empty: nothing is
        /// suggested.
        Text<255> helper;
        Text<255> journal = TextView("/var/lib/rejoin/openings");
    };

    LinuxFirewall() = default;
    explicit LinuxFirewall(const Options& options) : options_(options) {}

    /// What is active. Changes nothing, and asks for nothing.
    Report detect() { return look(Rule()); }
    /// What stands between the rule and the others, and what could be done about it. Changes nothing.
    Report explain(const Rule& rule) { return rule.valid() ? look(rule) : refused(rule); }
    /// Opens the least, wherever it is blocked and may be opened; says then how it is. Where it is let in already nothing changes, but that
    /// what expires has its whole time again.
    Report apply(const Rule& rule) {
        if (!rule.valid()) return refused(rule);
        const Report before = look(rule);
        Array<Error> errors;
        for (const Gate& gate : before.gates)
            if (!errors.push(gate.stance == Stance::blocks   ? open(gate, rule)
                             : gate.stance == Stance::opened ? renew(gate, rule)
                                                             : Error()))
                return failed(rule, Errc::out_of_memory);
        if (const Error error = open_chains(rule))
            for (std::size_t i = 0; i < before.gates.size(); ++i)
                if (before.gates[i].system == System::nftables && before.gates[i].stance == Stance::blocks) errors[i] = error;
        Report after = look(rule);
        bool any = false;
        for (std::size_t i = 0; i < after.gates.size() && i < before.gates.size(); ++i) {
            Gate& gate = after.gates[i];
            if (!(gate.where == before.gates[i].where)) continue;
            gate.changed = gate.stance == Stance::opened && before.gates[i].stance == Stance::blocks;
            if (errors[i] && gate.stance != Stance::unknown) gate.error = errors[i];
            any = any || gate.stance == Stance::opened;
        }
        if (any) {
            const JournalEntry entry{tag_of(rule), rule.expiry > Duration() ? seconds_now() + rule.seconds() : 0, ::getuid()};
            if (const Error error = Journal(options_.journal).note(entry)) after.error = error;
        }
        return after;
    }
    /// How it is now, as far as this host can tell; `proof`: what another host has found out.
    Report verify(const Rule& rule, Proof proof = Proof::none) {
        Report report = explain(rule);
        report.proof = proof;
        return report;
    }
    /// Takes away whatever carries the rule's tag, and nothing else.
    Report revert(const Rule& rule) {
        if (!rule.valid()) return refused(rule);
        Report before = look(rule);
        Error first;
        const auto keep = [&](Error error) {
            if (error && !first) first = error;
        };
        keep(close_chains(rule));
        for (const Legacy& legacy : legacies_) keep(remove(legacy.tool, {legacy.text.data(), legacy.text.size()}, rule));
        if (::access(ufw::profile_path(rule).c_str(), F_OK) == 0) {
            Array<char> rules;
            Rule there = rule;
            if (read_ufw(rules)) there.interface_name = ufw::interface_of({rules.data(), rules.size()}, ufw::profile(rule));
            keep(run(ufw::words(there, false, true)));
            if (::unlink(ufw::profile_path(rule).c_str()) != 0) keep(Error::system(errno));
        }
        if (auto client = firewalld::Client::connect()) {
            Array<Text<32>> zones;
            keep(client->each_rule([&](TextView zone, TextView one) {
                if (one == TextView(firewalld::rich_rule(rule))) zones.push(Text<32>(zone));
            }));
            for (const Text<32>& zone : zones) keep(client->remove(rule, zone));
        }
        keep(Journal(options_.journal).note({tag_of(rule), 0, 0}, true));
        Report after = look(rule);
        for (std::size_t i = 0; i < after.gates.size() && i < before.gates.size(); ++i)
            after.gates[i].changed = before.gates[i].stance == Stance::opened && after.gates[i].stance != Stance::opened;
        after.error = first;
        return after;
    }
    /// Calls `f(const Rule&, const JournalEntry*)` with each opening that is there, found by its tag; the entry is null where the journal
    /// says nothing of it.
    template <class F>
    Error each_opening(F f) {
        const Report report = look(Rule());
        Array<Tag> tags;
        bool kept = true;
        const auto found = [&](TextView text) {
            for (std::size_t i = 0; i + 7 < text.size(); ++i) {
                if (!detail::starts(detail::behind(text, i), "rejoin:")) continue;
                std::size_t end = i;
                while (end < text.size() && (detail::is_letter_or_digit(text[end]) || made_for_tags(text[end]))) ++end;
                const TextView tag(text.data() + i, end - i);
                bool known = tag.size() > 56 || !rule_of(tag);
                for (const Tag& other : tags) known = known || other == tag;
                if (!known) kept = kept && tags.push(Tag(tag));
                i = end;
            }
        };
        for (const nft::Ruleset::Entry& entry : ruleset_.rules()) found(entry.comment);
        for (const Legacy& legacy : legacies_) found({legacy.text.data(), legacy.text.size()});
        if (auto client = firewalld::Client::connect()) static_cast<void>(client->each_rule([&](TextView, TextView one) { found(one); }));
        Array<char> rules;
        if (read_ufw(rules)) {
            // ufw writes a comment as hexadecimal digits: a profile of that name tells as much.
            const TextView text(rules.data(), rules.size());
            for (std::size_t i = 0; i + 12 < text.size(); ++i)
                if (detail::starts(detail::behind(text, i), "dapp_rejoin-")) profile_found(detail::behind(text, i + 5), found);
        }
        if (!kept) return Errc::out_of_memory;
        for (const Tag& tag : tags) {
            JournalEntry entry;
            const bool noted = Journal(options_.journal).find(tag, entry);
            f(*rule_of(tag), noted ? &entry : nullptr);
        }
        return report.error;
    }
    /// Takes away what a program of that name has left behind: what has expired, and what nobody has noted. To be called when it starts.
    Error clear(TextView app) {
        Array<Rule> old;
        bool kept = true;
        const std::int64_t now = seconds_now();
        const Error error = each_opening([&](const Rule& rule, const JournalEntry* entry) {
            if (rule.app == app && (entry == nullptr || (entry->until != 0 && entry->until <= now))) kept = kept && old.push(rule);
        });
        Error first = kept ? error : Error(Errc::out_of_memory);
        for (const Rule& rule : old)
            if (const Error why = revert(rule).error; why && !first) first = why;
        return first;
    }

private:
    // A chain through which it comes.
    struct Seen {
        std::size_t chain = 0;
        System owner = System::nftables;
        bool dropped = false, some = false;
        std::size_t rule = nft::Ruleset::no_rule;  // the first that drops
        std::uint64_t opened = 0;                  // that of the tag
    };
    struct Legacy {
        const char* tool;
        Array<char> text;
    };

    static Report refused(const Rule& rule) { return failed(rule, Errc::invalid_argument); }
    static Report failed(const Rule& rule, Error error) {
        Report report;
        report.rule = rule;
        report.error = error;
        return report;
    }
    static std::int64_t seconds_now() { return realtime_now() / 1000; }
    static bool made_for_tags(char c) { return c == '.' || c == '_' || c == '-' || c == ':' || c == '/'; }
    // `rejoin-app-tcp-7000` as the tag that it was made from.
    template <class F>
    static void profile_found(TextView text, F found) {
        std::size_t end = 0;
        while (end < text.size() && (detail::is_letter_or_digit(text[end]) || made_for_tags(text[end]))) ++end;
        for (const char* protocol : {"-tcp-", "-udp-"})
            for (std::size_t i = end; i-- > 7;) {
                if (!detail::starts({text.data() + i, end - i}, protocol)) continue;
                Tag tag("rejoin:");
                tag.append({text.data() + 7, i - 7})
                    .append(":")
                    .append({protocol + 1, 3})
                    .append("/")
                    .append({text.data() + i + 5, end - i - 5});
                return found(TextView(tag));
            }
    }
    static bool read_ufw(Array<char>& to) {
        constexpr std::size_t size_max = 1 << 20;
        char* const room = to.extend(size_max);
        if (room == nullptr) return false;
        const auto size = read_file("/etc/ufw/user.rules", {reinterpret_cast<std::byte*>(room), size_max});
        to.truncate(size ? *size : 0);
        return static_cast<bool>(size);
    }
    // Takes away what `iptables-save` printed with the rule's tag, as it was printed, so that nothing else can be meant.
    static Error remove(const char* tool, TextView saved, const Rule& rule) {
        Error first;
        iptables::each_tagged(saved, tag_of(rule), tool, [&](const iptables::Words& words) {
            if (const Error error = run(words); error && !first) first = error;
        });
        return first;
    }

    Report look(const Rule& rule) {
        Report report;
        report.rule = rule;
        seen_.clear();
        legacies_.clear();
        ruleset_ = nft::Ruleset();
        Error error = Errc::unsupported;
        if (auto kernel = nft::Kernel::open())
            error = kernel->read(ruleset_);
        else
            error = kernel.error();
        readable_ = !error;
        bool kept = true;
        if (readable_) {
            kept = see(rule) && add_chains(rule, report) && add_legacy(rule, report);
        } else {
            add_unread(rule, error, report);
        }
        if (!kept) report.error = Errc::out_of_memory;
        return report;
    }
    // The interfaces by which others come; at most so many, of which each costs an evaluation of everything.
    static constexpr std::size_t interfaces_max = 8;
    static bool each_sample(const Rule& rule, Array<Sample>& samples) {
        Sample sample;
        sample.protocol = rule.protocol;
        sample.first_port = rule.port;
        sample.last_port = rule.last();
        if (!rule.interface_name.empty()) {
            sample.interface_name = rule.interface_name;
            sample.interface_index = ::if_nametoindex(rule.interface_name.c_str());
            return samples.push(sample);
        }
        ifaddrs* list = nullptr;
        if (::getifaddrs(&list) != 0) list = nullptr;
        bool kept = true;
        for (ifaddrs* one = list; one != nullptr && samples.size() < interfaces_max; one = one->ifa_next) {
            if ((one->ifa_flags & IFF_UP) == 0 || (one->ifa_flags & IFF_LOOPBACK) != 0 || one->ifa_addr == nullptr ||
                (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6))
                continue;
            bool known = false;
            for (const Sample& other : samples) known = known || other.interface_name == TextView(one->ifa_name);
            if (known) continue;
            sample.interface_name = TextView(one->ifa_name);
            sample.interface_index = ::if_nametoindex(one->ifa_name);
            kept = kept && samples.push(sample);
        }
        ::freeifaddrs(list);
        sample.interface_name = {};
        sample.interface_index = 0;
        return kept && (!samples.empty() || samples.push(sample));
    }
    bool has_chain(const nft::Ruleset::Chain& beside, const char* name) const {
        for (const nft::Ruleset::Chain& chain : ruleset_.chains())
            if (chain.family == beside.family && chain.table == beside.table && chain.name == TextView(name)) return true;
        return false;
    }
    System owner_of(const nft::Ruleset::Chain& chain) const {
        if (chain.table == TextView("firewalld") || has_chain(chain, "INPUT_ZONES")) return System::firewalld;
        if (has_chain(chain, "ufw-before-input") || has_chain(chain, "ufw6-before-input")) return System::ufw;
        // Its commands here are those of this table and chain; what its other tables drop is opened where it is dropped.
        const bool filter_input = chain.table == TextView("filter") && chain.name == TextView("INPUT");
        if (chain.family != nft::nfproto_inet && filter_input && !find_tool(tool_of(chain)).empty()) return System::iptables;
        return System::nftables;
    }
    static const char* tool_of(const nft::Ruleset::Chain& chain) { return chain.family == nft::nfproto_ipv6 ? "ip6tables" : "iptables"; }

    bool see(const Rule& rule) {
        Array<Sample> samples;
        if (!each_sample(rule, samples)) return false;
        bool kept = true;
        for (Sample& sample : samples)
            for (bool v6 : {false, true}) {
                sample.v6 = v6;
                if (rule.port == 0) sample.first_port = sample.last_port = 1;
                kept = kept && ruleset_.decide(sample, [&](std::size_t which, const nft::Ruleset::Decision& decision) {
                    const nft::Ruleset::Chain& chain = ruleset_.chains()[which];
                    if (chain.hook > nft::hook_input || !(chain.type == TextView("filter"))) return;
                    Seen* seen = nullptr;
                    for (Seen& one : seen_)
                        if (one.chain == which) seen = &one;
                    if (seen == nullptr) {
                        Seen made;
                        made.chain = which;
                        made.owner = owner_of(chain);
                        kept = kept && seen_.push(made);
                        if (!kept) return;
                        seen = &seen_.back();
                    }
                    seen->some = seen->some || decision.some_dropped;
                    if (decision.fate != Fate::dropped) return;
                    if (!seen->dropped || decision.rule < seen->rule) seen->rule = decision.rule;
                    seen->dropped = true;
                });
            }
        const Tag tag = tag_of(rule);
        for (const nft::Ruleset::Entry& entry : ruleset_.rules())
            for (Seen& seen : seen_)
                if (entry.chain == seen.chain && entry.comment == TextView(tag)) seen.opened = entry.handle;
        return kept;
    }
    // Which it is in its chain, from 1.
    std::size_t number_of(std::size_t rule) const {
        std::size_t number = 1;
        for (std::size_t i = 0; i < rule; ++i) number += ruleset_.rules()[i].chain == ruleset_.rules()[rule].chain ? 1u : 0u;
        return number;
    }
    bool has_rules(std::size_t chain) const {
        for (const nft::Ruleset::Entry& entry : ruleset_.rules())
            if (entry.chain == chain) return true;
        return false;
    }
    static Stance stance_of(const Rule& rule, bool dropped, bool opened) {
        return rule.port == 0 ? Stance::active : dropped ? Stance::blocks : opened ? Stance::opened : Stance::allows;
    }

    bool add_chains(const Rule& rule, Report& report) {
        bool firewalld = false, ufw = false, kept = true;
        for (const Seen& seen : seen_) {
            const nft::Ruleset::Chain& chain = ruleset_.chains()[seen.chain];
            if (seen.owner == System::firewalld && std::exchange(firewalld, true)) continue;
            if (seen.owner == System::ufw && std::exchange(ufw, true)) continue;
            if (seen.owner == System::firewalld) {
                kept = kept && add_firewalld(rule, report);
                continue;
            }
            if (seen.owner == System::ufw) {
                kept = kept && add_ufw(rule, report);
                continue;
            }
            if (!seen.dropped && !seen.some && seen.opened == 0 &&
                (chain.hook != nft::hook_input || (!chain.drops && !has_rules(seen.chain))))
                continue;
            Gate gate;
            gate.system = seen.owner;
            gate.some_dropped = seen.some;
            gate.where = Text<191>(nft::family_name(chain.family)).append(" ").append(chain.table).append(" ").append(chain.name);
            gate.stance = stance_of(rule, seen.dropped, seen.opened != 0);
            if (seen.dropped || rule.port == 0) describe(seen, chain, gate);
            if (gate.stance == Stance::blocks) {
                if (seen.owner == System::iptables) {
                    const std::size_t before = seen.rule == nft::Ruleset::no_rule ? 0 : number_of(seen.rule);
                    gate.command = iptables::words(tool_of(chain), rule, before, false).typed();
                } else {
                    gate.command = nft::open_command(place_of(seen), rule);
                }
            }
            if (gate.stance == Stance::blocks || gate.stance == Stance::opened)
                gate.inverse =
                    seen.owner == System::iptables
                        ? iptables::words(tool_of(chain), rule, 0, true).typed()
                        : nft::close_command(chain, seen.opened, rule, rule.expiry > Duration() || set_of(chain, rule) != nullptr);
            kept = kept && report.gates.push(std::move(gate));
        }
        return kept;
    }
    const nft::Set* set_of(const nft::Ruleset::Chain& chain, const Rule& rule) const {
        for (const nft::Set& set : ruleset_.sets())
            if (set.family == chain.family && set.table == chain.table && set.name == TextView(nft::set_name(rule))) return &set;
        return nullptr;
    }
    void describe(const Seen& seen, const nft::Ruleset::Chain& chain, Gate& gate) const {
        if (seen.rule == nft::Ruleset::no_rule) {
            gate.why = TextView(chain.drops ? "its policy is to drop" : "its policy is to accept");
            return;
        }
        const nft::Ruleset::Entry& entry = ruleset_.rules()[seen.rule];
        gate.why = TextView("its rule ");
        gate.why.append_number(static_cast<std::int64_t>(number_of(seen.rule))).append(" drops it");
        if (!entry.comment.empty()) gate.why.append(": ").append(entry.comment);
    }
    nft::Place place_of(const Seen& seen) const {
        return {&ruleset_.chains()[seen.chain], seen.rule == nft::Ruleset::no_rule ? 0 : ruleset_.rules()[seen.rule].handle};
    }
    bool blocked_by(System owner) const {
        bool dropped = false;
        for (const Seen& seen : seen_) dropped = dropped || (seen.owner == owner && seen.dropped);
        return dropped;
    }
    bool some_by(System owner) const {
        bool some = false;
        for (const Seen& seen : seen_) some = some || (seen.owner == owner && seen.some);
        return some;
    }
    bool add_firewalld(const Rule& rule, Report& report) {
        Gate gate;
        gate.system = System::firewalld;
        Text<32> zone = rule.zone;
        bool opened = false;
        auto client = firewalld::Client::connect();
        gate.error = client.error();
        if (client) {
            if (zone.empty())
                if (auto there = client->zone_of(interface_of(rule))) zone = *there;
            gate.error = client->each_rule(
                [&](TextView in, TextView one) { opened = opened || (zone == in && one == TextView(firewalld::rich_rule(rule))); });
        }
        gate.where = Text<191>("zone ").append(zone);
        gate.stance = stance_of(rule, blocked_by(System::firewalld), opened);
        gate.some_dropped = some_by(System::firewalld);
        if (gate.stance == Stance::blocks) gate.why = TextView("the zone lets in what it lists, and this is not there");
        if (gate.stance == Stance::blocks) gate.command = firewalld::command(rule, zone, false);
        if (gate.stance == Stance::blocks || gate.stance == Stance::opened) gate.inverse = firewalld::command(rule, zone, true);
        return report.gates.push(std::move(gate));
    }
    // The one that it is to come by, or one by which it may.
    static Text<15> interface_of(const Rule& rule) {
        Array<Sample> samples;
        return each_sample(rule, samples) && !samples.empty() ? samples[0].interface_name : Text<15>();
    }
    bool add_ufw(const Rule& rule, Report& report) {
        Gate gate;
        gate.system = System::ufw;
        gate.where = TextView("ip and ip6 filter INPUT");
        gate.stance = stance_of(rule, blocked_by(System::ufw), ::access(ufw::profile_path(rule).c_str(), F_OK) == 0);
        gate.some_dropped = some_by(System::ufw);
        if (gate.stance == Stance::blocks) {
            gate.why = TextView(denied_by_user() ? "a rule of the administrator's denies it"
                                                 : "it lets in what its rules allow, and this is not there");
            gate.command = ufw::open_command(rule, denied_by_user());
        }
        if (gate.stance == Stance::blocks || gate.stance == Stance::opened) gate.inverse = ufw::close_command(rule);
        return report.gates.push(std::move(gate));
    }
    // Whether a rule of ufw's user is what drops it: those stand in what is jumped to before its own rules.
    bool denied_by_user() const {
        for (const Seen& seen : seen_) {
            if (seen.owner != System::ufw || !seen.dropped || seen.rule == nft::Ruleset::no_rule) continue;
            const TextView to = ruleset_.target_of(seen.rule);
            if (to == TextView("ufw-before-input") || to == TextView("ufw6-before-input")) return true;
        }
        return false;
    }
    // iptables as it was before nf_tables, whose tables are seen here by root alone.
    bool add_legacy(const Rule& rule, Report& report) {
        struct {
            const char* names;
            const char* save;
            const char* tool;
            const char* where;
            bool v6;
        } constexpr kinds[] = {
            {"/proc/net/ip_tables_names", "iptables-legacy-save", "iptables-legacy", "ip filter INPUT (legacy)", false},
            {"/proc/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-legacy", "ip6 filter INPUT (legacy)", true}};
        bool kept = true;
        for (const auto& kind : kinds) {
            std::byte names[256];
            const auto size = read_file(kind.names, names);
            if (!size || !iptables_names({reinterpret_cast<const char*>(names), *size})) continue;
            Gate gate;
            gate.system = System::iptables;
            gate.where = TextView(kind.where);
            Legacy legacy{kind.tool, {}};
            iptables::Words save;
            save.add(kind.save).add("-t").add("filter");
            const auto status = run_tool(save, legacy.text);
            const TextView text(legacy.text.data(), legacy.text.size());
            gate.error = status ? (*status == 0 ? Error() : Error(Errc::malformed)) : status.error();
            bool dropped = false, any = false;
            std::size_t at = 0;
            Array<Sample> samples;
            kept = kept && each_sample(rule, samples);
            for (Sample& sample : samples) {
                sample.v6 = kind.v6;
                iptables::Saved saved;
                if (!gate.error) gate.error = saved.read(text, sample);
                const Walk walked = saved.input();
                any = any || saved.any();
                gate.some_dropped = gate.some_dropped || walked.some_dropped;
                if (walked.fate != Fate::dropped) continue;
                if (!dropped || (walked.at != 0 && (at == 0 || walked.at < at))) at = walked.at;
                dropped = true;
            }
            if (!gate.error && !any) continue;
            const bool opened = iptables::Saved::count(text, tag_of(rule)) > 0;
            gate.stance = gate.error ? Stance::unknown : stance_of(rule, dropped, opened);
            if (gate.stance == Stance::blocks) {
                gate.why = TextView(at == 0 ? "its policy is to drop" : "one of its rules drops it");
                gate.command = iptables::words(kind.tool, rule, at, false).typed();
            }
            if (gate.stance == Stance::blocks || gate.stance == Stance::opened)
                gate.inverse = iptables::words(kind.tool, rule, 0, true).typed();
            kept = kept && report.gates.push(std::move(gate)) && legacies_.push(std::move(legacy));
        }
        return kept;
    }
    static bool iptables_names(TextView names) {
        for (std::size_t i = 0; i + 6 <= names.size(); ++i)
            if (TextView(names.data() + i, 6) == TextView("filter")) return true;
        return false;
    }
    // What can be told without privilege: who is there.
    void add_unread(const Rule& rule, Error error, Report& report) {
        const auto add = [&](System system, TextView where, const Command& command, const Command& inverse) {
            Gate gate;
            gate.system = system;
            gate.stance = rule.port == 0 ? Stance::active : Stance::unknown;
            if (rule.port != 0 || system == System::nftables) gate.error = error;
            gate.where = where;
            if (rule.port != 0) gate.command = command, gate.inverse = inverse;
            static_cast<void>(report.gates.push(std::move(gate)));
        };
        bool any = false;
        if (auto client = firewalld::Client::connect()) {
            Text<32> zone = rule.zone;
            if (zone.empty())
                if (auto there = client->zone_of(interface_of(rule))) zone = *there;
            add(System::firewalld, Text<63>("zone ").append(zone), firewalld::command(rule, zone, false),
                firewalld::command(rule, zone, true));
            any = true;
        }
        std::byte conf[4096];
        if (const auto size = read_file("/etc/ufw/ufw.conf", conf); size && ufw::enabled({reinterpret_cast<const char*>(conf), *size})) {
            add(System::ufw, "", ufw::open_command(rule, false), ufw::close_command(rule));
            any = true;
        }
        if (any) return;
        Command open(options_.helper), close;
        if (!open.empty()) {
            open.append(" ").append(ports_of(rule)).append("/").append(to_text(rule.protocol)).append(" --app ").append(rule.app);
            if (!rule.interface_name.empty()) open.append(" --interface ").append(rule.interface_name);
            if (rule.expiry > Duration()) open.append(" --for ").append_number(rule.seconds()).append("s");
        }
        add(System::nftables, "whatever is in the kernel", open, close);
        if (rule.port == 0 && !report.gates.empty()) report.gates.back().stance = Stance::unknown;
    }

    static Error run(const iptables::Words& words) {
        Array<char> output;
        const auto status = run_tool(words, output);
        return !status ? status.error() : *status == 0 ? Error() : Error(Errc::malformed);
    }
    // All but chains of nf_tables.
    Error open(const Gate& gate, const Rule& rule) {
        switch (gate.system) {
            case System::firewalld: {
                auto client = firewalld::Client::connect();
                return client ? client->add(rule, detail::behind(gate.where, 5)) : client.error();
            }
            case System::ufw: {
                const auto path = ufw::profile_path(rule);
                const auto text = ufw::profile_text(rule);
                const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
                if (fd < 0) return Error::system(errno);
                const bool wrote = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
                Error error = ::close(fd) == 0 && wrote ? Error() : Error::system(wrote ? errno : ENOSPC);
                if (!error) error = run(ufw::words(rule, denied_by_user(), false));
                if (error) ::unlink(path.c_str());
                return error;
            }
            case System::iptables: {
                for (const Seen& seen : seen_) {
                    const nft::Ruleset::Chain& chain = ruleset_.chains()[seen.chain];
                    if (seen.owner != System::iptables || !seen.dropped || !(gate.where == name_of(chain))) continue;
                    return run(iptables::words(tool_of(chain), rule, seen.rule == nft::Ruleset::no_rule ? 0 : number_of(seen.rule), false));
                }
                for (const Legacy& legacy : legacies_) {
                    const bool v6 = legacy.tool[2] == '6';
                    if (v6 != detail::starts(gate.where, "ip6 ")) continue;
                    const auto words = words_of(gate.command);
                    return run(words);
                }
                return Errc::invalid_state;
            }
            default:
                return {};
        }
    }
    // A command of iptables' has no word that needs a quote but its options.
    static iptables::Words words_of(const Command& command) {
        iptables::Words words;
        iptables::detail::Line line(command);
        for (Text<255> word; line.next(word);) words.add(word);
        return words;
    }
    static Text<191> name_of(const nft::Ruleset::Chain& chain) {
        return Text<191>(nft::family_name(chain.family)).append(" ").append(chain.table).append(" ").append(chain.name);
    }
    Error renew(const Gate& gate, const Rule& rule) {
        if (rule.expiry == Duration()) return {};
        if (gate.system == System::firewalld) {
            auto client = firewalld::Client::connect();
            if (!client) return client.error();
            const TextView zone = detail::behind(gate.where, 5);
            if (const Error error = client->remove(rule, zone)) return error;
            return client->add(rule, zone);
        }
        return {};
    }
    // All chains of nf_tables at once: the kernel takes that whole or not at all.
    Error open_chains(const Rule& rule) {
        bool any = false;
        for (const Seen& seen : seen_)
            any = any || (seen.owner == System::nftables && (seen.dropped || (seen.opened != 0 && rule.expiry > Duration())));
        if (!any) return {};
        auto kernel = nft::Kernel::open();
        if (!kernel) return kernel.error();
        return kernel->change([&](nft::Writer& to, std::uint32_t& sequence) {
            for (const Seen& seen : seen_) {
                if (seen.owner != System::nftables) continue;
                const nft::Ruleset::Chain& chain = ruleset_.chains()[seen.chain];
                if (seen.dropped) {
                    if (seen.opened != 0) {  // what has expired, or comes too late in its chain
                        nft::remove_rule(to, chain, seen.opened, sequence);
                        if (const nft::Set* const set = set_of(chain, rule)) nft::remove_set(to, *set, sequence);
                    }
                    nft::open(to, place_of(seen), rule, sequence);
                } else if (seen.opened != 0 && rule.expiry > Duration() && set_of(chain, rule) != nullptr) {
                    nft::renew(to, chain, rule, true, sequence);
                }
            }
        });
    }
    Error close_chains(const Rule& rule) {
        const Tag tag = tag_of(rule);
        Error first;
        bool any = false, by_iptables[2] = {};
        for (const nft::Ruleset::Entry& entry : ruleset_.rules()) {
            if (!(entry.comment == TextView(tag))) continue;
            const nft::Ruleset::Chain& chain = ruleset_.chains()[entry.chain];
            if (owner_of(chain) == System::iptables || owner_of(chain) == System::ufw)
                by_iptables[chain.family == nft::nfproto_ipv6 ? 1 : 0] = true;
            else
                any = true;
        }
        for (bool v6 : {false, true}) {
            if (!by_iptables[v6 ? 1 : 0]) continue;
            iptables::Words save;
            save.add(v6 ? "ip6tables-save" : "iptables-save").add("-t").add("filter");
            Array<char> text;
            const auto status = run_tool(save, text);
            const Error error = status ? remove(v6 ? "ip6tables" : "iptables", {text.data(), text.size()}, rule) : status.error();
            if (error && !first) first = error;
        }
        for (const nft::Set& set : ruleset_.sets()) any = any || set.name == TextView(nft::set_name(rule));
        if (!any) return first;
        auto kernel = nft::Kernel::open();
        if (!kernel) return kernel.error();
        const Error error = kernel->change([&](nft::Writer& to, std::uint32_t& sequence) {
            for (const nft::Ruleset::Entry& entry : ruleset_.rules()) {
                const nft::Ruleset::Chain& chain = ruleset_.chains()[entry.chain];
                if (entry.comment == TextView(tag) && owner_of(chain) != System::iptables && owner_of(chain) != System::ufw)
                    nft::remove_rule(to, chain, entry.handle, sequence);
            }
            for (const nft::Set& set : ruleset_.sets())
                if (set.name == TextView(nft::set_name(rule))) nft::remove_set(to, set, sequence);
        });
        return first ? first : error;
    }

    Options options_;
    bool readable_ = false;
    nft::Ruleset ruleset_;
    Array<Seen> seen_;
    Array<Legacy> legacies_;
};

}  // namespace rejoin::inline v0_1::firewall
#endif
