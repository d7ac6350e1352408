// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/journal_file.hpp>
#include <rejoin/firewall/linux_view.hpp>

#if defined(__linux__)
#include <dirent.h>

namespace rejoin::inline v0_1::firewall {

/// The firewalls of a Linux host, all of them: what would drop is read from the kernel, and changed through whoever is in charge of it, or
/// it would be lost when that starts again: firewalld, ufw, iptables, or nobody. Of the network namespace of the thread that asks. Every
/// call reads everything anew, and may block for as long as the system's tools take.
class LinuxFirewall : LinuxView {
public:
    struct Options {
        /// What an administrator can run where nothing can be read, with `open` or `close` and the rule behind it: `sudo letin`. Empty:
        /// nothing is suggested.
        Text<255> helper;
        Text<255> journal = TextView("/var/lib/rejoin/openings");
    };

    LinuxFirewall() = default;
    explicit LinuxFirewall(const Options& options) : LinuxView(options.helper), options_(options) {}

    /// What is active. Changes nothing, and asks for nothing.
    Report detect() { return look(Rule()); }
    /// What stands between the rule and the others, and what could be done about it. Changes nothing.
    Report explain(const Rule& rule) { return rule.valid() ? look(rule) : refused(rule); }
    /// Opens the least, wherever it is blocked and may be opened; says then how it is. Where it is let in already nothing changes, but that
    /// what expires has its whole time again.
    Report apply(const Rule& rule) {
        if (!rule.valid()) return refused(rule);
        Report before = look(rule);
        for (Gate& gate : before.gates) {
            if (gate.stance == Stance::blocks) gate.error = open(gate, rule);
            if (gate.stance == Stance::opened) gate.error = renew(gate, rule);
        }
        if (const Error error = open_chains(rule))
            for (Gate& gate : before.gates)
                if (gate.system == System::nftables && gate.stance == Stance::blocks) gate.error = error;
        Report after = look(rule);
        bool any = false;
        for (Gate& gate : after.gates) {
            any = any || gate.stance == Stance::opened;
            const Gate* const was = find_gate(before, gate);
            if (was == nullptr) continue;
            gate.changed = gate.stance == Stance::opened && was->stance == Stance::blocks;
            if (was->error && gate.stance != Stance::unknown) gate.error = was->error;
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
    /// Takes away whatever carries the rule's tag, and nothing else. Where nothing can be read nothing is tried.
    Report revert(const Rule& rule) {
        if (!rule.valid()) return refused(rule);
        Report before = look(rule);
        if (!readable_) return before;
        Error first;
        const auto keep = [&](Error error) {
            if (error && !first) first = error;
        };
        keep(close_chains(rule));
        for (const Legacy& legacy : legacies_) keep(remove(legacy.tool, {legacy.text.data(), legacy.text.size()}, rule));
        keep(close_ufw(rule));
        if (auto client = firewalld::Client::connect()) {
            Array<Text<32>> zones;
            keep(client->each_rule([&](TextView zone, TextView one) {
                if (one == TextView(firewalld::rich_rule(rule))) zones.push(Text<32>(zone));
            }));
            for (const Text<32>& zone : zones) keep(client->remove(rule, zone));
        }
        keep(Journal(options_.journal).note({tag_of(rule), 0, 0}, true));
        Report after = look(rule);
        mark_reverted(before, after);
        if (first) after.error = first;
        return after;
    }
    /// Calls `f(const Rule&, const JournalEntry*)` with each opening that is there, found by its tag; the entry is null where the journal
    /// says nothing of it.
    template <class F>
    Error each_opening(F f) {
        const Report report = look(Rule());
        Array<Tag> tags;
        bool kept = true;
        const auto found = [&](TextView text) { kept = kept && collect_tags(text, tags); };
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
        if (DIR* const folder = ::opendir(ufw::profile_folder)) {  // of which some may be there without what they were made for
            while (const dirent* const one = ::readdir(folder))
                if (detail::starts(one->d_name, "rejoin-")) profile_found(one->d_name, found);
            ::closedir(folder);
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
    static Report refused(const Rule& rule) { return failed(rule, Errc::invalid_argument); }
    static Report failed(const Rule& rule, Error error) {
        Report report;
        report.rule = rule;
        report.error = error;
        return report;
    }
    static std::int64_t seconds_now() { return realtime_now() / 1000; }
    // `rejoin-app-tcp-7000` as the tag that it was made from.
    template <class F>
    static void profile_found(TextView text, F found) {
        std::size_t end = 0;
        while (end < text.size() && detail::made_of({text.data() + end, 1}, "._-")) ++end;
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
    // What ufw's user has allowed and denied, for IPv4 and IPv6.
    static bool read_ufw(Array<char>& to) {
        constexpr std::size_t size_max = 1 << 20;
        for (const char* path : {"/etc/ufw/user.rules", "/etc/ufw/user6.rules"}) {
            const std::size_t before = to.size();
            char* const room = to.extend(size_max);
            if (room == nullptr) return false;
            const auto size = read_file(path, {reinterpret_cast<std::byte*>(room), size_max});
            to.truncate(before + (size ? *size : 0));
        }
        return !to.empty();
    }
    static Error write_profile(const Rule& rule) {
        const auto text = ufw::profile_text(rule);
        const int fd = ::open(ufw::profile_path(rule).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0) return Error::system(errno);
        const bool wrote = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
        return ::close(fd) == 0 && wrote ? Error() : Error::system(wrote ? errno : ENOSPC);
    }
    static Error close_ufw(const Rule& rule) {
        Array<char> rules;
        const bool has_profile = ::access(ufw::profile_path(rule).c_str(), F_OK) == 0;
        if (!read_ufw(rules) && !has_profile) return {};
        const TextView text(rules.data(), rules.size());
        if (!has_profile && !ufw::lists(text, rule)) return {};
        Rule there = rule;
        there.interface_name = ufw::interface_of(text, ufw::profile(rule));
        if (const Error error = has_profile ? Error() : write_profile(rule)) return error;
        Error first = run(ufw::words(there, false, true));
        // ufw takes nothing away of which it has but one half, as when it was killed: it is given the other first.
        rules.clear();
        if (read_ufw(rules) && ufw::lists({rules.data(), rules.size()}, rule)) {
            first = run(ufw::words(there, false, false));
            if (const Error error = run(ufw::words(there, false, true)); error && !first) first = error;
        }
        if (::unlink(ufw::profile_path(rule).c_str()) != 0 && !first) first = Error::system(errno);
        return first;
    }
    // Takes away what `iptables-save` printed with the rule's tag, as it was printed, so that nothing else can be meant.
    static Error remove(const char* tool, TextView saved, const Rule& rule) {
        Error first;
        iptables::each_tagged(saved, tag_of(rule), tool, [&](const iptables::Words& words) {
            if (const Error error = run(words); error && !first) first = error;
        });
        return first;
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
                Error error = write_profile(rule);
                if (!error) error = run(ufw::words(rule, denied_by_user(), false));
                if (error) ::unlink(ufw::profile_path(rule).c_str());
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
        bool any = false;
        const nft::Ruleset::Chain* by_iptables[2] = {};
        for (const nft::Ruleset::Entry& entry : ruleset_.rules()) {
            if (!(entry.comment == TextView(tag))) continue;
            const nft::Ruleset::Chain& chain = ruleset_.chains()[entry.chain];
            if (owner_of(chain) == System::iptables || owner_of(chain) == System::ufw)
                by_iptables[chain.family == nft::nfproto_ipv6 ? 1 : 0] = &chain;
            else
                any = true;
        }
        for (const nft::Ruleset::Chain* chain : by_iptables) {
            if (chain == nullptr) continue;
            const char* const tool = tool_of(*chain);
            iptables::Words save;
            save.add(Text<31>(tool).append("-save")).add("-t").add("filter");
            Array<char> text;
            const auto status = run_tool(save, text);
            const Error error = status ? remove(tool, {text.data(), text.size()}, rule) : status.error();
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
};

}  // namespace rejoin::inline v0_1::firewall
#endif
