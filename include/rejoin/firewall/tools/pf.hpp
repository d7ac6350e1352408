// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>

// pf(4) of macOS, FreeBSD and OpenBSD, as `pfctl -s rules` prints it, and ipfw(8) of FreeBSD, as `ipfw list` does. Pure.
namespace rejoin::inline v0_1::firewall {

namespace pf {

/// What becomes of a sample: the last rule that matches decides, or the first that is `quick`; without any, it passes.
struct Judgement {
    Fate fate = Fate::accepted;
    bool some_dropped = false;
    bool anchored = false;  ///< the ruleset calls rejoin's anchor, and nothing before it decides
    bool own = false;       ///< what decides is in that anchor
    Text<191> rule;         ///< that decides
};

namespace detail {

using iptables::detail::Line;

inline Holds in_ports(TextView spec, const Sample& sample) {
    static constexpr struct {
        const char* name;
        std::uint16_t port;
    } names[] = {{"ssh", 22}, {"domain", 53}, {"http", 80}, {"https", 443}, {"ntp", 123}, {"smtp", 25}};
    for (const auto& known : names)
        if (spec == TextView(known.name))
            return known.port >= sample.first_port && known.port <= sample.last_port
                       ? (sample.first_port == sample.last_port ? Holds::always : Holds::partly)
                       : Holds::never;
    return iptables::detail::in_ports(spec, sample);
}
// The ports behind `port`: `= 22`, `22`, `22:24`, `1023 >< 1030`, `!= 22`, `{ 22, 80 }` is several rules by then.
inline Holds ports(Line& words, Text<255>& word, const Sample& sample) {
    if (!words.next(word)) return Holds::perhaps;
    bool inverted = false;
    if (word == TextView("=") || word == TextView("!=")) {
        inverted = word == TextView("!=");
        if (!words.next(word)) return Holds::perhaps;
    } else if (word.size() > 0 && (word.data()[0] == '<' || word.data()[0] == '>')) {
        words.next(word);
        return Holds::perhaps;
    }
    const Holds holds = in_ports(word, sample);
    Line ahead = words;
    if (Text<255> range; ahead.next(range) && (range.data()[0] == '<' || range.data()[0] == '>')) {  // `1023 >< 1030`
        words = ahead;
        words.next(word);
        return Holds::perhaps;
    }
    return inverted ? opposite(holds) : holds;
}

}  // namespace detail

inline constexpr const char* anchors = "rejoin/*";
/// The anchor of one rule, which holds nothing else.
inline Text<63> anchor_of(const Rule& rule) {
    return Text<63>("rejoin/").append(rule.app).append(".").append(to_text(rule.protocol)).append(".").append(ports_of(rule, ":"));
}
/// What is in it.
inline Text<255> rule_text(const Rule& rule) {
    Text<255> text("pass in quick");
    if (!rule.interface_name.empty()) text.append(" on ").append(rule.interface_name);
    return text.append(" proto ")
        .append(to_text(rule.protocol))
        .append(" from any to any port ")
        .append(ports_of(rule, ":"))
        .append(" label \"")
        .append(tag_of(rule))
        .append("\"");
}
inline Command open_command(const Rule& rule) {
    return Command("echo '").append(rule_text(rule)).append("' | pfctl -q -a ").append(anchor_of(rule)).append(" -f -");
}
inline Command close_command(const Rule& rule) { return Command("pfctl -q -a ").append(anchor_of(rule)).append(" -F rules"); }

/// `rules`: those of the main ruleset; `own`: whether the rule's anchor holds it.
inline Judgement judge(TextView rules, const Sample& sample, bool own) {
    Judgement result;
    bool decided = false;
    while (rules.size() > 0 && !decided) {
        const TextView line = firewall::detail::take_line(rules);
        detail::Line words(line);
        Text<255> word;
        if (!words.next(word)) continue;
        if (word == TextView("anchor")) {
            words.next(word);
            if (word == TextView(anchors) || word == TextView("*")) {
                result.anchored = true;
                if (own) {
                    result.fate = Fate::accepted;
                    result.own = decided = true;
                }
            }
            continue;
        }
        const bool blocks = word == TextView("block");
        if (!blocks && !(word == TextView("pass"))) continue;
        Holds holds = Holds::always;
        const auto require = [&](Holds other) { holds = both(holds, other); };
        bool quick = false, to = false;
        while (words.next(word)) {
            const auto is = [&](const char* what) { return word == TextView(what); };
            if (is("out"))
                require(Holds::never);
            else if (is("quick"))
                quick = true;
            else if (is("inet"))
                require(sample.v6 ? Holds::never : Holds::always);
            else if (is("inet6"))
                require(sample.v6 ? Holds::always : Holds::never);
            else if (is("on")) {
                words.next(word);
                bool other = false;
                if (is("!")) other = words.next(word);
                const bool group = word == TextView("egress") || sample.interface_name.empty();
                const Holds by = is("lo0") || is("lo")                     ? Holds::never
                                 : group                                   ? Holds::perhaps
                                 : sample.interface_name == TextView(word) ? Holds::always
                                                                           : Holds::never;
                require(other ? opposite(by) : by);
            } else if (is("proto")) {
                words.next(word);
                require(word == TextView(to_text(sample.protocol)) ? Holds::always : Holds::never);
            } else if (is("from") || is("to")) {
                to = is("to");
                words.next(word);
                if (is("!")) words.next(word), require(Holds::perhaps);
                // This host's own addresses are what it goes to.
                else if (!is("any") && !(to && (is("self") || is("(self)"))))
                    require(Holds::perhaps);
            } else if (is("port")) {
                const Holds there = detail::ports(words, word, sample);
                require(to ? there : both(there, Holds::perhaps));
            } else if (is("os") || is("user") || is("group") || is("tagged") || is("probability") || is("received-on")) {
                require(Holds::perhaps);
            } else if (is("flags") || is("keep") || is("label") || is("state") || is("modulate") || is("synproxy")) {
                break;  // what follows is of no matter to a first packet
            }
        }
        if (holds == Holds::never) continue;
        if (holds == Holds::perhaps || (holds == Holds::partly && !blocks)) {
            result.some_dropped = result.some_dropped || blocks;
            continue;
        }
        result.fate = blocks ? Fate::dropped : Fate::accepted;
        result.rule = line;
        decided = quick;
    }
    return result;
}

}  // namespace pf

namespace ipfw {

/// What becomes of a sample: the first rule that matches decides. `at`: its number; `none` where nothing does.
struct Judgement {
    Fate fate = Fate::none;
    std::uint32_t at = 0;
    bool some_dropped = false;
};
// Its ports have a `-` where others have a `:`.
inline Holds in_ports(TextView list, const Sample& sample) {
    Text<255> colons;
    for (char c : list) colons.append({c == '-' ? ":" : &c, 1});
    return iptables::detail::in_ports(colons, sample);
}
inline Judgement judge(TextView list, const Sample& sample) {
    Judgement result;
    while (list.size() > 0) {
        iptables::detail::Line words(firewall::detail::take_line(list));
        Text<255> word;
        if (!words.next(word)) continue;
        std::uint32_t number = 0;
        for (char c : TextView(word))
            number = c >= '0' && c <= '9' && number < 100'000 ? number * 10 + static_cast<std::uint32_t>(c - '0') : number;
        if (!words.next(word)) continue;
        const auto is = [&](const char* what) { return word == TextView(what); };
        const bool allows = is("allow") || is("accept") || is("pass") || is("permit");
        const bool denies = is("deny") || is("drop") || is("reject") || is("unreach") || is("reset");
        if (!allows && !denies) continue;
        Holds holds = Holds::always;
        const auto require = [&](Holds other) { holds = both(holds, other); };
        if (is("unreach")) words.next(word);
        if (!words.next(word)) continue;
        if (!is("ip") && !is("all") && !is("any")) {
            const bool v4 = is("ip4"), v6 = is("ip6");
            require(v4 || v6                       ? (v6 == sample.v6 ? Holds::always : Holds::never)
                    : is(to_text(sample.protocol)) ? Holds::always
                                                   : Holds::never);
        }
        bool to = false;
        while (words.next(word)) {
            if (is("from") || is("to")) {
                to = is("to");
                words.next(word);
                if (!is("any") && !(to && (is("me") || is("me6")))) require(Holds::perhaps);
            } else if (is("out")) {
                require(Holds::never);
            } else if (is("via") || is("recv")) {
                words.next(word);
                require(firewall::detail::starts(word, "lo")      ? Holds::never
                        : sample.interface_name.empty()           ? Holds::perhaps
                        : sample.interface_name == TextView(word) ? Holds::always
                                                                  : Holds::never);
            } else if (is("established")) {
                require(Holds::never);
            } else if (is("dst-port")) {
                words.next(word);
                require(in_ports(word, sample));
            } else if (is("src-port")) {
                words.next(word);
                require(Holds::perhaps);
            } else if (word.size() > 0 && word.data()[0] >= '0' && word.data()[0] <= '9') {
                require(to ? in_ports(word, sample) : Holds::perhaps);
            } else if (!is("in") && !is("setup") && !is("keep-state") && !is("//")) {
                require(Holds::perhaps);
            } else if (is("//")) {
                break;
            }
        }
        if (holds == Holds::never) continue;
        if (holds == Holds::perhaps || (holds == Holds::partly && allows)) {
            result.some_dropped = result.some_dropped || denies;
            continue;
        }
        result.fate = allows ? Fate::accepted : Fate::dropped;
        result.at = number;
        return result;
    }
    return result;
}
/// Right before the rule of that number.
inline iptables::Words words(const Rule& rule, std::uint32_t before) {
    iptables::Words words;
    words.add("ipfw").add("-q").add("add");
    words.add(Text<15>().append_number(before > 1 ? before - 1 : 1));
    words.add("allow").add(to_text(rule.protocol)).add("from").add("any").add("to").add("me").add(ports_of(rule)).add("in");
    if (!rule.interface_name.empty()) words.add("recv").add(rule.interface_name);
    return words.add("//").add(tag_of(rule));
}
/// The number of the rule that carries the tag; 0: none does.
inline std::uint32_t find(TextView list, const Tag& tag) {
    while (list.size() > 0) {
        const TextView line = firewall::detail::take_line(list);
        if (line.size() < tag.size() + 3 || !(TextView(line.data() + line.size() - tag.size(), tag.size()) == TextView(tag))) continue;
        std::uint32_t number = 0;
        for (char c : line) {
            if (c < '0' || c > '9' || number > 100'000) break;
            number = number * 10 + static_cast<std::uint32_t>(c - '0');
        }
        return number;
    }
    return 0;
}

}  // namespace ipfw

}  // namespace rejoin::inline v0_1::firewall
