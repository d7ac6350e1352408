// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>

// ufw(8): a profile of the rule's own, and what lets it in. Pure.
namespace rejoin::inline v0_1::firewall::ufw {

/// The profile's name, which is that of its file in /etc/ufw/applications.d too.
using Profile = Text<56>;
inline Profile profile(const Rule& rule) {
    Profile name("rejoin-");
    return name.append(rule.app).append("-").append(to_text(rule.protocol)).append("-").append(ports_of(rule));
}
inline constexpr const char* profile_folder = "/etc/ufw/applications.d/";
inline Text<127> profile_path(const Rule& rule) { return Text<127>(profile_folder).append(profile(rule)); }
inline Text<383> profile_text(const Rule& rule) {
    return Text<383>("[")
        .append(profile(rule))
        .append("]\ntitle=")
        .append(rule.app)
        .append("\ndescription=")
        .append(tag_of(rule))
        .append("\nports=")
        .append(ports_of(rule, ":"))
        .append("/")
        .append(to_text(rule.protocol))
        .append("\n");
}
/// `first`: before the other rules of the user's, where one of them is in the way.
inline iptables::Words words(const Rule& rule, bool first, bool remove) {
    iptables::Words words;
    words.add("ufw");
    if (remove) words.add("--force").add("delete");
    if (first && !remove) words.add("prepend");
    words.add("allow");
    if (!rule.interface_name.empty()) words.add("in").add("on").add(rule.interface_name).add("to").add("any").add("app");
    words.add(profile(rule));
    if (!remove) words.add("comment").add(tag_of(rule));
    return words;
}
/// To be typed: the profile has to be there first, and goes last.
inline Command open_command(const Rule& rule, bool first) {
    Command command("printf '");
    const auto text = profile_text(rule);
    for (char c : TextView(text)) c == '\n' ? command.append("\\n") : command.append({&c, 1});
    command.append("' >").append(profile_path(rule)).append(" && ").append(words(rule, first, false).typed());
    return command;
}
inline Command close_command(const Rule& rule) {
    Command command = words(rule, false, true).typed();
    return command.append(" && rm ").append(profile_path(rule));
}
/// By which interface user.rules lets a profile in; empty: by any.
inline Text<15> interface_of(TextView rules, TextView profile) {
    while (rules.size() > 0) {
        const TextView line = firewall::detail::take_line(rules);
        if (!firewall::detail::starts(line, "### tuple ### ")) continue;
        iptables::detail::Line words(line);
        bool ours = false;
        for (Text<255> word; words.next(word);) {
            ours = ours || word == profile;
            if (ours && firewall::detail::starts(word, "in_")) return Text<15>(firewall::detail::behind(word, 3));
        }
    }
    return {};
}
/// Whether user.rules, or user6.rules, has the rule's profile.
inline bool lists(TextView rules, const Rule& rule) {
    const Text<64> wanted = Text<64>("'dapp_").append(profile(rule)).append("'");
    for (; rules.size() >= wanted.size(); rules = firewall::detail::behind(rules, 1))
        if (firewall::detail::starts(rules, wanted)) return true;
    return false;
}
/// Whether ufw.conf says that it is on.
inline bool enabled(TextView conf) {
    bool on = false;
    while (conf.size() > 0) {
        TextView line = firewall::detail::take_line(conf);
        if (!firewall::detail::starts(line, "ENABLED=")) continue;
        line = firewall::detail::behind(line, 8);
        if (line.size() > 0 && line[0] == '"') line = firewall::detail::behind(line, 1);
        on = firewall::detail::starts(line, "yes") || firewall::detail::starts(line, "YES");
    }
    return on;
}

}  // namespace rejoin::inline v0_1::firewall::ufw
