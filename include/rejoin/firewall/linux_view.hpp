// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/nft/kernel.hpp>
#include <rejoin/firewall/report.hpp>
#include <rejoin/firewall/tools/firewalld_client.hpp>
#include <rejoin/firewall/tools/run.hpp>
#include <rejoin/firewall/tools/ufw.hpp>
#include <rejoin/os/posix/file.hpp>

#if defined(__linux__)
#include <ifaddrs.h>
#include <net/if.h>

namespace rejoin::inline v0_1::firewall {

/// What stands between a port of this host and the others: read from the kernel, whoever has put it there. Changes nothing.
class LinuxView {
protected:
    LinuxView() = default;
    // `helper`: as `LinuxFirewall::Options` has it.
    explicit LinuxView(const Text<255>& helper) : helper_(helper) {}

    // A chain through which it comes.
    struct Seen {
        std::size_t chain = 0;
        System owner = System::nftables;
        bool dropped = false, some = false;
        std::uint32_t dropped_on = 0;              // of the samples, which: a bit for each
        std::size_t rule = nft::Ruleset::no_rule;  // the first that drops
        std::uint64_t opened = 0;                  // that of the tag
    };
    // What `iptables-legacy-save` prints.
    struct Legacy {
        const char* tool;
        Array<char> text;
    };

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
        // A kernel without nf_tables says one or the other, and what there is, is of the older kind, which root alone sees.
        const bool none = error == Error::system(EPROTONOSUPPORT) || (error == Error::system(EINVAL) && ruleset_.chains().empty());
        if (none && ::geteuid() == 0) error = {};
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
    // iptables may be of the older kind, whatever its name: that of nf_tables has one of its own.
    static const char* tool_of(const nft::Ruleset::Chain& chain) {
        const bool v6 = chain.family == nft::nfproto_ipv6;
        const char* const exact = v6 ? "ip6tables-nft" : "iptables-nft";
        return !find_tool(exact).empty() ? exact : v6 ? "ip6tables" : "iptables";
    }

    bool see(const Rule& rule) {
        Array<Sample> samples;
        if (!each_sample(rule, samples)) return false;
        bool kept = true;
        for (std::size_t i = 0; i < samples.size(); ++i)
            for (bool v6 : {false, true}) {
                Sample& sample = samples[i];
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
                    seen->dropped_on |= 1u << i;
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
    // The zone that was asked for, or those of the interfaces by which it may come: `f(zone, which)`, a bit for each of these.
    template <class F>
    static Error each_zone(firewalld::Client& client, const Rule& rule, F f) {
        if (!rule.zone.empty()) return f(rule.zone, ~0u), Error();
        Array<Sample> samples;
        Array<Text<32>> zones;
        std::uint32_t which[interfaces_max] = {};
        if (!each_sample(rule, samples)) return Errc::out_of_memory;
        for (std::size_t i = 0; i < samples.size(); ++i) {
            const auto zone = client.zone_of(samples[i].interface_name);
            if (!zone) return zone.error();
            std::size_t at = 0;
            while (at < zones.size() && !(zones[at] == *zone)) ++at;
            if (at == zones.size() && !zones.push(*zone)) return Errc::out_of_memory;
            which[at] |= 1u << i;
        }
        for (std::size_t i = 0; i < zones.size(); ++i) f(zones[i], which[i]);
        return {};
    }
    bool add_firewalld(const Rule& rule, Report& report) {
        auto client = firewalld::Client::connect();
        Array<Text<32>> open_in;
        bool kept = true;
        Error error = client.error();
        if (client)
            error = client->each_rule([&](TextView zone, TextView one) {
                if (one == TextView(firewalld::rich_rule(rule))) kept = kept && open_in.push(Text<32>(zone));
            });
        const auto add = [&](const Text<32>& zone, std::uint32_t which) {
            bool opened = false, dropped = false;
            for (const Text<32>& one : open_in) opened = opened || one == zone;
            for (const Seen& seen : seen_) dropped = dropped || (seen.owner == System::firewalld && (seen.dropped_on & which) != 0);
            Gate gate;
            gate.system = System::firewalld;
            gate.error = error;
            gate.where = Text<191>("zone ").append(zone);
            gate.stance = stance_of(rule, dropped, opened);
            gate.some_dropped = some_by(System::firewalld);
            if (gate.stance == Stance::blocks) {
                gate.why = TextView("the zone lets in what it lists, and this is not there");
                if (!rule.interface_name.empty()) gate.why.append("; it is let in by all interfaces of the zone, then");
                gate.command = firewalld::command(rule, zone, false);
            }
            if (gate.stance == Stance::blocks || gate.stance == Stance::opened) gate.inverse = firewalld::command(rule, zone, true);
            kept = kept && report.gates.push(std::move(gate));
        };
        if (!error) error = each_zone(*client, rule, add);
        if (error) add(rule.zone, ~0u);
        return kept;
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
            const bool opened = iptables::has_tagged(text, tag_of(rule));
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
            const auto one = [&](const Text<32>& zone, std::uint32_t) {
                add(System::firewalld, Text<63>("zone ").append(zone), firewalld::command(rule, zone, false),
                    firewalld::command(rule, zone, true));
            };
            if (each_zone(*client, rule, one)) one(rule.zone, 0);
            any = true;
        }
        std::byte conf[4096];
        if (const auto size = read_file("/etc/ufw/ufw.conf", conf); size && ufw::enabled({reinterpret_cast<const char*>(conf), *size})) {
            add(System::ufw, "", ufw::open_command(rule, false), ufw::close_command(rule));
            any = true;
        }
        if (any) return;
        Command open(helper_), close(helper_);
        if (!helper_.empty()) {
            open.append(" open ").append(words_for_helper(rule));
            close.append(" close ").append(words_for_helper(rule));
            if (rule.expiry > Duration()) open.append(" --for ").append_number(rule.seconds()).append("s");
        }
        add(System::nftables, "whatever is in the kernel", open, close);
        if (rule.port == 0 && !report.gates.empty()) report.gates.back().stance = Stance::unknown;
    }
    static Text<127> words_for_helper(const Rule& rule) {
        Text<127> words(ports_of(rule));
        words.append("/").append(to_text(rule.protocol)).append(" --app ").append(rule.app);
        if (!rule.interface_name.empty()) words.append(" --interface ").append(rule.interface_name);
        return words;
    }
    static Text<191> name_of(const nft::Ruleset::Chain& chain) {
        return Text<191>(nft::family_name(chain.family)).append(" ").append(chain.table).append(" ").append(chain.name);
    }

    Text<255> helper_;
    bool readable_ = false;  // without privilege it is not
    nft::Ruleset ruleset_;
    Array<Seen> seen_;
    Array<Legacy> legacies_;
};

}  // namespace rejoin::inline v0_1::firewall
#endif
