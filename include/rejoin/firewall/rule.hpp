// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/core/text.hpp>
#include <rejoin/core/time.hpp>

namespace rejoin::inline v0_1::firewall {

enum class Protocol : std::uint8_t { tcp = 6, udp = 17 };  // as IANA numbers them
constexpr const char* to_text(Protocol protocol) { return protocol == Protocol::tcp ? "tcp" : "udp"; }

/// One opening in this host's firewall, for what comes from others.
struct Rule {
    /// The program's name, in the tag by which everything that is added is found again: 1 to 32 letters, digits, `.`, `_` and `-`.
    Text<32> app;
    Protocol protocol = Protocol::tcp;
    std::uint16_t port = 0;       ///< the first
    std::uint16_t last_port = 0;  ///< the last, where there are several; else 0, or `port`
    /// By which it comes; empty: by any. At most 15 letters, digits, `.`, `_`, `-`, `@` and `:`.
    Text<15> interface_name;
    /// Of the firewalls that know zones, which; empty: that of the interface, or their default.
    Text<32> zone;
    /// Where the system opens for programs: this one's file, with its whole path. Empty: the one that asks.
    Text<1023> program;
    /// Windows, on networks of which kind.
    bool on_private = true, on_domain = true, on_public = false;
    /// How long it stays; 0: until it is taken back. Whole seconds, rounded up.
    Duration expiry = {};

    std::uint16_t last() const { return last_port == 0 ? port : last_port; }
    std::uint32_t seconds() const { return static_cast<std::uint32_t>((expiry.milliseconds() + 999) / 1000); }
    /// Whether it may be; every call refuses another with `invalid_argument`.
    bool valid() const;
    /// `7000/tcp`, `7000-7010/udp`.
    static Result<Rule> parse(TextView text);

    friend bool operator==(const Rule& a, const Rule& b) {
        return a.app == b.app && a.protocol == b.protocol && a.port == b.port && a.last() == b.last() &&
               a.interface_name == b.interface_name && a.zone == b.zone && a.program == b.program && a.on_private == b.on_private &&
               a.on_domain == b.on_domain && a.on_public == b.on_public && a.expiry == b.expiry;
    }
};

namespace detail {

constexpr bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }
inline bool made_of(TextView text, TextView also) {
    for (char c : text) {
        bool good = is_letter_or_digit(c);
        for (char other : also) good = good || c == other;
        if (!good) return false;
    }
    return true;
}

}  // namespace detail

inline bool Rule::valid() const {
    if (app.empty() || !detail::made_of(app, "._-") || port == 0 || last() < port) return false;
    if (!detail::made_of(interface_name, "._-@:") || !detail::made_of(zone, "._-")) return false;
    for (char c : TextView(program))
        if (static_cast<unsigned char>(c) < ' ') return false;
    return (protocol == Protocol::tcp || protocol == Protocol::udp) && (on_private || on_domain || on_public) && expiry >= Duration() &&
           expiry <= Duration::seconds(UINT32_MAX / 1000);
}

/// `7000`, or `7000-7010` with that between them.
inline Text<11> ports_of(const Rule& rule, const char* between = "-") {
    Text<11> text;
    text.append_number(rule.port);
    if (rule.last() != rule.port) text.append(between).append_number(rule.last());
    return text;
}
/// What everything that is added for it carries: `rejoin:<app>:<protocol>/<port>`.
using Tag = Text<56>;
inline Tag tag_of(const Rule& rule) {
    return Tag("rejoin:").append(rule.app).append(":").append(to_text(rule.protocol)).append("/").append(ports_of(rule));
}
/// The rule that a tag was made for, as far as it says; `invalid_argument` for what is none.
inline Result<Rule> rule_of(TextView tag);

namespace detail {

// A number up to 65535 at the front of the text, which is taken off; -1 where there is none.
inline int take_port(TextView& text) {
    int value = -1;
    while (text.size() > 0 && text[0] >= '0' && text[0] <= '9' && value < 100'000) {
        value = (value < 0 ? 0 : value * 10) + (text[0] - '0');
        text = {text.data() + 1, text.size() - 1};
    }
    return value > 65535 ? -1 : value;
}
inline bool take_ports(TextView& text, Rule& rule) {
    const int first = take_port(text);
    int last = first;
    if (text.size() > 0 && text[0] == '-') {
        text = {text.data() + 1, text.size() - 1};
        last = take_port(text);
    }
    if (first <= 0 || last < first) return false;
    rule.port = static_cast<std::uint16_t>(first);
    rule.last_port = static_cast<std::uint16_t>(last == first ? 0 : last);
    return true;
}
// The first line, without its end, which is taken off.
inline TextView take_line(TextView& text) {
    std::size_t n = 0;
    while (n < text.size() && text[n] != '\n') ++n;
    const TextView line(text.data(), n);
    text = {text.data() + (n < text.size() ? n + 1 : n), text.size() - (n < text.size() ? n + 1 : n)};
    return line;
}
inline bool starts(TextView text, TextView with) { return text.size() >= with.size() && TextView(text.data(), with.size()) == with; }
inline TextView behind(TextView text, std::size_t n) { return {text.data() + n, text.size() - n}; }

}  // namespace detail

inline Result<Rule> Rule::parse(TextView text) {
    Rule rule;
    if (!detail::take_ports(text, rule)) return Errc::invalid_argument;
    if (text == TextView("/udp"))
        rule.protocol = Protocol::udp;
    else if (!(text == TextView("/tcp")))
        return Errc::invalid_argument;
    return rule;
}
inline Result<Rule> rule_of(TextView tag) {
    const TextView whole = tag;
    if (!detail::starts(tag, "rejoin:")) return Errc::invalid_argument;
    tag = detail::behind(tag, 7);
    std::size_t n = 0;
    while (n < tag.size() && tag[n] != ':') ++n;
    Rule rule;
    rule.app = TextView(tag.data(), n);
    tag = detail::behind(tag, n);
    if (detail::starts(tag, ":udp/"))
        rule.protocol = Protocol::udp;
    else if (!detail::starts(tag, ":tcp/"))
        return Errc::invalid_argument;
    tag = detail::behind(tag, 5);
    if (n > 32 || !detail::take_ports(tag, rule) || !rule.valid() || !(tag_of(rule) == whole)) return Errc::invalid_argument;
    return rule;
}

/// Adds the tags that stand in a text, each once; false when memory is out.
inline bool collect_tags(TextView text, Array<Tag>& to) {
    for (; text.size() > 7; text = detail::behind(text, 1)) {
        if (!detail::starts(text, "rejoin:")) continue;
        std::size_t end = 0;
        while (end < text.size() && detail::made_of({text.data() + end, 1}, "._-:/")) ++end;
        const TextView tag(text.data(), end);
        bool known = !rule_of(tag);
        for (const Tag& other : to) known = known || other == tag;
        if (!known && !to.push(Tag(tag))) return false;
        text = detail::behind(text, end - 1);
    }
    return true;
}

/// A command as an administrator types it: its words, each quoted where a POSIX shell would take it for something else.
using Command = Text<1535>;
inline void add_word(Command& to, TextView word) {
    if (!to.empty()) to.append(" ");
    if (word.size() > 0 && detail::made_of(word, "._-/:=,@+")) {
        to.append(word);
        return;
    }
    to.append("'");
    for (char c : word) c == '\'' ? to.append("'\\''") : to.append({&c, 1});
    to.append("'");
}

}  // namespace rejoin::inline v0_1::firewall
