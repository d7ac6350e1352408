// SPDX-License-Identifier: BSL-1.0
// Made by amalgamate.cmake from include/: edit there.
#pragma once
#include <rejoin.hpp>

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

// Port Control Protocol (RFC 6887), opcode MAP, and NAT Port Mapping Protocol (RFC 6886): requests and answers, byte for byte. Pure.
namespace rejoin::inline v0_1::router {

using firewall::Protocol;

/// Where both listen on the gateway.
inline constexpr std::uint16_t pcp_port = 5351;
/// Where hosts hear, from both, that the gateway was restarted (RFC 6887, 14.1; RFC 6886, 3.2.1), sent to these groups.
inline constexpr std::uint16_t announcement_port = 5350;
inline constexpr IpAddress all_hosts_v4 = IpAddress::v4(224, 0, 0, 1),
                           all_hosts_v6 = {{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0, Family::v6};

/// What a gateway grants.
struct Granted {
    std::uint32_t lifetime = 0;  ///< seconds
    std::uint32_t epoch = 0;     ///< seconds since the gateway began to keep its mappings
    std::uint16_t internal_port = 0, external_port = 0;
    IpAddress external;  ///< NAT-PMP says it apart
    Protocol protocol = Protocol::tcp;
};

namespace pcp {

using Nonce = std::byte[12];
inline constexpr std::size_t request_size = 60;

/// RFC 6887, 7.4.
enum class Code : std::uint8_t {
    success,
    unsupported_version,
    not_authorized,
    malformed_request,
    unsupported_opcode,
    unsupported_option,
    malformed_option,
    network_failure,
    no_resources,
    unsupported_protocol,
    user_exceeded_quota,
    cannot_provide_external,
    address_mismatch,
    excessive_remote_peers,
};

inline void put_address(std::byte* to, const IpAddress& ip) { std::memcpy(to, mapped(ip).bytes, 16); }

/// A MAP request (11.1). `lifetime` 0 takes it back. `external`, and its port, are what is asked for where it matters; of family none, 0:
/// whatever.
inline void encode_map(std::byte (&to)[request_size], const Nonce& nonce, const IpAddress& client, Protocol protocol,
                       std::uint16_t internal_port, std::uint16_t external_port, const IpAddress& external, std::uint32_t lifetime) {
    std::memset(to, 0, sizeof to);
    to[0] = std::byte{2};
    to[1] = std::byte{1};
    store_big(to + 4, lifetime);
    put_address(to + 8, client);
    std::memcpy(to + 24, nonce, sizeof nonce);
    to[36] = static_cast<std::byte>(protocol);
    store_big(to + 40, internal_port);
    store_big(to + 42, external_port);
    // None: all zeros of the client's family (11.1).
    IpAddress any = external;
    if (any.family == Family::none) any.family = client.family;
    put_address(to + 44, any);
}

/// What a datagram from the gateway says.
struct Answer {
    enum class Kind : std::uint8_t {
        none,         ///< nothing that is meant for this request
        granted,      ///< `granted`
        refused,      ///< `code`; for `retry` seconds
        old_version,  ///< the gateway does not speak PCP, but perhaps NAT-PMP
    };
    Kind kind = Kind::none;
    Code code = Code::success;
    std::uint32_t retry = 0;
    Granted granted;
};
inline Answer decode_map(Bytes datagram, const Nonce& nonce) {
    Answer answer;
    if (datagram.size() >= 4 && datagram[0] == std::byte{0} && (std::to_integer<unsigned>(datagram[1]) & 0x80) != 0 &&
        load_big<std::uint16_t>(datagram.data() + 2) == 1) {
        answer.kind = Answer::Kind::old_version;  // NAT-PMP's "unsupported version" (appendix A)
        return answer;
    }
    if (datagram.size() < 24 || datagram.size() > 1100 || datagram.size() % 4 != 0 || (std::to_integer<unsigned>(datagram[1]) & 0x80) == 0)
        return answer;
    const auto code = std::to_integer<std::uint8_t>(datagram[3]);
    if (datagram[0] != std::byte{2}) {
        if (code == static_cast<std::uint8_t>(Code::unsupported_version)) answer.kind = Answer::Kind::old_version;
        return answer;
    }
    const auto opcode = std::to_integer<unsigned>(datagram[1]) & 0x7f;
    // A refusal carries the request again, and the nonce with it, as far as it was understood (8.3).
    if (opcode != 1 || datagram.size() < request_size || std::memcmp(datagram.data() + 24, nonce, sizeof nonce) != 0) return answer;
    answer.code = code <= static_cast<std::uint8_t>(Code::excessive_remote_peers) ? static_cast<Code>(code) : Code::malformed_request;
    answer.granted.lifetime = load_big<std::uint32_t>(datagram.data() + 4);
    answer.granted.epoch = load_big<std::uint32_t>(datagram.data() + 8);
    if (code != 0) {
        answer.kind = Answer::Kind::refused;
        answer.retry = answer.granted.lifetime;
        return answer;
    }
    answer.kind = Answer::Kind::granted;
    answer.granted.protocol = static_cast<Protocol>(std::to_integer<std::uint8_t>(datagram[36]));
    answer.granted.internal_port = load_big<std::uint16_t>(datagram.data() + 40);
    answer.granted.external_port = load_big<std::uint16_t>(datagram.data() + 42);
    IpAddress external;
    external.family = Family::v6;
    std::memcpy(external.bytes, datagram.data() + 44, 16);
    answer.granted.external = unmapped(external);
    return answer;
}

/// What a gateway says unasked (14.1.2): its clock; `malformed` for anything else.
inline Result<std::uint32_t> decode_announce(Bytes datagram) {
    if (datagram.size() < 24 || datagram.size() > 1100 || datagram.size() % 4 != 0 || datagram[0] != std::byte{2} ||
        datagram[1] != std::byte{0x80} || datagram[3] != std::byte{0})
        return Errc::malformed;
    return load_big<std::uint32_t>(datagram.data() + 8);
}

}  // namespace pcp

namespace nat_pmp {

/// Asks for the external address (RFC 6886, 3.2).
inline constexpr std::byte address_request[2] = {};
inline constexpr std::size_t request_size = 12;

/// A request for a mapping (3.3). `lifetime` 0 takes it back.
inline void encode_map(std::byte (&to)[request_size], Protocol protocol, std::uint16_t internal_port, std::uint16_t external_port,
                       std::uint32_t lifetime) {
    std::memset(to, 0, sizeof to);
    to[1] = protocol == Protocol::udp ? std::byte{1} : std::byte{2};
    store_big(to + 4, internal_port);
    store_big(to + 6, lifetime == 0 ? std::uint16_t{0} : external_port);
    store_big(to + 8, lifetime);
}

struct Answer {
    enum class Kind : std::uint8_t { none, address, granted, refused };
    Kind kind = Kind::none;
    std::uint16_t code = 0;  ///< 1: version, 2: refused, 3: network, 4: resources, 5: opcode
    Granted granted;
};
inline Answer decode(Bytes datagram) {
    Answer answer;
    if (datagram.size() < 8 || datagram[0] != std::byte{0}) return answer;
    const auto opcode = std::to_integer<unsigned>(datagram[1]);
    if (opcode < 128 || opcode > 130) return answer;
    answer.code = load_big<std::uint16_t>(datagram.data() + 2);
    answer.granted.epoch = load_big<std::uint32_t>(datagram.data() + 4);
    answer.granted.protocol = opcode == 129 ? Protocol::udp : Protocol::tcp;
    if (answer.code != 0) {
        answer.kind = Answer::Kind::refused;
        return answer;
    }
    if (opcode == 128) {
        if (datagram.size() != 12) return answer;
        answer.kind = Answer::Kind::address;
        answer.granted.external.family = Family::v4;
        std::memcpy(answer.granted.external.bytes, datagram.data() + 8, 4);
        return answer;
    }
    if (datagram.size() != 16) return answer;
    answer.kind = Answer::Kind::granted;
    answer.granted.internal_port = load_big<std::uint16_t>(datagram.data() + 8);
    answer.granted.external_port = load_big<std::uint16_t>(datagram.data() + 10);
    answer.granted.lifetime = load_big<std::uint32_t>(datagram.data() + 12);
    return answer;
}

}  // namespace nat_pmp

/// Whether the gateway has lost its mappings since it was heard last: its clock has not gone on as ours has (RFC 6887, 8.5; RFC 6886, 3.6).
class Epoch {
public:
    /// True where what it grants now is all that it knows.
    bool restarted(std::uint32_t epoch, TimePoint now) {
        const bool known = std::exchange(known_, true);
        const std::int64_t server = std::int64_t{epoch} - last_, client = (now - at_).milliseconds() / 1000;
        last_ = epoch;
        at_ = now;
        if (!known) return false;
        return server < -1 || client + 2 < server - server / 16 || server + 2 < client - client / 16;
    }

private:
    bool known_ = false;
    std::int64_t last_ = 0;
    TimePoint at_;
};

}  // namespace rejoin::inline v0_1::router

namespace rejoin::inline v0_1::router {

/// Reads XML as devices write it: elements, by their local names, and the text in them. Pure; it keeps nothing but its place, and goes no
/// deeper than `depth_max`. What a description has no use for is refused, as a bomb has: a document type, and entities other than the five
/// of XML and numbers, which are left as they are written.
class XmlReader {
public:
    static constexpr int depth_max = 32;
    static constexpr std::size_t size_max = 64 * 1024;

    explicit XmlReader(TextView document) : rest_(document), left_(document.size() > size_max ? Errc::too_large : Errc::ok) {}

    enum class Token : std::uint8_t { end, open, close, text };

    /// The next; its name, or its text. `malformed` for what is not closed as it was opened, `too_large` for more than is read.
    Result<Token> next() {
        if (left_ != Errc::ok) return left_;
        if (closes_) {  // <name/>
            closes_ = false;
            --depth_;
            return Token::close;
        }
        for (;;) {
            if (rest_.size() == 0) return depth_ == 0 ? Result<Token>(Token::end) : fail();
            if (rest_[0] != '<') {
                std::size_t n = 0;
                while (n < rest_.size() && rest_[n] != '<') ++n;
                value_ = {rest_.data(), n};
                drop(n);
                return Token::text;
            }
            if (starts("<?")) {
                if (!skip("?>")) return fail();
            } else if (starts("<!--")) {
                if (!skip("-->")) return fail();
            } else if (starts("<![CDATA[")) {
                const char* const from = rest_.data() + 9;
                if (!skip("]]>")) return fail();
                value_ = {from, static_cast<std::size_t>(rest_.data() - from) - 3};
                return Token::text;
            } else if (starts("<!")) {
                return fail();  // a document type
            } else {
                return tag();
            }
        }
    }
    /// Of the element that was opened or closed, without its prefix; or the text, as it is written.
    TextView value() const { return value_; }

    /// The text with the entities that it may have put in place.
    template <std::size_t N>
    static void plain(TextView text, Text<N>& to) {
        static constexpr struct {
            const char* entity;
            const char* is;
        } entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}};
        to = {};
        while (text.size() > 0) {
            const char* with = nullptr;
            std::size_t size = 1;
            for (const auto& known : entities)
                if (TextView entity = known.entity; text.size() >= entity.size() && TextView(text.data(), entity.size()) == entity) {
                    with = known.is;
                    size = entity.size();
                }
            to.append(with != nullptr ? TextView(with) : TextView(text.data(), 1));
            text = {text.data() + size, text.size() - size};
        }
    }

private:
    Errc fail() { return left_ = Errc::malformed; }
    bool starts(TextView with) const { return rest_.size() >= with.size() && TextView(rest_.data(), with.size()) == with; }
    void drop(std::size_t n) { rest_ = {rest_.data() + n, rest_.size() - n}; }
    bool skip(TextView to) {
        while (rest_.size() >= to.size() && !starts(to)) drop(1);
        if (!starts(to)) return false;
        drop(to.size());
        return true;
    }
    Result<Token> tag() {
        const bool closing = starts("</");
        drop(closing ? 2 : 1);
        std::size_t n = 0;
        while (n < rest_.size() && rest_[n] != '>' && rest_[n] != '/' && static_cast<unsigned char>(rest_[n]) > ' ') ++n;
        if (n == 0 || n > 127) return fail();
        const TextView name(rest_.data(), n);
        drop(n);
        char quote = 0;  // attributes are passed over
        for (;; drop(1)) {
            if (rest_.size() == 0) return fail();
            const char c = rest_[0];
            if (quote == 0 && c == '>') break;
            if (quote == 0 && c == '/' && rest_.size() > 1 && rest_[1] == '>') break;
            if (quote == 0 && c == '<') return fail();
            if (quote == 0 && (c == '"' || c == '\''))
                quote = c;
            else if (c == quote)
                quote = 0;
        }
        const bool empty = rest_[0] == '/';
        drop(empty ? 2 : 1);
        std::size_t colon = 0;
        while (colon < n && name[colon] != ':') ++colon;
        value_ = colon < n ? TextView(name.data() + colon + 1, n - colon - 1) : name;
        // What is closed has to be what was opened last; its name is looked up where it is written.
        if (closing) {
            if (empty || depth_ == 0 || !(open_[depth_ - 1] == name)) return fail();
            --depth_;
            return Token::close;
        }
        if (depth_ == depth_max) return left_ = Errc::too_large;
        open_[depth_++] = name;
        closes_ = empty;
        return Token::open;
    }

    TextView rest_, value_;
    TextView open_[depth_max];
    int depth_ = 0;
    bool closes_ = false;
    Errc left_;
};

}  // namespace rejoin::inline v0_1::router

// UPnP Internet Gateway Devices 1 and 2: the search for them (UPnP Device Architecture 1.1, 1.3), their descriptions, and the actions that
// map a port (WANIPConnection 1 and 2, WANPPPConnection 1) or let one through (WANIPv6FirewallControl 1). Requests to bytes, answers from
// bytes. Pure.
namespace rejoin::inline v0_1::router::upnp {

inline constexpr std::uint16_t ssdp_port = 1900;
inline constexpr IpAddress ssdp_group = IpAddress::v4(239, 255, 255, 250);

/// A search for gateways.
inline Text<255> search(const Endpoint& to, int version) {
    return Text<255>("M-SEARCH * HTTP/1.1\r\nHOST: ")
        .append(to_text(to))
        .append("\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:")
        .append_number(version)
        .append("\r\n\r\n");
}

namespace detail {

inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
inline bool same(TextView a, TextView b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (lower(a[i]) != lower(b[i])) return false;
    return true;
}
inline TextView trimmed(TextView text) {
    while (text.size() > 0 && static_cast<unsigned char>(text[0]) <= ' ') text = {text.data() + 1, text.size() - 1};
    while (text.size() > 0 && static_cast<unsigned char>(text[text.size() - 1]) <= ' ') text = {text.data(), text.size() - 1};
    return text;
}
// The value of a header field; empty where it is not there. `head` is everything up to the empty line.
inline TextView field(TextView head, TextView name) {
    while (head.size() > 0) {
        const TextView line = firewall::detail::take_line(head);
        std::size_t colon = 0;
        while (colon < line.size() && line[colon] != ':') ++colon;
        if (colon < line.size() && same(TextView(line.data(), colon), name))
            return trimmed({line.data() + colon + 1, line.size() - colon - 1});
    }
    return {};
}
inline bool number(TextView text, std::uint32_t max, std::uint32_t& to, int base = 10) {
    std::uint64_t value = 0;
    if (text.size() == 0 || text.size() > 10) return false;
    for (char c : text) {
        const char l = lower(c);
        const int digit = l >= '0' && l <= '9' ? l - '0' : base == 16 && l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
        if (digit < 0) return false;
        value = value * static_cast<unsigned>(base) + static_cast<unsigned>(digit);
    }
    to = static_cast<std::uint32_t>(value);
    return value <= max;
}

}  // namespace detail

/// `http://192.0.2.1:5000/path`: only with an address, and only that of the gateway.
struct Url {
    Endpoint at;
    Text<255> path;
};
/// The URL as it is written, or where it is a path alone, on the same server as `base`. `invalid_argument` for anything else, and for a
/// server that is not `gateway`.
inline Result<Url> parse_url(TextView text, const IpAddress& gateway, const Endpoint& base = {}) {
    Url url;
    url.at = base;
    const TextView scheme("http://");
    if (text.size() > scheme.size() && detail::same(TextView(text.data(), scheme.size()), scheme)) {
        text = {text.data() + scheme.size(), text.size() - scheme.size()};
        std::size_t n = 0;
        while (n < text.size() && text[n] != '/') ++n;
        url.at = Endpoint::parse({text.data(), n}, 80);
        text = {text.data() + n, text.size() - n};
    }
    IpAddress there = url.at.ip(), here = gateway;
    there.scope = here.scope = 0;
    if (!(there == here) || url.at.port() == 0 || text.size() > 254) return Errc::invalid_argument;
    if (text.size() == 0 || text[0] != '/') url.path.append("/");
    for (char c : text)
        if (static_cast<unsigned char>(c) <= ' ' || c == 127) return Errc::invalid_argument;  // nothing that ends a line
    url.path.append(text);
    return url;
}

/// Where a gateway's description is, from its answer to a search; `invalid_argument` for an answer of anything else.
inline Result<Url> location(Bytes datagram, const IpAddress& gateway) {
    const TextView text(reinterpret_cast<const char*>(datagram.data()), datagram.size());
    constexpr TextView status("HTTP/1.1 200");
    if (text.size() < status.size() || !(TextView(text.data(), status.size()) == status)) return Errc::invalid_argument;
    return parse_url(detail::field(text, "location"), gateway);
}

/// An answer over HTTP, as far as it has come.
struct HttpAnswer {
    std::uint32_t status = 0;
    Array<char> body;
};
/// Reads it: false while more has to come; `ended`: no more will. `malformed`; `too_large` for more than `XmlReader` reads;
/// `out_of_memory`.
inline Result<bool> read_http(TextView all, bool ended, HttpAnswer& to) {
    std::size_t head = 0;
    while (head + 4 <= all.size() && !(TextView(all.data() + head, 4) == TextView("\r\n\r\n"))) ++head;
    if (head + 4 > all.size())
        return all.size() > 16 * 1024 ? Result<bool>(Errc::too_large) : ended ? Result<bool>(Errc::malformed) : Result<bool>(false);
    const TextView fields(all.data(), head);
    TextView body(all.data() + head + 4, all.size() - head - 4);
    if (all.size() < 12 || !(TextView(all.data(), 7) == TextView("HTTP/1.")) || !detail::number({all.data() + 9, 3}, 999, to.status))
        return Errc::malformed;
    to.body.clear();
    if (detail::same(detail::field(fields, "transfer-encoding"), "chunked")) {
        for (;;) {
            std::size_t n = 0;
            while (n < body.size() && body[n] != '\n') ++n;
            if (n == body.size()) return ended ? Result<bool>(Errc::malformed) : Result<bool>(false);
            TextView line = detail::trimmed({body.data(), n});
            for (std::size_t i = 0; i < line.size(); ++i)
                if (line[i] == ';') line = detail::trimmed({line.data(), i});
            std::uint32_t size = 0;
            if (!detail::number(line, XmlReader::size_max, size, 16)) return line.size() > 8 ? Errc::too_large : Errc::malformed;
            body = {body.data() + n + 1, body.size() - n - 1};
            if (size == 0) return true;
            if (body.size() < size + 2u) return ended ? Result<bool>(Errc::malformed) : Result<bool>(false);
            if (to.body.size() + size > XmlReader::size_max) return Errc::too_large;
            if (!to.body.append(body.data(), size)) return Errc::out_of_memory;
            body = {body.data() + size + 2, body.size() - size - 2};
        }
    }
    if (body.size() > XmlReader::size_max) return Errc::too_large;
    const TextView length = detail::field(fields, "content-length");
    std::uint32_t size = 0;
    if (length.size() > 0) {
        if (!detail::number(length, XmlReader::size_max, size)) return Errc::too_large;
        if (body.size() < size) return ended ? Result<bool>(Errc::malformed) : Result<bool>(false);
        body = {body.data(), size};
    } else if (!ended) {
        return false;
    }
    return to.body.append(body.data(), body.size()) ? Result<bool>(true) : Errc::out_of_memory;
}

/// A service of a gateway's that does what is wanted.
struct Service {
    Text<95> type;
    Url control;
    int version = 0;  ///< 2: of IGD 2
};
/// Finds in a description the service that maps ports, or with `pinholes` the one that lets them through; `unsupported` where there is
/// none; errors of `XmlReader`.
inline Result<Service> find_service(TextView description, const Url& from, const IpAddress& gateway, bool pinholes) {
    XmlReader xml(description);
    Text<31> element;
    Text<95> type;
    Text<255> control;
    Service best;
    Endpoint base = from.at;
    for (;;) {
        const auto token = xml.next();
        if (!token) return token.error();
        if (*token == XmlReader::Token::end) break;
        if (*token == XmlReader::Token::open) {
            element = xml.value();
            if (element == TextView("service")) type = {}, control = {};
            continue;
        }
        if (*token == XmlReader::Token::text) {
            const TextView text = detail::trimmed(xml.value());
            if (element == TextView("serviceType")) XmlReader::plain(text, type);
            if (element == TextView("controlURL")) XmlReader::plain(text, control);
            if (element == TextView("URLBase") && text.size() > 0)
                if (const auto url = parse_url(text, gateway)) base = url->at;
            continue;
        }
        element = {};
        if (!(xml.value() == TextView("service"))) continue;
        static constexpr struct {
            const char* type;
            int version;
            bool pinholes;
        } known[] = {{"urn:schemas-upnp-org:service:WANIPConnection:2", 2, false},
                     {"urn:schemas-upnp-org:service:WANIPConnection:1", 1, false},
                     {"urn:schemas-upnp-org:service:WANPPPConnection:1", 1, false},
                     {"urn:schemas-upnp-org:service:WANIPv6FirewallControl:1", 2, true}};
        for (const auto& one : known) {
            if (one.pinholes != pinholes || !(type == TextView(one.type)) || one.version <= best.version) continue;
            auto url = parse_url(control, gateway, base);
            if (!url) continue;  // elsewhere: nobody is asked there
            best.type = type;
            best.control = std::move(*url);
            best.version = one.version;
        }
    }
    if (best.version == 0) return Errc::unsupported;
    return best;
}

/// A request to a gateway, whole.
using Request = Text<2047>;
inline Request get(const Url& url) {
    return Request("GET ").append(url.path).append(" HTTP/1.1\r\nHost: ").append(to_text(url.at)).append("\r\nConnection: close\r\n\r\n");
}
/// The same without the scope, which means nothing to the gateway.
inline Endpoint without_scope(const Endpoint& at) {
    IpAddress ip = at.ip();
    ip.scope = 0;
    return {ip, at.port()};
}

/// The body of an action, argument by argument, and then the whole request.
class Action {
public:
    Action(const Service& service, const char* name) : service_(service), name_(name) {}
    Action& add(const char* argument, TextView value) {
        arguments_.append("<").append(argument).append(">");
        for (char c : value) {
            if (c == '<')
                arguments_.append("&lt;");
            else if (c == '>')
                arguments_.append("&gt;");
            else if (c == '&')
                arguments_.append("&amp;");
            else
                arguments_.append({&c, 1});
        }
        arguments_.append("</").append(argument).append(">");
        return *this;
    }
    Action& add(const char* argument, std::uint32_t value) { return add(argument, Text<15>().append_number(value)); }
    Request request() const {
        Text<1535> body(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" "
            "s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:");
        body.append(name_)
            .append(" xmlns:u=\"")
            .append(service_.type)
            .append("\">")
            .append(arguments_)
            .append("</u:")
            .append(name_)
            .append("></s:Body></s:Envelope>\r\n");
        return Request("POST ")
            .append(service_.control.path)
            .append(" HTTP/1.1\r\nHost: ")
            .append(to_text(without_scope(service_.control.at)))
            .append("\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"")
            .append(service_.type)
            .append("#")
            .append(name_)
            .append("\"\r\nContent-Length: ")
            .append_number(static_cast<std::int64_t>(body.size()))
            .append("\r\nConnection: close\r\n\r\n")
            .append(body);
    }

private:
    const Service& service_;
    const char* name_;
    Text<767> arguments_;
};

/// What an action came to: the text of one element of its answer.
struct Outcome {
    std::uint32_t error = 0;  ///< UPnP's own, as 718: the port is another's; 725: only for ever; 0: none
    Text<63> value;
};
/// Reads the answer to an action, and in it the element `wanted`. `malformed` for what is no answer.
inline Result<Outcome> read_action(const HttpAnswer& answer, TextView wanted) {
    XmlReader xml({answer.body.data(), answer.body.size()});
    Outcome outcome;
    Text<63> element;
    bool envelope = false, failed = answer.status != 200;
    for (;;) {
        const auto token = xml.next();
        if (!token) return token.error();
        if (*token == XmlReader::Token::end) break;
        if (*token == XmlReader::Token::open) {
            element = xml.value();
            envelope = envelope || element == TextView("Envelope");
            failed = failed || element == TextView("Fault");
        } else if (*token == XmlReader::Token::close) {
            element = {};
        } else if (element == TextView("errorCode")) {
            static_cast<void>(detail::number(detail::trimmed(xml.value()), 999, outcome.error));
        } else if (element == wanted) {
            XmlReader::plain(detail::trimmed(xml.value()), outcome.value);
        }
    }
    if (!envelope) return Errc::malformed;
    if (failed && outcome.error == 0) outcome.error = 501;  // action failed
    return outcome;
}

}  // namespace rejoin::inline v0_1::router::upnp

namespace rejoin::inline v0_1::router {

/// How a mapping is held.
enum class Method : std::uint8_t { none, pcp, nat_pmp, upnp };
constexpr const char* to_text(Method method) {
    constexpr const char* names[] = {"none", "PCP", "NAT-PMP", "UPnP"};
    return names[static_cast<int>(method)];
}

/// A port that is to be reached from beyond the gateway.
struct Want {
    Protocol protocol = Protocol::tcp;
    std::uint16_t port = 0;                       ///< of this host
    std::uint16_t external_port = 0;              ///< asked for; 0: the same. The gateway may give another
    Duration lifetime = Duration::seconds(1200);  ///< renewed at half of it; at least 2 s, at most a day
    Text<56> name;                                ///< for people who look at the gateway's list
};

/// Asks a gateway for a mapping, or for IPv6 for a pinhole, by PCP, NAT-PMP and UPnP, and keeps it. Pure: bytes and times go in, and what
/// is to be sent comes out. Each method has a head start over the next, and an answer that it is not there starts the next at once.
///
///     idle --start--> asking --granted--> mapped --renewed at half its life--> mapped
///                        ^--lost: expired, or the gateway does not have it any more, or is another--'
///     asking --nobody grants it--> failed --moved, or after a while--> asking
///     any --close--> closing --taken back, or no answer--> closed
class Mapper {
public:
    enum class State : std::uint8_t { idle, asking, mapped, failed, closing, closed };
    /// Something to be sent.
    struct Output {
        enum class Kind : std::uint8_t {
            control,  ///< a datagram to the gateway, `pcp_port`
            search,   ///< a datagram to `to`
            http,     ///< a request over TCP to `to`; its answer, or that there is none, to `http`
        };
        Kind kind = Kind::control;
        Endpoint to;
        IpAddress from;  ///< of `http`, where it matters: the local address
        upnp::Request text;
        Bytes bytes() const { return TextView(text).bytes(); }
    };

    /// Begins. `local` is this host's address on the way to `gateway`, of the same family; for IPv6, `gateway_v4` is where UPnP is asked,
    /// if there is one. The nonce is random, and the same as long as the mapping is to be.
    void start(const Want& want, const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4, const pcp::Nonce& nonce,
               TimePoint now) {
        state_ = State::idle;
        want_ = want;
        if (want_.external_port == 0) want_.external_port = want_.port;
        std::memcpy(nonce_, nonce, sizeof nonce_);
        moved(gateway, local, gateway_v4, now);
    }
    /// The gateway, or this host's address, is another now: asks there.
    void moved(const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4, TimePoint now) {
        if (state_ == State::closing || state_ == State::closed) return;
        gateway_ = gateway;
        local_ = local;
        gateway_v4_ = gateway.family == Family::v4 ? gateway : gateway_v4;
        epoch_ = {};
        ask(now);
    }
    bool is_at(const IpAddress& gateway, const IpAddress& local) const { return gateway_ == gateway && local_ == local; }
    /// Takes back what was granted, and what may be granted yet. `closed` follows, within a second.
    void close(TimePoint now) {
        if (state_ == State::closing || state_ == State::closed) return;
        const bool asking = state_ == State::asking;
        const auto take_back = [&](Lane& lane, Method method) {
            lane = {0, now, method_ == method || (asking && lane.alive && lane.tries > 0)};
        };
        take_back(pcp_, Method::pcp);
        take_back(nat_pmp_, Method::nat_pmp);
        upnp_.alive = method_ == Method::upnp || (asking && step_ == Step::adding);  // of which the answer is waited for
        if (method_ == Method::upnp)
            exchange(Step::removing, now);
        else if (!upnp_.alive)
            step_ = Step::none;
        send_pcp_ = send_nat_pmp_ = send_address_ = false;
        searches_ = 0;
        give_up_ = now + closing_max;
        state_ = pcp_.alive || nat_pmp_.alive || upnp_.alive ? State::closing : State::closed;
    }

    State state() const { return state_; }
    Method method() const { return method_; }
    /// Where it is reached from beyond; not `valid` where the gateway has not said.
    Endpoint external() const { return state_ == State::mapped ? Endpoint(external_, external_port_) : Endpoint(); }
    /// Why nobody grants it: `unsupported`: no gateway that could; `overloaded`, `unsupported` or `timed_out` as the last said.
    Error error() const { return state_ == State::failed ? error_ : Error(); }
    /// Once after each change of these.
    bool changed() { return std::exchange(changed_, false); }

    /// When `advance` has something to do.
    TimePoint deadline() const {
        TimePoint next = TimePoint::never();
        const auto sooner = [&](TimePoint when) { next = when < next ? when : next; };
        switch (state_) {
            case State::asking:
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                if (upnp_.alive) sooner(upnp_.due);
                break;
            case State::mapped:
                sooner(renew_at_);
                sooner(expires_);
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                if (step_ != Step::none) sooner(upnp_.due);
                break;
            case State::closing:
                sooner(give_up_);
                if (pcp_.alive) sooner(pcp_.due);
                if (nat_pmp_.alive) sooner(nat_pmp_.due);
                break;
            case State::failed:
                sooner(renew_at_);
                break;
            default:
                break;
        }
        return next;
    }
    void advance(TimePoint now) {
        if (deadline() > now) return;
        switch (state_) {
            case State::asking:
                send_due(now);
                if (upnp_.alive && upnp_.due <= now) advance_upnp(now);
                if (state_ == State::asking) fail_if_dead(now);
                return;
            case State::mapped:
                if (expires_ <= now) return ask(now);
                if (step_ != Step::none && upnp_.due <= now) step_ = Step::none;  // no answer: with the next renewal
                if (renew_at_ <= now) renew(now);
                send_due(now);
                return;
            case State::closing:
                if (give_up_ <= now) return finish();
                send_due(now);
                return;
            case State::failed:
                return ask(now);
            default:
                return;
        }
    }

    /// The next of what is to be sent now; false when there is nothing.
    bool next(Output& out) {
        const std::uint32_t lifetime = state_ == State::closing ? 0 : seconds();
        out.to = Endpoint(gateway_, pcp_port);
        out.kind = Output::Kind::control;
        if (std::exchange(send_pcp_, false)) {
            std::byte request[pcp::request_size];
            pcp::encode_map(request, nonce_, local_, want_.protocol, want_.port, external_port(), external_, lifetime);
            return put(out, request);
        }
        if (std::exchange(send_nat_pmp_, false)) {
            std::byte request[nat_pmp::request_size];
            nat_pmp::encode_map(request, want_.protocol, want_.port, external_port(), lifetime);
            send_address_ = lifetime != 0;
            return put(out, request);
        }
        if (std::exchange(send_address_, false)) return put(out, nat_pmp::address_request);
        if (searches_ > 0) {
            --searches_;
            out.kind = Output::Kind::search;
            out.to = searches_ % 2 == 0 ? Endpoint(gateway_v4_, upnp::ssdp_port) : Endpoint(upnp::ssdp_group, upnp::ssdp_port);
            out.text = TextView(upnp::search(out.to, 1 + searches_ / 2));
            return true;
        }
        if (std::exchange(send_http_, false)) {
            out.kind = Output::Kind::http;
            make_request(out);
            return true;
        }
        return false;
    }

    /// A datagram came from there, on the socket from which those to `pcp_port` went. Of anybody but the gateway it changes nothing.
    void control(const Endpoint& from, Bytes datagram, TimePoint now) {
        if (!same_host(from.ip(), gateway_) || from.port() != pcp_port) return;
        if (const auto answer = pcp::decode_map(datagram, nonce_);
            answer.kind != pcp::Answer::Kind::none && (pcp_.alive || method_ == Method::pcp)) {
            if (answer.kind == pcp::Answer::Kind::granted) return granted(Method::pcp, answer.granted, now);
            if (state_ == State::closing) return taken_back(pcp_);
            if (state_ == State::mapped && method_ == Method::pcp) return ask(now);  // it was ours, and is not any more
            return dead(pcp_, answer.kind == pcp::Answer::Kind::refused ? Errc::overloaded : Errc::unsupported, nat_pmp_, now);
        }
        if (!nat_pmp_.alive && method_ != Method::nat_pmp) return;
        const auto answer = nat_pmp::decode(datagram);
        switch (answer.kind) {
            case nat_pmp::Answer::Kind::none:
                return;
            case nat_pmp::Answer::Kind::address:
                return addressed(answer.granted, now, Duration());
            case nat_pmp::Answer::Kind::granted:
                return granted(Method::nat_pmp, answer.granted, now);
            case nat_pmp::Answer::Kind::refused:
                if (state_ == State::closing) return taken_back(nat_pmp_);
                if (state_ == State::mapped && method_ == Method::nat_pmp) return ask(now);
                return dead(nat_pmp_, answer.code == 1 || answer.code == 5 ? Errc::unsupported : Errc::overloaded, upnp_, now);
        }
    }
    /// The gateway has said something to everybody, at `announcement_port`. Where it has lost its mappings, they are asked for anew, within
    /// five seconds: not by all its hosts at once.
    void announced(const IpAddress& from, Bytes datagram, TimePoint now) {
        if (!same_host(from, gateway_)) return;
        const Duration wait = Duration::milliseconds(std::to_integer<std::int64_t>(nonce_[0]) * 5000 / 256);
        const auto epoch = pcp::decode_announce(datagram);
        const auto address = nat_pmp::decode(datagram);
        if (!epoch && address.kind != nat_pmp::Answer::Kind::address) return;
        if (state_ == State::failed) renew_by(now + wait);  // it does either, and did not before
        if (state_ != State::mapped || method_ == Method::upnp) return;
        // A gateway that speaks both has one clock for both (RFC 6887, appendix A).
        if (epoch && epoch_.restarted(*epoch, now)) renew_by(now + wait);
        if (!epoch) addressed(address.granted, now, wait);
    }
    /// Nobody listens at the gateway's `pcp_port`: the system says so.
    void refused(TimePoint now) {
        if (state_ == State::closing) {
            pcp_.alive = false;
            return taken_back(nat_pmp_);
        }
        if (state_ != State::asking) return;
        nat_pmp_.alive = false;
        dead(pcp_, Errc::unsupported, upnp_, now);
    }
    /// A datagram came on the socket from which searches went.
    void found(const Endpoint& from, Bytes datagram, TimePoint now) {
        if (step_ != Step::searching || !same_host(from.ip(), gateway_v4_)) return;
        auto at = upnp::location(datagram, gateway_v4_);
        if (!at) return;
        description_ = std::move(*at);
        exchange(Step::describing, now);
    }
    /// The answer to the request that was sent last; or why there is none.
    void http(const Result<upnp::HttpAnswer>& answer, TimePoint now) {
        const Step step = std::exchange(step_, Step::none);
        if (step == Step::none || step == Step::searching) return;
        if (step == Step::removing || (state_ == State::closing && !answer)) return taken_back(upnp_);
        if (!answer && step == Step::adding && pinholes() && service_.control.at.ip().family == Family::v6 && state_ == State::asking) {
            service_.control.at = Endpoint(gateway_v4_, service_.control.at.port());
            return exchange(Step::adding, now);
        }
        if (!answer) return upnp_failed(answer.error(), now);
        if (step == Step::describing) {
            if (answer->status != 200) return upnp_failed(Errc::malformed, now);
            auto service = upnp::find_service({answer->body.data(), answer->body.size()}, description_, gateway_v4_, pinholes());
            if (!service) return upnp_failed(service.error(), now);
            service_ = std::move(*service);
            // A pinhole leads to whoever asks for it (WANIPv6FirewallControl 1): so that is asked over IPv6, wherever the gateway was
            // found; over IPv4 where it hears nobody there.
            if (pinholes()) service_.control.at = Endpoint(gateway_, service_.control.at.port());
            attempts_ = 0;
            forever_ = false;
            return exchange(pinholes() ? Step::adding : Step::addressing, now);
        }
        const char* const wanted = step == Step::addressing ? "NewExternalIPAddress" : pinholes() ? "UniqueID" : "NewReservedPort";
        const auto outcome = upnp::read_action(*answer, wanted);
        if (state_ == State::closing && (!outcome || outcome->error != 0)) return taken_back(upnp_);
        if (!outcome) return upnp_failed(outcome.error(), now);
        if (step == Step::addressing) {
            const auto ip = IpAddress::parse(outcome->value);
            if (ip && ip->family == Family::v4 && !ip->is_unspecified()) external_ = *ip;
            return exchange(Step::adding, now);
        }
        if (outcome->error == 725 && !std::exchange(forever_, true))
            return exchange(Step::adding, now);                                  // it knows no end but the gateway's
        if (outcome->error == 718 && !pinholes() && attempts_ < attempts_max) {  // the port is another host's
            ++attempts_;
            return exchange(Step::adding, now);
        }
        if (outcome->error != 0) return upnp_failed(Errc::overloaded, now);
        Granted got;
        got.lifetime = seconds();
        got.external_port = static_cast<std::uint16_t>(pinholes() ? want_.port : external_port());
        std::uint32_t number = 0;
        if (!pinholes() && upnp::detail::number(outcome->value, 65535, number) && number != 0)
            got.external_port = static_cast<std::uint16_t>(number);
        if (pinholes() && upnp::detail::number(outcome->value, 65535, number)) pinhole_ = static_cast<std::uint16_t>(number);
        got.internal_port = want_.port;
        got.protocol = want_.protocol;
        got.external = pinholes() ? local_ : external_;
        if (state_ == State::closing) {  // it was being asked for
            external_port_ = got.external_port;
            return exchange(Step::removing, now);
        }
        granted(Method::upnp, got, now);
    }

private:
    static constexpr int pcp_tries = 4, searches_max = 3, attempts_max = 8;
    static constexpr Duration first_wait = Duration::milliseconds(250);  // RFC 6886, 3.1; PCP's 3 s are for hosts that can wait
    static constexpr Duration head_start = Duration::milliseconds(40), first_search_wait = Duration::milliseconds(100),
                              search_wait = Duration::milliseconds(1000), http_max = Duration::seconds(3),
                              closing_max = Duration::milliseconds(1000), again = Duration::seconds(600);

    enum class Step : std::uint8_t { none, searching, describing, addressing, adding, removing };
    struct Lane {
        int tries = 0;
        TimePoint due;
        bool alive = false;
    };

    bool pinholes() const { return local_.family == Family::v6; }
    std::uint32_t seconds() const {
        const std::int64_t s = (want_.lifetime.milliseconds() + 999) / 1000;
        return static_cast<std::uint32_t>(s < 2 ? 2 : s > 86'400 ? 86'400 : s);
    }
    std::uint16_t external_port() const {
        if (external_port_ != 0) return external_port_;
        return static_cast<std::uint16_t>(want_.external_port + attempts_ == 0x10000 ? 1024 : want_.external_port + attempts_);
    }
    static bool same_host(IpAddress a, IpAddress b) {
        a.scope = b.scope = 0;
        return a == b;
    }
    template <std::size_t N>
    static bool put(Output& out, const std::byte (&bytes)[N]) {
        out.text = TextView(reinterpret_cast<const char*>(bytes), N);
        return true;
    }
    void ask(TimePoint now) {
        changed_ = changed_ || state_ == State::mapped;
        state_ = State::asking;
        method_ = Method::none;
        error_ = Errc::unsupported;
        external_ = {};
        external_port_ = 0;
        attempts_ = 0;
        searches_ = 0;
        step_ = Step::none;
        send_pcp_ = send_nat_pmp_ = send_address_ = send_http_ = false;
        pcp_ = {0, now, true};
        nat_pmp_ = {0, now + head_start, local_.family == Family::v4};
        upnp_ = {0, now + head_start * 2, gateway_v4_.family == Family::v4};
        advance(now);
    }
    // Whether it is to be sent once more; it has had all its tries else.
    static bool step_of(Lane& lane, int tries, TimePoint now) {
        if (lane.tries == tries) {
            lane.alive = false;
            return false;
        }
        lane.due = now + first_wait * (1 << lane.tries++);
        return true;
    }
    // What does not work starts the next at once.
    void dead(Lane& lane, Errc why, Lane& next, TimePoint now) {
        if (state_ != State::asking) return;
        lane.alive = false;
        if (why != Errc::unsupported || error_ == Errc::unsupported) error_ = why;
        Lane& other = next.alive ? next : upnp_;
        if (other.alive && other.tries == 0 && other.due > now) other.due = now;
        advance(now);
        fail_if_dead(now);
    }
    void fail_if_dead(TimePoint now) {
        if (state_ != State::asking || pcp_.alive || nat_pmp_.alive || upnp_.alive) return;
        state_ = State::failed;
        renew_at_ = now + again;
        changed_ = true;
    }
    void advance_upnp(TimePoint now) {
        if (step_ != Step::none && step_ != Step::searching) return upnp_failed(Errc::timed_out, now);
        if (upnp_.tries == searches_max) {
            step_ = Step::none;
            upnp_.alive = false;
            return;
        }
        // First the gateway alone, which answers at once, and where it does not the group, and for either version. Small devices answer one
        // after another.
        const bool first = upnp_.tries++ == 0;
        step_ = Step::searching;
        searches_ = first ? 1 : 4;
        upnp_.due = now + (first ? first_search_wait : search_wait);
    }
    void upnp_failed(Error why, TimePoint now) {
        step_ = Step::none;
        if (state_ == State::mapped) return;  // with the next renewal
        upnp_.alive = false;
        error_ = why;
        fail_if_dead(now);
    }
    void exchange(Step step, TimePoint now) {
        step_ = step;
        send_http_ = true;
        upnp_.due = now + http_max;
    }
    void make_request(Output& out) {
        out.to = step_ == Step::describing ? description_.at : service_.control.at;
        out.from = out.to.ip().family == Family::v6 ? local_ : IpAddress();
        if (step_ == Step::describing) {
            out.text = upnp::get(description_);
            return;
        }
        const char* const protocol = want_.protocol == Protocol::tcp ? "TCP" : "UDP";
        const std::uint32_t lease = forever_ ? 0 : seconds();
        if (step_ == Step::addressing) {
            out.text = upnp::Action(service_, "GetExternalIPAddress").request();
        } else if (pinholes() && step_ == Step::removing) {
            out.text = upnp::Action(service_, "DeletePinhole").add("UniqueID", pinhole_).request();
        } else if (pinholes() && method_ == Method::upnp) {
            out.text = upnp::Action(service_, "UpdatePinhole").add("UniqueID", pinhole_).add("NewLeaseTime", lease).request();
        } else if (pinholes()) {
            out.text = upnp::Action(service_, "AddPinhole")
                           .add("RemoteHost", "")
                           .add("RemotePort", std::uint32_t{0})
                           .add("InternalClient", rejoin::to_text(local_))
                           .add("InternalPort", want_.port)
                           .add("Protocol", static_cast<std::uint32_t>(want_.protocol))
                           .add("LeaseTime", lease)
                           .request();
        } else if (step_ == Step::removing) {
            out.text = upnp::Action(service_, "DeletePortMapping")
                           .add("NewRemoteHost", "")
                           .add("NewExternalPort", external_port_)
                           .add("NewProtocol", protocol)
                           .request();
        } else {
            out.text = upnp::Action(service_, service_.version == 2 ? "AddAnyPortMapping" : "AddPortMapping")
                           .add("NewRemoteHost", "")
                           .add("NewExternalPort", external_port())
                           .add("NewProtocol", protocol)
                           .add("NewInternalPort", want_.port)
                           .add("NewInternalClient", rejoin::to_text(local_))
                           .add("NewEnabled", std::uint32_t{1})
                           .add("NewPortMappingDescription", want_.name)
                           .add("NewLeaseDuration", lease)
                           .request();
        }
    }
    void renew_by(TimePoint when) { renew_at_ = when < renew_at_ ? when : renew_at_; }
    // NAT-PMP says it apart from what it grants.
    void addressed(const Granted& said, TimePoint now, Duration wait) {
        if (!said.external.is_unspecified() && !(external_ == said.external)) {
            external_ = said.external;
            changed_ = changed_ || state_ == State::mapped;
        }
        if (epoch_.restarted(said.epoch, now) && state_ == State::mapped) renew_by(now + wait);
    }
    void renew(TimePoint now) {
        // Again after half of what is left, and not more often than every second.
        const Duration left = (expires_ - now) * 1 / 2;
        renew_at_ = now + (left > Duration::seconds(1) ? left : Duration::seconds(1));
        if (method_ == Method::upnp) return exchange(Step::adding, now);
        (method_ == Method::pcp ? pcp_ : nat_pmp_) = {0, now, true};
    }
    void granted(Method method, const Granted& got, TimePoint now) {
        if (got.protocol != want_.protocol || got.internal_port != want_.port) return;
        const bool restarted = method != Method::upnp && epoch_.restarted(got.epoch, now);
        if (state_ == State::closing) {
            if (got.lifetime == 0) taken_back(method == Method::pcp ? pcp_ : nat_pmp_);
            return;
        }
        if (state_ == State::mapped && method != method_) return;  // a slower one
        if (state_ != State::asking && state_ != State::mapped) return;
        if (got.lifetime == 0 || got.external_port == 0) {  // neither is a grant
            if (method == Method::pcp) dead(pcp_, Errc::malformed, nat_pmp_, now);
            if (method == Method::nat_pmp) dead(nat_pmp_, Errc::malformed, upnp_, now);
            return;
        }
        const IpAddress external = got.external.is_unspecified() ? external_ : got.external;
        changed_ = changed_ || state_ != State::mapped || restarted || external_port_ != got.external_port || !(external_ == external);
        state_ = State::mapped;
        method_ = method;
        external_ = external;
        external_port_ = got.external_port;
        pcp_.alive = nat_pmp_.alive = upnp_.alive = false;
        if (method != Method::upnp) step_ = Step::none, searches_ = 0, send_http_ = false;
        send_pcp_ = send_nat_pmp_ = false;
        // What is granted for ever, or for longer than was asked, is looked after all the same.
        const std::uint32_t life = got.lifetime < seconds() ? got.lifetime : seconds();
        expires_ = now + Duration::seconds(life);
        renew_at_ = now + Duration::milliseconds(std::int64_t{life} * 500);
    }
    void send_due(TimePoint now) {
        if (pcp_.alive && pcp_.due <= now && step_of(pcp_, pcp_tries, now)) send_pcp_ = true;
        if (nat_pmp_.alive && nat_pmp_.due <= now && step_of(nat_pmp_, pcp_tries, now)) send_nat_pmp_ = true;
    }
    void taken_back(Lane& lane) {
        lane.alive = false;
        if (!pcp_.alive && !nat_pmp_.alive && !upnp_.alive) finish();
    }
    void finish() {
        state_ = State::closed;
        changed_ = true;
    }

    State state_ = State::idle;
    Method method_ = Method::none;
    Step step_ = Step::none;
    bool changed_ = false, forever_ = false;
    bool send_pcp_ = false, send_nat_pmp_ = false, send_address_ = false, send_http_ = false;
    int searches_ = 0, attempts_ = 0;
    Want want_;
    pcp::Nonce nonce_ = {};
    IpAddress gateway_, local_, gateway_v4_, external_;
    std::uint16_t external_port_ = 0, pinhole_ = 0;
    Epoch epoch_;
    Lane pcp_, nat_pmp_, upnp_;
    TimePoint renew_at_, expires_, give_up_;
    Error error_;
    upnp::Url description_;
    upnp::Service service_;
};

}  // namespace rejoin::inline v0_1::router

namespace rejoin::inline v0_1::router {

/// A port of this host that is reached from beyond the gateway, as long as this lives: asked for by PCP, NAT-PMP and UPnP, renewed, and
/// taken back by `close`. Destroying it lets it run out, or asks the gateway once to end it where a datagram is enough. Requests go to the
/// gateway alone, but for the search that UPnP begins with.
///
/// Belongs to its loop's thread, and is neither copied nor moved. Its handler may destroy it.
class Mapping {
public:
    explicit Mapping(Loop& loop)
        : loop_(loop),
          control_watch_(loop, Delegate<void(Ready)>::to<&Mapping::control_ready>(this)),
          search_watch_(loop, Delegate<void(Ready)>::to<&Mapping::search_ready>(this)),
          announcement_watch_(loop, Delegate<void(Ready)>::to<&Mapping::announcement_ready>(this)),
          http_watch_(loop, Delegate<void(Ready)>::to<&Mapping::http_ready>(this)),
          timer_(loop, Delegate<void()>::to<&Mapping::due>(this)) {}
    Mapping(const Mapping&) = delete;
    ~Mapping() {
        on_change_ = {};
        if (mapper_.state() == Mapper::State::asking || (mapper_.state() == Mapper::State::mapped && mapper_.method() != Method::upnp)) {
            mapper_.close(loop_.now());
            mapper_.advance(loop_.now());
            send();
        }
        if (destroyed_ != nullptr) *destroyed_ = true;
        stop();
    }

    /// It is mapped, or is not any more, or elsewhere; or nobody grants it.
    void on_change(Function<void()> handler) { on_change_ = std::move(handler); }

    /// Asks `gateway` to map the port to `local`, which is this host's address on the way there, of the same family. For IPv6 that is a
    /// pinhole, and `gateway_v4` is where UPnP is asked for one. `invalid_argument`; `invalid_state` unless
    /// it was never begun, or is closed; the system's error.
    Result<void> start(const Want& want, const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4 = {}) {
        using State = Mapper::State;
        if (const State is = state(); is == State::asking || is == State::mapped || is == State::failed) return Errc::invalid_state;
        if (want.port == 0 || gateway.family == Family::none || gateway.family != local.family) return Errc::invalid_argument;
        pcp::Nonce nonce;
        if (auto random = entropy(nonce); !random) return random;
        if (auto opened = open(gateway, local); !opened) return opened;
        mapper_.start(want, gateway, local, gateway_v4, nonce, loop_.now());
        pump();
        return {};
    }
    /// The way out is another now: asks there. Nothing happens where it is the same.
    Result<void> moved(const IpAddress& gateway, const IpAddress& local, const IpAddress& gateway_v4 = {}) {
        const Mapper::State is = state();
        if (is == Mapper::State::idle || is == Mapper::State::closing || is == Mapper::State::closed || mapper_.is_at(gateway, local))
            return {};
        if (gateway.family == Family::none || gateway.family != local.family) return Errc::invalid_argument;
        if (auto opened = open(gateway, local); !opened) return opened;
        mapper_.moved(gateway, local, gateway_v4, loop_.now());
        pump();
        return {};
    }
    /// Takes it back; `on_change` tells when that is done, a second later at most.
    void close() {
        mapper_.close(loop_.now());
        pump();
    }

    Mapper::State state() const { return mapper_.state(); }
    Method method() const { return mapper_.method(); }
    /// Where it is reached; not `valid` where that is not known.
    Endpoint external() const { return mapper_.external(); }
    /// Why it is not mapped, where nobody grants it.
    Error error() const { return mapper_.error(); }

private:
    Result<void> open(const IpAddress& gateway, const IpAddress& local) {
        stop();
        auto control = Socket::udp(gateway.family);
        auto search = Socket::udp(Family::v4);
        if (!control) return control.error();
        if (auto bound = control->bind(local, 0); !bound) return bound;
        if (auto connected = control->connect(gateway, pcp_port); !connected) return connected;
        control_ = std::move(*control);
        if (auto watched = control_watch_.start(control_.fd(), Ready::readable); !watched) return watched;
        hear_announcements(gateway, local);
        if (!search) return {};
        IpAddress from = IpAddress::v4(0, 0, 0, 0);
        if (local.family == Family::v4) from = local;
        if (search->bind(from, 0)) {
            search_ = std::move(*search);
            static_cast<void>(search_watch_.start(search_.fd(), Ready::readable));
        }
        return {};
    }
    // Where that fails, a restart of the gateway is seen with the next renewal.
    void hear_announcements(const IpAddress& gateway, const IpAddress& local) {
        auto made = Socket::udp(gateway.family);
        if (!made) return;
        IpAddress group = gateway.family == Family::v4 ? all_hosts_v4 : all_hosts_v6;
        group.scope = gateway.scope;
        if (!made->join(group, announcement_port, local)) return;
        announcements_ = std::move(*made);
        static_cast<void>(announcement_watch_.start(announcements_.fd(), Ready::readable));
    }
    void stop() {
        control_watch_.stop();
        search_watch_.stop();
        announcement_watch_.stop();
        control_.close();
        search_.close();
        announcements_.close();
        end_http();
    }
    void send() {
        Mapper::Output out;
        while (mapper_.next(out)) {
            switch (out.kind) {
                case Mapper::Output::Kind::control:
                    if (const auto sent = control_.send(out.bytes()); !sent && sent.error() != Errc::would_block)
                        mapper_.refused(loop_.now());
                    break;
                case Mapper::Output::Kind::search:
                    if (search_) static_cast<void>(search_.send_to(out.bytes(), out.to.ip(), out.to.port()));
                    break;
                case Mapper::Output::Kind::http:
                    start_http(out);
                    break;
            }
        }
    }
    // What is to be sent, and told. May destroy this.
    void pump() {
        send();
        if (mapper_.state() == Mapper::State::closed) stop();
        timer_.at(mapper_.deadline());
        if (!mapper_.changed() || !on_change_) return;
        bool destroyed = false;
        bool* const outer = std::exchange(destroyed_, &destroyed);
        Function<void()> handler = std::move(on_change_);  // which may be replaced, and outlives what it destroys
        handler();
        if (destroyed) {
            if (outer != nullptr) *outer = true;
            return;
        }
        destroyed_ = outer;
        if (!on_change_) on_change_ = std::move(handler);
    }
    void due() {
        mapper_.advance(loop_.now());
        pump();
    }
    void control_ready(Ready) {
        std::byte room[1500];
        for (int i = 0; i < 16; ++i) {
            const auto size = control_.receive(room);
            if (!size) {
                if (size.error() != Errc::would_block) mapper_.refused(loop_.now());  // nobody listens there
                break;
            }
            mapper_.control(control_.peer_endpoint(), Bytes(room, *size), loop_.now());
        }
        pump();
    }
    void search_ready(Ready) {
        each_datagram(search_, [&](const Endpoint& from, Bytes datagram) { mapper_.found(from, datagram, loop_.now()); });
        pump();
    }
    void announcement_ready(Ready) {
        each_datagram(announcements_,
                      [&](const Endpoint& from, Bytes datagram) { mapper_.announced(unmapped(from.ip()), datagram, loop_.now()); });
        pump();
    }
    template <class F>
    static void each_datagram(Socket& socket, F f) {
        std::byte room[1500];
        for (int i = 0; i < 16; ++i) {
            Endpoint from;
            const auto size = socket.receive_from(room, from);
            if (!size && size.error() == Errc::too_large) continue;
            if (!size) break;
            f(from, Bytes(room, *size));
        }
    }

    // ---- One request over TCP at a time.

    void end_http() {
        http_watch_.stop();
        http_.close();
    }
    void start_http(const Mapper::Output& out) {
        end_http();
        request_ = out.text;
        sent_ = 0;
        answer_.clear();
        auto made = Socket::tcp(out.to.ip().family);
        if (!made) return fail_http(made.error());
        http_ = std::move(*made);
        if (out.from.family != Family::none)
            if (auto bound = http_.bind(out.from, 0); !bound) return fail_http(bound.error());
        if (auto connected = http_.connect(out.to.ip(), out.to.port()); !connected && connected.error() != Errc::would_block)
            return fail_http(connected.error());
        if (auto watched = http_watch_.start(http_.fd(), Ready::writable); !watched) fail_http(watched.error());
    }
    void fail_http(Error error) {
        end_http();
        mapper_.http(error, loop_.now());
    }
    void http_ready(Ready) {
        if (sent_ == 0)
            if (const Error error = http_.take_error()) return fail_http(error), pump();
        if (sent_ < request_.size()) {
            const auto sent = http_.send(TextView(request_.data() + sent_, request_.size() - sent_).bytes());
            if (!sent && sent.error() != Errc::would_block) return fail_http(sent.error()), pump();
            if (sent) sent_ += *sent;
            if (sent_ == request_.size()) http_watch_.change(Ready::readable);
            return;
        }
        char room[8192];
        for (;;) {
            const auto size = http_.receive({reinterpret_cast<std::byte*>(room), sizeof room});
            if (!size && size.error() == Errc::would_block) return;
            if (!size) return fail_http(size.error()), pump();
            if (answer_.size() + *size > 2 * XmlReader::size_max) return fail_http(Errc::too_large), pump();
            if (!answer_.append(room, *size)) return fail_http(Errc::out_of_memory), pump();
            upnp::HttpAnswer answer;
            const auto whole = upnp::read_http({answer_.data(), answer_.size()}, *size == 0, answer);
            if (!whole) return fail_http(whole.error()), pump();
            if (!*whole) continue;
            end_http();
            mapper_.http(std::move(answer), loop_.now());
            return pump();
        }
    }

    Loop& loop_;
    Mapper mapper_;
    Function<void()> on_change_;
    bool* destroyed_ = nullptr;
    Socket control_, search_, announcements_, http_;
    Loop::Watch control_watch_, search_watch_, announcement_watch_, http_watch_;
    Loop::Timer timer_;
    upnp::Request request_;
    std::size_t sent_ = 0;
    Array<char> answer_;
};

}  // namespace rejoin::inline v0_1::router

// `Firewall`: that of the host.

namespace rejoin::inline v0_1::firewall {

/// Who asked for an opening, and until when. Everything is found again without it, by its tag; it says what a tag cannot.
struct JournalEntry {
    Tag tag;
    std::int64_t until = 0;  ///< seconds since 1970; 0: until it is taken back
    std::uint32_t user = 0;
};

/// One line for each; what is no entry is passed over. Pure.
template <class F>
void each_entry(TextView text, F f) {
    while (text.size() > 0) {
        TextView line = detail::take_line(text);
        JournalEntry entry;
        std::size_t end = 0;
        while (end < line.size() && line[end] != ' ') ++end;
        if (end > 55 || !rule_of({line.data(), end})) continue;
        entry.tag = TextView(line.data(), end);
        line = detail::behind(line, end);
        std::int64_t numbers[2] = {};
        bool good = true;
        for (std::int64_t& number : numbers) {
            good = good && line.size() > 1 && line[0] == ' ' && line[1] >= '0' && line[1] <= '9';
            if (good) line = detail::behind(line, 1);
            while (good && line.size() > 0 && line[0] >= '0' && line[0] <= '9' && number < INT64_MAX / 20) {
                number = number * 10 + (line[0] - '0');
                line = detail::behind(line, 1);
            }
        }
        entry.until = numbers[0];
        entry.user = static_cast<std::uint32_t>(numbers[1]);
        if (good && line.size() == 0) f(entry);
    }
}
inline Text<127> to_line(const JournalEntry& entry) {
    return Text<127>(entry.tag).append(" ").append_number(entry.until).append(" ").append_number(entry.user).append("\n");
}

}  // namespace rejoin::inline v0_1::firewall

#if !defined(_WIN32)
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace rejoin::inline v0_1::firewall {

/// The journal in a file, which is replaced whole: a crash leaves the old one or the new one.
class Journal {
public:
    static constexpr std::size_t size_max = 256 * 1024;
    explicit Journal(TextView path) : path_(path) {}

    /// Calls `f(const JournalEntry&)` with all that it says; `out_of_memory`.
    template <class F>
    Error each(F f) const {
        return read(f) ? Error() : Error(Errc::out_of_memory);
    }
    /// What it says of a tag; false where it says nothing.
    bool find(TextView tag, JournalEntry& to) const {
        bool found = false;
        read([&](const JournalEntry& entry) {
            if (!(TextView(entry.tag) == tag)) return;
            to = entry;
            found = true;
        });
        return found;
    }
    /// Says that instead of what it said of that tag before; `gone`: it says nothing of it any more. The system's error; `out_of_memory`.
    Error note(const JournalEntry& entry, bool gone = false) const {
        JournalEntry there;
        if (gone && !find(entry.tag, there)) return {};
        Text<255> folder(path_);
        for (std::size_t i = path_.size(); i-- > 1;)
            if (path_.data()[i] == '/') {
                folder = TextView(path_.data(), i);
                break;
            }
        ::mkdir(folder.c_str(), 0755);
        // Nobody else writes meanwhile; that may be locked by nobody without privilege, who could keep it for ever.
        const int lock = ::open(Text<260>(path_).append(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock < 0) return Error::system(errno);
        Error error = ::flock(lock, LOCK_EX) == 0 ? Error() : Error::system(errno);
        if (!error) error = replace(entry, gone);
        ::close(lock);
        return error;
    }

private:
    Error replace(const JournalEntry& entry, bool gone) const {
        Array<char> all;
        bool kept = true;
        const bool was_read = read([&](const JournalEntry& other) {
            const auto line = to_line(other);
            if (!(other.tag == entry.tag)) kept = kept && all.append(line.data(), line.size());
        });
        const auto line = to_line(entry);
        if (!gone) kept = kept && all.append(line.data(), line.size());
        if (!was_read || !kept) return Errc::out_of_memory;
        const Text<260> fresh = Text<260>(path_).append(".new");
        const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0) return Error::system(errno);
        const ssize_t wrote = ::write(fd, all.data(), all.size());
        Error error = wrote < 0 ? Error::system(errno) : static_cast<std::size_t>(wrote) < all.size() ? Error::system(ENOSPC) : Error();
        if (::close(fd) != 0 && !error) error = Error::system(errno);
        if (!error && ::rename(fresh.c_str(), path_.c_str()) == 0) return {};
        if (!error) error = Error::system(errno);
        ::unlink(fresh.c_str());
        return error;
    }
    template <class F>
    bool read(F f) const {
        Array<std::byte> room;
        std::byte* const to = room.extend(size_max);
        if (to == nullptr) return false;
        if (const auto size = read_file(path_.c_str(), {to, size_max})) each_entry({reinterpret_cast<const char*>(to), *size}, f);
        return true;
    }
    Text<255> path_;
};

}  // namespace rejoin::inline v0_1::firewall
#endif

namespace rejoin::inline v0_1::firewall {

/// What may stand between a port and the others.
enum class System : std::uint8_t { nftables, iptables, firewalld, ufw, windows, application_firewall, pf, ipfw };
constexpr const char* to_text(System system) {
    constexpr const char* names[] = {"nftables", "iptables", "firewalld", "ufw", "Windows Firewall", "application firewall", "pf", "ipfw"};
    return names[static_cast<int>(system)];
}

/// How one of them stands to a rule.
enum class Stance : std::uint8_t {
    active,   ///< is there; no rule was asked about
    allows,   ///< lets it in, and did so before
    opened,   ///< lets it in by what carries the rule's tag
    blocks,   ///< does not; `command` would open it
    refused,  ///< does not, and is not this host's to change: it is managed, or blocks everything
    unknown,  ///< cannot be told: `error`
};
constexpr const char* to_text(Stance stance) {
    constexpr const char* names[] = {"active", "allows", "opened", "blocks", "blocks, and is not to be changed here", "unknown"};
    return names[static_cast<int>(stance)];
}

/// One gate: a chain, a zone, a profile.
struct Gate {
    System system = System::nftables;
    Stance stance = Stance::active;
    bool some_dropped = false;  ///< although it lets it in: what depends on who sends it, or on how much comes
    bool changed = false;       ///< by this call
    Error error;                ///< why it is not known, or could not be changed
    Text<191> where;            ///< in its own words: `inet filter input`, `zone public`
    Text<255> why;              ///< what decides there
    Command command;            ///< what an administrator could type to open it
    Command inverse;            ///< and to take that back

    friend bool operator==(const Gate& a, const Gate& b) {
        return a.system == b.system && a.stance == b.stance && a.some_dropped == b.some_dropped && a.changed == b.changed &&
               a.error == b.error && a.where == b.where && a.why == b.why && a.command == b.command && a.inverse == b.inverse;
    }
};

/// What somebody on another host has found out by trying.
enum class Proof : std::uint8_t { none, reached, not_reached };

/// What is known of a host's firewalls, and of a rule.
struct Report {
    Rule rule;  ///< `port` 0: none was asked about
    Proof proof = Proof::none;
    Error error;  ///< something else went wrong: `invalid_argument`, `out_of_memory`
    Array<Gate> gates;

    /// Whether no gate is known to block, and none is unknown.
    bool let_in() const {
        for (const Gate& gate : gates)
            if (gate.stance != Stance::allows && gate.stance != Stance::opened) return false;
        return !error;
    }
    bool changed() const {
        for (const Gate& gate : gates)
            if (gate.changed) return true;
        return false;
    }
    friend bool operator==(const Report& a, const Report& b) {
        if (!(a.rule == b.rule) || a.proof != b.proof || !(a.error == b.error) || a.gates.size() != b.gates.size()) return false;
        for (std::size_t i = 0; i < a.gates.size(); ++i)
            if (!(a.gates[i] == b.gates[i])) return false;
        return true;
    }
};

/// The same gate in another report; null where it is not there.
inline const Gate* find_gate(const Report& in, const Gate& like) {
    for (const Gate& gate : in.gates)
        if (gate.system == like.system && gate.where == like.where) return &gate;
    return nullptr;
}
/// What `revert` has changed: the gates that were opened before it, and are not any more.
inline void mark_reverted(const Report& before, Report& after) {
    for (Gate& gate : after.gates)
        if (const Gate* const was = find_gate(before, gate)) gate.changed = was->stance == Stance::opened && gate.stance != Stance::opened;
    for (const Gate& was : before.gates) {
        if (was.stance != Stance::opened || find_gate(after, was) != nullptr) continue;
        Gate gate;  // it has nothing to say any more
        gate.system = was.system;
        gate.stance = Stance::allows;
        gate.changed = true;
        gate.where = was.where;
        if (!after.gates.push(std::move(gate))) after.error = Errc::out_of_memory;
    }
}

/// In one line, for people: nothing is called open that nobody has reached.
inline Description summary(const Report& report) {
    Description text;
    if (report.error) return text.append("could not be looked at");
    if (report.rule.port != 0) text.append(ports_of(report.rule)).append("/").append(to_text(report.rule.protocol)).append(": ");
    if (report.proof == Proof::reached) return text.append("open: another host has reached it");
    std::size_t blocking = 0, unknown = 0, final = 0;
    for (const Gate& gate : report.gates) {
        blocking += gate.stance == Stance::blocks ? 1 : 0;
        final += gate.stance == Stance::refused ? 1 : 0;
        unknown += gate.stance == Stance::unknown ? 1 : 0;
    }
    if (final > 0) return text.append("blocked, and not to be changed here");
    if (blocking > 0) return text.append("blocked by this host");
    if (unknown > 0) return text.append("unknown: what is active cannot be read without privilege");
    if (report.rule.port == 0) return text.append(report.gates.empty() ? "no firewall is active" : "firewalls are active");
    text.append("let in by this host");
    if (report.proof == Proof::not_reached) return text.append(", but another host has not reached it: something else is in the way");
    return text.append("; unverified, as no other host has tried");
}
namespace detail {

// What others have named may have anything in it, and a terminal does what it is told.
inline Text<255> printable(TextView text) {
    Text<255> plain;
    for (char c : text) plain.append({static_cast<unsigned char>(c) < ' ' || c == 127 ? "?" : &c, 1});
    return plain;
}

}  // namespace detail

/// Calls `f(TextView)` with each line of all of it, without its end.
template <class F>
void each_line(const Report& report, F f) {
    f(TextView(summary(report)));
    for (const Gate& gate : report.gates) {
        Text<511> line("  ");
        line.append(to_text(gate.system));
        if (!gate.where.empty()) line.append(", ").append(detail::printable(gate.where));
        line.append(": ").append(to_text(gate.stance));
        if (gate.changed) line.append(" (changed now)");
        if (!gate.why.empty()) line.append(" (").append(detail::printable(gate.why)).append(")");
        if (gate.some_dropped) line.append("; some may be dropped, depending on who sends it or how much comes");
        f(TextView(line));
        if (gate.error) f(TextView(Text<127>("    error ").append_number(gate.error.code())));
        if (!gate.command.empty()) f(TextView(Text<1600>("    to open:    ").append(gate.command)));
        if (!gate.inverse.empty()) f(TextView(Text<1600>("    to revert:  ").append(gate.inverse)));
    }
}

}  // namespace rejoin::inline v0_1::firewall

// What a packet filter of chains would do with what a rule is to let in. Pure.
namespace rejoin::inline v0_1::firewall {

/// Whether a condition holds for the packets in question. Ordered, so that of two that both have to hold the smaller counts.
enum class Holds : std::uint8_t {
    never,
    perhaps,  ///< that depends on what is not known, such as who sends them
    partly,   ///< for some of the ports that are asked for, whatever else
    always,
};
constexpr Holds both(Holds a, Holds b) { return a < b ? a : b; }
constexpr Holds opposite(Holds a) { return a == Holds::never ? Holds::always : a == Holds::always ? Holds::never : a; }

/// The packets in question: the first of a conversation, from another host, to a port of this one.
struct Sample {
    bool v6 = false;
    Protocol protocol = Protocol::tcp;
    std::uint16_t first_port = 0, last_port = 0;
    Text<15> interface_name;  ///< empty: any but the loopback
    std::uint32_t interface_index = 0;
};

/// What becomes of a packet.
enum class Fate : std::uint8_t { none, accepted, dropped };

struct FilterRule {
    enum class Verdict : std::uint8_t { none, accept, drop, jump, go_to, leave };
    Verdict verdict = Verdict::none;
    Holds holds = Holds::never;
    std::uint32_t target = 0;  ///< of `jump` and `go_to`: which chain
    std::uint64_t handle = 0;  ///< what the caller calls it
};

/// How it ends in one chain, and at which of its rules: their number, where none decides.
struct Walk {
    Fate fate = Fate::none;
    std::size_t at = 0;
    bool some_dropped = false;  ///< although not all: what depends on who sends it, or on how much comes
};

struct FilterChain {
    Array<FilterRule> rules;
    Walk walk;  ///< once it was walked
    bool walked = false;
};

namespace detail {

inline constexpr int jumps_max = 16;  // the kernel's own bound (NFT_JUMP_STACK_SIZE)

// Each chain is walked once, whoever jumps there.
inline const Walk& walk_chain(Array<FilterChain>& chains, std::size_t which, int depth) {
    using V = FilterRule::Verdict;
    FilterChain& chain = chains[which];
    Walk& result = chain.walk;
    if (chain.walked) return result;
    chain.walked = true;
    for (result.at = 0; result.at < chain.rules.size(); ++result.at) {
        const FilterRule& rule = chain.rules[result.at];
        if (rule.holds == Holds::never) continue;
        Fate fate = Fate::none;
        bool leaves = false;
        if (rule.verdict == V::accept || rule.verdict == V::drop) {
            fate = rule.verdict == V::accept ? Fate::accepted : Fate::dropped;
        } else if (rule.verdict == V::leave) {
            leaves = true;
        } else if (rule.verdict != V::none && depth < jumps_max && rule.target < chains.size()) {
            const Walk& there = walk_chain(chains, rule.target, depth + 1);
            fate = there.fate;
            result.some_dropped = result.some_dropped || there.some_dropped;
            leaves = rule.verdict == V::go_to;
        }
        // What drops some of the ports is in the way of all; what accepts some of them is not enough.
        if (fate == Fate::dropped && rule.holds < Holds::partly) result.some_dropped = true;
        if ((fate == Fate::dropped && rule.holds >= Holds::partly) || (fate == Fate::accepted && rule.holds == Holds::always)) {
            result.fate = fate;
            return result;
        }
        if (leaves && rule.holds == Holds::always) return result;
    }
    return result;
}

}  // namespace detail

/// Goes through that base chain, and those that it jumps to; `policy`: what becomes of what no rule decides. A chain is walked once.
inline Walk walk(Array<FilterChain>& chains, std::size_t base, Fate policy) {
    Walk result = detail::walk_chain(chains, base, 0);
    if (result.fate == Fate::none) {
        result.fate = policy;
        result.at = chains[base].rules.size();
    }
    return result;
}

}  // namespace rejoin::inline v0_1::firewall

// iptables(8): what `iptables-save` prints, and the words of its commands. Pure.
namespace rejoin::inline v0_1::firewall::iptables {

/// A command as a program is started with it: no shell takes it apart.
class Words {
public:
    Words& add(TextView word) {
        if (count_ < words_max && text_.size() + word.size() < sizeof(Command)) {
            starts_[count_++] = static_cast<std::uint16_t>(text_.size());
            text_.append(word).append({"", 1});
        } else {
            whole_ = false;
        }
        return *this;
    }
    /// Whether all of them had room.
    bool whole() const { return whole_; }
    std::size_t size() const { return count_; }
    const char* operator[](std::size_t i) const { return text_.data() + starts_[i]; }
    /// As it is typed.
    Command typed() const {
        Command command;
        for (std::size_t i = 0; i < count_; ++i) add_word(command, (*this)[i]);
        return command;
    }

private:
    static constexpr std::size_t words_max = 32;
    Command text_;
    std::uint16_t starts_[words_max] = {};
    std::size_t count_ = 0;
    bool whole_ = true;
};

/// What opens it in chain `INPUT`: `-I INPUT n` before the rule of that number, or behind the last for 0; `remove`: what takes that back.
inline Words words(const char* program, const Rule& rule, std::size_t before, bool remove) {
    Words words;
    words.add(program).add("-w").add(remove ? "-D" : before == 0 ? "-A" : "-I").add("INPUT");
    if (!remove && before != 0) words.add(Text<24>().append_number(static_cast<std::int64_t>(before)));
    if (!rule.interface_name.empty()) words.add("-i").add(rule.interface_name);
    words.add("-p").add(to_text(rule.protocol)).add("-m").add(to_text(rule.protocol)).add("--dport").add(ports_of(rule, ":"));
    words.add("-m").add("comment").add("--comment").add(tag_of(rule)).add("-j").add("ACCEPT");
    return words;
}

namespace detail {

// The words of one line, with quotes taken off.
class Line {
public:
    explicit Line(TextView line) : rest_(line) {}
    bool next(Text<255>& word) {
        word = {};
        while (rest_.size() > 0 && rest_[0] == ' ') drop();
        if (rest_.size() == 0) return false;
        for (bool quoted = false; rest_.size() > 0 && (quoted || rest_[0] != ' '); drop()) {
            if (rest_[0] == '"') {
                quoted = !quoted;
                continue;
            }
            if (rest_[0] == '\\' && quoted && rest_.size() > 1) drop();
            word.append({rest_.data(), 1});
        }
        return true;
    }

private:
    void drop() { rest_ = firewall::detail::behind(rest_, 1); }
    TextView rest_;
};

inline bool lists(TextView list, TextView wanted) {
    while (list.size() > 0) {
        std::size_t n = 0;
        while (n < list.size() && list[n] != ',') ++n;
        if (TextView(list.data(), n) == wanted) return true;
        list = firewall::detail::behind(list, n < list.size() ? n + 1 : n);
    }
    return false;
}
// `22`, `22:24`, or several with commas between; names are not known here.
inline Holds in_ports(TextView list, const Sample& sample) {
    std::uint32_t count = 0;
    const std::uint32_t all = std::uint32_t{sample.last_port} - sample.first_port + 1;
    while (list.size() > 0) {
        const int first = firewall::detail::take_port(list);
        int last = first;
        if (list.size() > 0 && list[0] == ':') {
            list = firewall::detail::behind(list, 1);
            last = firewall::detail::take_port(list);
        }
        if (first < 0 || last < first) return Holds::perhaps;
        if (list.size() > 0 && list[0] != ',') return Holds::perhaps;
        if (list.size() > 0) list = firewall::detail::behind(list, 1);
        const int from = first > sample.first_port ? first : sample.first_port, to = last < sample.last_port ? last : sample.last_port;
        if (to >= from) count += static_cast<std::uint32_t>(to - from + 1);
    }
    return count == 0 ? Holds::never : count >= all ? Holds::always : Holds::partly;
}

}  // namespace detail

/// What `iptables-save` prints of table `filter`, for one sample.
class Saved {
public:
    static constexpr std::size_t chains_max = 4096, rules_max = 1 << 17;

    /// `malformed`, `too_large`, `out_of_memory`.
    Error read(TextView text, const Sample& sample) {
        bool filter = false;
        while (text.size() > 0) {
            const TextView line = firewall::detail::take_line(text);
            if (line.size() == 0 || line[0] == '#') continue;
            if (line[0] == '*') {
                filter = line == TextView("*filter");
                continue;
            }
            if (!filter) continue;
            detail::Line words(line);
            Text<255> word;
            words.next(word);
            if (word.data()[0] == ':') {
                const std::size_t which = chain(firewall::detail::behind(word, 1));
                if (which == none) return Errc::too_large;
                words.next(word);
                drops_[which] = TextView(word) == TextView("DROP");
            } else if (TextView(word) == TextView("-A")) {
                if (const Error error = rule(words, sample)) return error;
            } else if (!(TextView(word) == TextView("COMMIT"))) {
                return Errc::malformed;
            }
        }
        return {};
    }
    /// What becomes of it in chain `INPUT`: `at` is the number of the deciding rule, from 1, or 0 for the policy. Once.
    Walk input() {
        Walk walked;
        const std::size_t which = find("INPUT");
        if (which == none) {
            walked.fate = Fate::accepted;
            return walked;
        }
        walked = walk(chains_, which, drops_[which] ? Fate::dropped : Fate::accepted);
        walked.at = walked.at < chains_[which].rules.size() ? walked.at + 1 : 0;
        return walked;
    }
    /// Whether there is more in `INPUT` than to let everything in.
    bool any() const {
        const std::size_t which = find("INPUT");
        return which != none && (drops_[which] || !chains_[which].rules.empty());
    }
private:
    static constexpr std::size_t none = ~std::size_t{0};
    std::size_t find(TextView name) const {
        for (std::size_t i = 0; i < names_.size(); ++i)
            if (names_[i] == name) return i;
        return none;
    }
    std::size_t chain(TextView name) {
        if (const std::size_t known = find(name); known != none) return known;
        if (names_.size() >= chains_max || !names_.push(Text<31>(name)) || !chains_.push({}) || !drops_.push(false)) return none;
        return names_.size() - 1;
    }
    Error rule(detail::Line& words, const Sample& sample) {
        Text<255> word, value;
        if (!words.next(word)) return Errc::malformed;
        const std::size_t in = chain(word);
        if (in == none || ++rules_ > rules_max) return Errc::too_large;
        FilterRule rule;
        rule.holds = Holds::always;
        bool inverted = false;
        const auto require = [&](Holds holds) { rule.holds = both(rule.holds, std::exchange(inverted, false) ? opposite(holds) : holds); };
        const auto is = [&](const char* option) { return TextView(word) == TextView(option); };
        while (words.next(word)) {
            if (is("!")) {
                inverted = true;
                continue;
            }
            if (is("-m")) {
                words.next(value);
                continue;
            }
            if (is("--comment")) {
                words.next(value);
                continue;
            }
            if (is("-j") || is("-g")) {
                words.next(value);
                const TextView target = value;
                rule.verdict = target == TextView("ACCEPT")                                 ? FilterRule::Verdict::accept
                               : target == TextView("DROP") || target == TextView("REJECT") ? FilterRule::Verdict::drop
                               : target == TextView("RETURN")                               ? FilterRule::Verdict::leave
                                                                                            : FilterRule::Verdict::none;
                if (const std::size_t there = find(target); rule.verdict == FilterRule::Verdict::none && there != none) {
                    rule.verdict = is("-g") ? FilterRule::Verdict::go_to : FilterRule::Verdict::jump;
                    rule.target = static_cast<std::uint32_t>(there);
                }
                break;  // what follows is the target's
            }
            if (is("-p")) {
                words.next(value);
                const bool tcp = TextView(value) == TextView("tcp") || TextView(value) == TextView("6"),
                           udp = TextView(value) == TextView("udp") || TextView(value) == TextView("17");
                require((sample.protocol == Protocol::tcp ? tcp : udp) ? Holds::always : Holds::never);
            } else if (is("-i")) {
                words.next(value);
                require(by(value, sample));
            } else if (is("--dport") || is("--dports")) {
                words.next(value);
                require(detail::in_ports(value, sample));
            } else if (is("--ctstate") || is("--state")) {
                words.next(value);
                require(detail::lists(value, "NEW") ? Holds::always : Holds::never);
            } else if (is("--dst-type")) {
                words.next(value);
                require(detail::lists(value, "LOCAL") ? Holds::always : Holds::never);
            } else if (is("--syn")) {
                require(Holds::always);
            } else if (word.size() > 1 && word.data()[0] == '-') {
                inverted = false;
                rule.holds = both(rule.holds, Holds::perhaps);
            }
        }
        return chains_[in].rules.push(rule) ? Error() : Error(Errc::out_of_memory);
    }
    static Holds by(TextView name, const Sample& sample) {
        if (name == TextView("lo")) return Holds::never;
        if (sample.interface_name.empty()) return Holds::perhaps;
        if (name.size() > 0 && name[name.size() - 1] == '+')
            return firewall::detail::starts(sample.interface_name, {name.data(), name.size() - 1}) ? Holds::always : Holds::never;
        return sample.interface_name == name ? Holds::always : Holds::never;
    }

    Array<Text<31>> names_;
    Array<FilterChain> chains_;
    Array<bool> drops_;
    std::size_t rules_ = 0;
};

/// Calls `f(const Words&)` with what takes away each rule whose comment is the tag, and nothing besides, in the words in which
/// `iptables-save` has printed it.
template <class F>
void each_tagged(TextView text, const Tag& tag, const char* tool, F f) {
    while (text.size() > 0) {
        const TextView line = firewall::detail::take_line(text);
        if (!firewall::detail::starts(line, "-A ")) continue;
        Words words;
        words.add(tool).add("-w").add("-D");
        detail::Line rest(firewall::detail::behind(line, 3));
        bool ours = false, comment = false;
        for (Text<255> word; rest.next(word); comment = word == TextView("--comment")) {
            ours = ours || (comment && word == TextView(tag));
            words.add(word);
        }
        if (ours) f(words);
    }
}
inline bool has_tagged(TextView text, const Tag& tag) {
    bool found = false;
    each_tagged(text, tag, "", [&](const Words&) { found = true; });
    return found;
}

}  // namespace rejoin::inline v0_1::firewall::iptables

// The application firewall of macOS, as its tool `socketfilterfw` tells of it: it lets programs in, each by its file and who has signed
// that, whatever the port. Pure.
namespace rejoin::inline v0_1::firewall::application_firewall {

inline constexpr const char* tool = "/usr/libexec/ApplicationFirewall/socketfilterfw";

enum class Listed : std::uint8_t { unknown, no, allowed, blocked };

struct State {
    bool known = false;  ///< the tool has answered
    bool on = false;
    bool blocks_all = false;    ///< whatever else is said
    bool allows_signed = true;  ///< programs that are signed with a certificate that Apple vouches for, unless they are listed as blocked
    Listed program = Listed::unknown;
};

namespace detail {

inline bool has(TextView text, TextView part) {
    for (std::size_t i = 0; i + part.size() <= text.size(); ++i) {
        std::size_t n = 0;
        while (n < part.size() && (text[i + n] | 0x20) == (part[n] | 0x20)) ++n;
        if (n == part.size()) return true;
    }
    return false;
}

}  // namespace detail

/// What `--getglobalstate`, `--getblockall`, `--getallowsigned` and `--getappblocked` print, in the words of macOS 10.13 to 15.
inline State read(TextView global, TextView block_all, TextView allow_signed, TextView program) {
    using detail::has;
    State state;
    state.known = has(global, "State = ") || has(global, "firewall is");
    state.on = has(global, "State = 1") || has(global, "State = 2") || (!has(global, "State = ") && has(global, "enabled"));
    state.blocks_all = has(global, "State = 2") && block_all.size() == 0;
    if (has(block_all, "disabled"))
        state.blocks_all = false;
    else if (has(block_all, "enabled") || has(block_all, "set to block all"))
        state.blocks_all = true;
    // Two lines: of what came with the system, and of what was downloaded, which is what counts here.
    if (has(allow_signed, "downloaded signed software disabled") || (!has(allow_signed, "downloaded") && has(allow_signed, "disabled")))
        state.allows_signed = false;
    if (has(program, "not part of the firewall") || has(program, "not in the firewall"))
        state.program = Listed::no;
    else if (has(program, "permitted") || has(program, "allowed") || has(program, "not blocked"))
        state.program = Listed::allowed;
    else if (has(program, "blocked") || has(program, "blocking"))
        state.program = Listed::blocked;
    return state;
}
/// Whether the tool says that device management forbids changes.
inline bool managed(TextView said) { return detail::has(said, "managed") || detail::has(said, "cannot be modified"); }

inline iptables::Words words(const char* option, const Rule& rule) {
    iptables::Words words;
    words.add(tool).add(option);
    if (!rule.program.empty()) words.add(rule.program);
    return words;
}

/// How it stands to the program, which is `signed_` (codesign(1) verifies it), and what could be done. False where it is off: no gate.
inline bool judge(const State& state, const Rule& rule, bool signed_, Gate& gate) {
    gate.system = System::application_firewall;
    gate.where = TextView(rule.program);
    if (!state.known) {
        gate.stance = Stance::unknown;
        gate.error = Errc::malformed;
        return true;
    }
    if (!state.on) return false;
    if (rule.port == 0) {
        gate.stance = Stance::active;
        if (state.blocks_all) gate.why = TextView("it blocks all incoming connections");
        return true;
    }
    if (state.blocks_all) {
        gate.stance = Stance::refused;
        gate.why = TextView("it is set to block all incoming connections, whatever else is allowed: System Settings, Network, Firewall");
        return true;
    }
    const bool by_signature = state.program != Listed::blocked && state.program != Listed::allowed && signed_ && state.allows_signed;
    gate.stance = state.program == Listed::allowed || by_signature ? Stance::allows : Stance::blocks;
    if (by_signature) gate.why = TextView("as signed software");
    if (gate.stance == Stance::allows) return true;
    const Command unblock = words("--unblockapp", rule).typed(), block = words("--blockapp", rule).typed();
    if (state.program == Listed::blocked) {
        gate.why = TextView("this program is listed as blocked: somebody has said no when the system asked");
        gate.command = Command("sudo ").append(unblock);
        gate.inverse = Command("sudo ").append(block);
        return true;
    }
    gate.why =
        TextView(signed_ ? "this program is not listed; the system asks when it listens"
                         : "this program is not listed, nor signed: the system asks when it listens, and again whenever its file changes");
    gate.command = Command("sudo ").append(words("--add", rule).typed()).append(" && sudo ").append(unblock);
    gate.inverse = Command("sudo ").append(words("--remove", rule).typed());
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::application_firewall

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

#if !defined(_WIN32)
#include <signal.h>

namespace rejoin::inline v0_1::firewall {

/// Where one of the system's tools is, which are not on everybody's path; empty: nowhere.
inline Text<63> find_tool(TextView name) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/", "/usr/libexec/ApplicationFirewall/"}) {
        const Text<63> path = Text<63>(folder).append(name);
        if (::access(path.c_str(), X_OK) == 0) return path;
    }
    return {};
}
/// Runs a tool to its end, without a shell, and adds what it prints to `output`: its exit status. Waits ten seconds at most, and then kills
/// it: `timed_out`. `unsupported` where it is not there; `too_large` for more than 16 MiB, or words without end; `out_of_memory`; the
/// system's error.
inline Result<int> run_tool(const iptables::Words& words, Array<char>& output) {
    if (!words.whole()) return Errc::too_large;
    const Text<63> path = find_tool(words[0]);
    if (path.empty()) return Errc::unsupported;
    const char* arguments[34] = {path.c_str()};
    for (std::size_t i = 1; i < words.size(); ++i) arguments[i] = words[i];
    Socket ours, theirs;
    if (auto made = UnixSocket::pair(ours, theirs); !made) return made.error();
    ProgramStart start;
    start.arguments = arguments;
    start.standard_io = theirs.fd();
    start.standard_error = ::open("/dev/null", O_WRONLY | O_CLOEXEC);  // this program's is not for tools to write to
    const auto child = start_program(start);
    if (start.standard_error >= 0) ::close(start.standard_error);
    if (!child) return child.error();
    theirs.close();
    const TimePoint until = monotonic_now() + Duration::seconds(10);
    Error error;
    for (char room[4096]; !error;) {
        const auto size = ours.receive({reinterpret_cast<std::byte*>(room), sizeof room});
        if (size && *size == 0) break;
        if (size) {
            if (output.size() > 16u << 20) error = Errc::too_large;
            if (!output.append(room, *size)) error = Errc::out_of_memory;
        } else if (size.error() == Errc::would_block) {
            rejoin::detail::PollEntry entry{ours.fd(), POLLIN, 0};
            const std::int64_t left = (until - monotonic_now()).milliseconds();
            if (left <= 0 || rejoin::detail::poll_wait(&entry, 1, static_cast<int>(left)) <= 0) error = Errc::timed_out;
        } else {
            error = size.error();
        }
    }
    if (error) ::kill(*child, SIGKILL);
    int status = 0;
    while (::waitpid(*child, &status, 0) < 0 && errno == EINTR) {
    }
    if (error) return error;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

}  // namespace rejoin::inline v0_1::firewall
#endif

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

#include <bit>

// nf_tables over netlink (linux/netfilter/nf_tables.h, nfnetlink.h): its numbers, named as the kernel has them but in small letters, and
// its messages, read and written. A message's header and the headers of attributes are in the machine's order, what is in attributes
// big-endian. Pure.
namespace rejoin::inline v0_1::firewall::nft {

// nlmsg_type and flags
inline constexpr std::uint16_t nlmsg_error = 2, nlmsg_done = 3, nfnl_msg_batch_begin = 0x10, nfnl_msg_batch_end = 0x11;
inline constexpr std::uint16_t subsystem = 10 << 8;  // NFNL_SUBSYS_NFTABLES
inline constexpr std::uint16_t nlm_f_request = 0x1, nlm_f_ack = 0x4, nlm_f_dump_intr = 0x10, nlm_f_excl = 0x200, nlm_f_create = 0x400,
                               nlm_f_append = 0x800, nlm_f_dump = 0x300;
enum Message : std::uint16_t {
    newtable = subsystem,
    gettable,
    deltable,
    newchain,
    getchain,
    delchain,
    newrule,
    getrule,
    delrule,
    newset,
    getset,
    delset,
    newsetelem,
    getsetelem,
    delsetelem,
};
// families, and hooks
inline constexpr std::uint8_t nfproto_unspec = 0, nfproto_inet = 1, nfproto_ipv4 = 2, nfproto_ipv6 = 10;
inline constexpr std::uint32_t hook_prerouting = 0, hook_input = 1;
// attributes
inline constexpr std::uint16_t nla_f_nested = 0x8000;
namespace chain {
inline constexpr std::uint16_t table = 1, handle = 2, name = 3, hook = 4, policy = 5, type = 7, flags = 10, hook_num = 1, hook_priority = 2;
}
namespace rule {
inline constexpr std::uint16_t table = 1, chain = 2, handle = 3, expressions = 4, position = 6, userdata = 7;
}
namespace set {
inline constexpr std::uint16_t table = 1, name = 2, flags = 3, key_type = 4, key_len = 5, data_type = 6, desc = 9, id = 10, userdata = 13;
inline constexpr std::uint32_t anonymous = 1, constant = 2, interval = 4, map = 8, timeout = 16, concat = 128;
}  // namespace set
namespace element {
inline constexpr std::uint16_t table = 1, set = 2, elements = 3, set_id = 4, key = 1, data = 2, flags = 3, timeout = 4;
inline constexpr std::uint32_t interval_end = 1, catchall = 2;
}  // namespace element
namespace expression {
inline constexpr std::uint16_t list_elem = 1, name = 1, data = 2, data_value = 1, data_verdict = 2, verdict_code = 1, verdict_chain = 2;
inline constexpr std::uint16_t immediate_dreg = 1, immediate_data = 2, cmp_sreg = 1, cmp_op = 2, cmp_data = 3, payload_dreg = 1,
                               payload_base = 2, payload_offset = 3, payload_len = 4, meta_dreg = 1, meta_key = 2, ct_dreg = 1, ct_key = 2,
                               bitwise_sreg = 1, bitwise_dreg = 2, bitwise_len = 3, bitwise_mask = 4, bitwise_xor = 5, bitwise_op = 6,
                               lookup_set = 1, lookup_sreg = 2, lookup_dreg = 3, lookup_flags = 5, range_sreg = 1, range_op = 2,
                               range_from = 3, range_to = 4, match_name = 1, match_info = 3;
inline constexpr std::uint32_t cmp_eq = 0, cmp_neq = 1, cmp_lt = 2, cmp_lte = 3, cmp_gt = 4, cmp_gte = 5, meta_protocol = 1, meta_iif = 4,
                               meta_iifname = 6, meta_nfproto = 15, meta_l4proto = 16, ct_state = 0, ct_state_new = 8, base_network = 1,
                               base_transport = 2;
inline constexpr std::uint32_t drop = 0, accept = 1, jump = 0xfffffffd, go_to = 0xfffffffc, leave = 0xfffffffb;
}  // namespace expression

inline constexpr std::size_t header_size = 16 + 4;  // nlmsghdr and nfgenmsg

/// Calls `f(type, payload) -> bool` for each attribute; false when one does not fit, or `f` refuses it.
template <class F>
bool each_attribute(Bytes attributes, std::endian order, F f) {
    while (!attributes.empty()) {
        if (attributes.size() < 4) return false;
        const std::size_t size = load<std::uint16_t>(attributes.data(), order);
        if (size < 4 || size > attributes.size()) return false;
        const auto type = static_cast<std::uint16_t>(load<std::uint16_t>(attributes.data() + 2, order) & 0x3fff);
        if (!f(type, attributes.subspan(4, size - 4))) return false;
        const std::size_t next = (size + 3) & ~std::size_t{3};
        attributes = attributes.subspan(next < attributes.size() ? next : attributes.size());
    }
    return true;
}
/// The payload of the first attribute of that type; empty when there is none.
inline Bytes attribute(Bytes attributes, std::endian order, std::uint16_t wanted) {
    Bytes found;
    each_attribute(attributes, order, [&](std::uint16_t type, Bytes payload) {
        if (type == wanted) found = payload;
        return type != wanted;
    });
    return found;
}
inline std::uint32_t number(Bytes payload, std::uint32_t otherwise = 0) {
    return payload.size() == 4 ? load_big<std::uint32_t>(payload.data()) : otherwise;
}
/// A text up to its zero.
inline TextView text(Bytes payload) {
    std::size_t size = 0;
    while (size < payload.size() && payload[size] != std::byte{0}) ++size;
    return {reinterpret_cast<const char*>(payload.data()), size};
}

/// One message of a datagram.
struct Received {
    std::uint16_t type = 0;  ///< `nlmsg_done`, `nlmsg_error`, or one of `Message` with `subsystem`
    std::uint16_t flags = 0;
    std::uint32_t sequence = 0;
    std::int32_t error = 0;  ///< errno, or 0 where an error says that there is none
    std::uint8_t family = 0;
    Bytes attributes;
};
/// Takes the first message off the datagram. False where there is none any more, or none that can be read.
inline bool next_message(Bytes& datagram, std::endian order, Received& to) {
    if (datagram.size() < 16) return false;
    const std::size_t size = load<std::uint32_t>(datagram.data(), order);
    if (size < 16 || size > datagram.size()) return false;
    const Bytes one = datagram.first(size);
    const std::size_t next = (size + 3) & ~std::size_t{3};
    datagram = datagram.subspan(next < datagram.size() ? next : datagram.size());
    to = {};
    to.type = load<std::uint16_t>(one.data() + 4, order);
    to.flags = load<std::uint16_t>(one.data() + 6, order);
    to.sequence = load<std::uint32_t>(one.data() + 8, order);
    if (to.type == nlmsg_error || to.type == nlmsg_done) {
        if (size >= 20) to.error = static_cast<std::int32_t>(0 - load<std::uint32_t>(one.data() + 16, order));
        return true;
    }
    if (size < header_size) return false;
    to.family = std::to_integer<std::uint8_t>(one[16]);
    to.attributes = one.subspan(header_size);
    return true;
}

/// Writes messages, one behind another. Memory that is out makes `ok` false, and what is written then is of no use.
class Writer {
public:
    explicit Writer(std::endian order = std::endian::native) : order_(order) {}

    void message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence, std::uint8_t family, std::uint16_t resource = 0) {
        end();
        start_ = bytes_.size();
        std::byte* const to = bytes_.extend(header_size);
        if (to == nullptr) return fail();
        std::memset(to, 0, header_size);
        put<std::uint16_t>(start_ + 4, type);
        put<std::uint16_t>(start_ + 6, flags);
        put<std::uint32_t>(start_ + 8, sequence);
        to[16] = std::byte{family};
        store_big<std::uint16_t>(to + 18, resource);
        open_ = true;
    }
    void add(std::uint16_t type, Bytes payload) {
        const std::size_t at = begin(type);
        const std::size_t padded = (payload.size() + 3) & ~std::size_t{3};
        std::byte* const to = bytes_.extend(padded);
        if (to == nullptr && padded > 0) return fail();
        if (padded > 0) std::memset(to, 0, padded);
        copy(to, payload);
        if (ok_) put<std::uint16_t>(at, static_cast<std::uint16_t>(4 + payload.size()));
    }
    void add(std::uint16_t type, std::uint32_t value) {
        std::byte raw[4];
        store_big(raw, value);
        add(type, Bytes(raw));
    }
    void add(std::uint16_t type, std::uint64_t value) {
        std::byte raw[8];
        store_big(raw, value);
        add(type, Bytes(raw));
    }
    /// With its zero.
    void add(std::uint16_t type, TextView text) {
        Text<255> terminated(text);
        add(type, Bytes(reinterpret_cast<const std::byte*>(terminated.data()), terminated.size() + 1));
    }
    /// An attribute that holds others: those that are added until `close`.
    std::size_t begin_nested(std::uint16_t type) { return begin(static_cast<std::uint16_t>(type | nla_f_nested)); }
    void close(std::size_t at) {
        if (ok_) put<std::uint16_t>(at, static_cast<std::uint16_t>(bytes_.size() - at));
    }
    /// Ends the message that was begun; what was written.
    Bytes end() {
        if (open_ && ok_) put<std::uint32_t>(start_, static_cast<std::uint32_t>(bytes_.size() - start_));
        open_ = false;
        return {bytes_.data(), bytes_.size()};
    }
    bool ok() const { return ok_; }

private:
    void fail() { ok_ = false; }
    std::size_t begin(std::uint16_t type) {
        const std::size_t at = bytes_.size();
        std::byte* const to = bytes_.extend(4);
        if (to == nullptr) {
            fail();
            return at;
        }
        put<std::uint16_t>(at, 4);
        put<std::uint16_t>(at + 2, type);
        return at;
    }
    template <class T>
    void put(std::size_t at, T value) {
        if (order_ == std::endian::big) return store_big(bytes_.data() + at, value);
        for (std::size_t i = 0; i < sizeof(T); ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
    }

    std::endian order_;
    Array<std::byte> bytes_;
    std::size_t start_ = 0;
    bool open_ = false;
    bool ok_ = true;
};

}  // namespace rejoin::inline v0_1::firewall::nft

// Whether one rule of nf_tables holds for a sample: its expressions, as far as what they look at is known. What is not known here holds
// perhaps. Pure.
namespace rejoin::inline v0_1::firewall::nft {

/// An element of a set or map.
struct Element {
    std::byte key[16] = {};
    bool ends = false;     ///< an interval ends before it
    bool catches = false;  ///< all that no other does
    std::uint32_t verdict = 0;
    Text<127> chain;
};
struct Set {
    Text<127> table, name;
    std::uint8_t family = 0;
    std::uint32_t flags = 0, key_type = 0, key_length = 0;
    bool known = false;  ///< `elements` are all of them
    Array<Element> elements;

    /// Whether what it holds can matter: addresses of others are not known anyway (nft's datatypes 7, 8 and 9), nor is what is put
    /// together.
    bool matters() const {
        return key_length > 0 && key_length <= 16 && (flags & set::concat) == 0 && !(key_type >= 7 && key_type <= 9) && key_type < 64;
    }
};

/// What a rule does, and whether it does.
struct Outcome {
    Holds holds = Holds::always;
    FilterRule::Verdict verdict = FilterRule::Verdict::none;
    TextView chain;  ///< of a jump
};

namespace detail {

using V = FilterRule::Verdict;

constexpr V verdict_of(std::uint32_t code) {
    return code == expression::accept  ? V::accept
           : code == expression::drop  ? V::drop
           : code == expression::jump  ? V::jump
           : code == expression::go_to ? V::go_to
           : code == expression::leave ? V::leave
                                       : V::none;
}

// What the kernel's registers hold, or what is known of it.
class Registers {
public:
    enum class Kind : std::uint8_t { unknown, bytes, port, of_interface };
    struct Register {
        Kind kind = Kind::unknown;
        std::uint8_t size = 0;
        std::byte bytes[16] = {};
    };

    // NFT_REG_1 to 4 are 16 bytes, NFT_REG32_00 to 15 are their quarters.
    Register* at(std::uint32_t number) {
        if (number >= 1 && number <= 4) return &all_[(number - 1) * 4];
        return number >= 8 && number < 24 ? &all_[number - 8] : nullptr;
    }
    void set(std::uint32_t number, Bytes bytes) {
        Register* const to = at(number);
        if (to == nullptr) return;
        *to = {};
        if (bytes.size() > sizeof to->bytes) return;
        to->kind = Kind::bytes;
        to->size = static_cast<std::uint8_t>(bytes.size());
        copy(to->bytes, bytes);
    }
    void set(std::uint32_t number, Kind kind) {
        if (Register* const to = at(number)) *to = {kind, 0, {}};
    }
    void forget() {
        for (Register& one : all_) one = {};
    }

private:
    Register all_[16];
};

class Evaluation {
public:
    Evaluation(const Sample& sample, const Array<Set>& sets, std::uint8_t family, TextView table, std::endian order)
        : sample_(sample), sets_(sets), family_(family), table_(table), order_(order) {}

    Outcome of(Bytes expressions) {
        const bool whole = each_attribute(expressions, order_, [this](std::uint16_t type, Bytes one) {
            if (type == expression::list_elem)
                step(text(attribute(one, order_, expression::name)), attribute(one, order_, expression::data));
            return out_.holds != Holds::never && out_.verdict == V::none;
        });
        static_cast<void>(whole);
        return out_;
    }

private:
    using Kind = Registers::Kind;

    std::uint32_t value(Bytes data, std::uint16_t type, std::uint32_t otherwise = 0) const {
        return number(attribute(data, order_, type), otherwise);
    }
    void require(Holds holds) { out_.holds = both(out_.holds, holds); }
    void load(std::uint32_t to, std::uint32_t host) {
        std::byte raw[4];
        for (std::size_t i = 0; i < 4; ++i) raw[order_ == std::endian::big ? 3 - i : i] = static_cast<std::byte>(host >> (8 * i));
        registers_.set(to, Bytes(raw));
    }
    void load_byte(std::uint32_t to, unsigned value) {
        const std::byte raw[] = {static_cast<std::byte>(value)};
        registers_.set(to, Bytes(raw));
    }

    void step(TextView name, Bytes data) {
        if (name == TextView("immediate")) return immediate(data);
        if (name == TextView("cmp")) return compare(data);
        if (name == TextView("range")) return range(data);
        if (name == TextView("lookup")) return lookup(data);
        if (name == TextView("payload")) return payload(data);
        if (name == TextView("meta")) return meta(data);
        if (name == TextView("ct")) return conntrack(data);
        if (name == TextView("fib")) return fib(data);
        if (name == TextView("bitwise")) return bitwise(data);
        if (name == TextView("match"))
            return match(text(attribute(data, order_, expression::match_name)), attribute(data, order_, expression::match_info));
        if (name == TextView("target")) return target(text(attribute(data, order_, expression::match_name)));
        if (name == TextView("reject")) return decide(V::drop);
        if (name == TextView("queue")) return require(Holds::perhaps), decide(V::drop);  // who takes it from there may do so
        for (const char* harmless : {"counter", "log", "notrack", "objref", "dynset", "last", "dup"})
            if (name == TextView(harmless)) return;
        require(Holds::perhaps);
        registers_.forget();
    }
    void decide(V verdict, TextView chain = {}) {
        out_.verdict = verdict;
        out_.chain = chain;
    }

    void immediate(Bytes data) {
        const std::uint32_t to = value(data, expression::immediate_dreg);
        const Bytes what = attribute(data, order_, expression::immediate_data);
        if (to != 0) return registers_.set(to, attribute(what, order_, expression::data_value));
        const Bytes verdict = attribute(what, order_, expression::data_verdict);
        decide(verdict_of(value(verdict, expression::verdict_code, 0xffffffff)),
               text(attribute(verdict, order_, expression::verdict_chain)));
    }
    void payload(Bytes data) {
        const std::uint32_t to = value(data, expression::payload_dreg), base = value(data, expression::payload_base),
                            offset = value(data, expression::payload_offset), length = value(data, expression::payload_len);
        if (base == expression::base_transport && offset == 2 && length == 2) {
            if (sample_.first_port != sample_.last_port) return registers_.set(to, Kind::port);
            std::byte raw[2];
            store_big(raw, sample_.first_port);
            return registers_.set(to, Bytes(raw));
        }
        if (base == expression::base_transport && offset == 13 && length == 1 && sample_.protocol == Protocol::tcp)
            return load_byte(to, 2);  // SYN
        if (base == expression::base_network && length == 1 && offset == (sample_.v6 ? 6u : 9u))
            return load_byte(to, static_cast<unsigned>(sample_.protocol));
        registers_.set(to, Kind::unknown);
    }
    void meta(Bytes data) {
        const std::uint32_t to = value(data, expression::meta_dreg);
        switch (value(data, expression::meta_key, 0xffffffff)) {
            case expression::meta_l4proto:
                return load_byte(to, static_cast<unsigned>(sample_.protocol));
            case expression::meta_nfproto:
                return load_byte(to, sample_.v6 ? nfproto_ipv6 : nfproto_ipv4);
            case expression::meta_protocol: {
                const std::byte v4[] = {std::byte{8}, std::byte{0}}, v6[] = {std::byte{0x86}, std::byte{0xdd}};
                return registers_.set(to, sample_.v6 ? Bytes(v6) : Bytes(v4));
            }
            case 19:  // NFT_META_PKTTYPE: for this host
                return load_byte(to, 0);
            case expression::meta_iifname: {
                if (sample_.interface_name.empty()) return registers_.set(to, Kind::of_interface);
                std::byte name[16] = {};
                copy(name, TextView(sample_.interface_name).bytes());
                return registers_.set(to, Bytes(name));
            }
            case expression::meta_iif:
                if (sample_.interface_index == 0) return registers_.set(to, Kind::of_interface);
                return load(to, sample_.interface_index);
            default:
                registers_.set(to, Kind::unknown);
        }
    }
    void conntrack(Bytes data) {
        const std::uint32_t to = value(data, expression::ct_dreg);
        if (value(data, expression::ct_key, 0xffffffff) == expression::ct_state) return load(to, expression::ct_state_new);
        registers_.set(to, Kind::unknown);
    }
    void fib(Bytes data) {
        // NFTA_FIB_DREG, _RESULT (3: the kind of the address) and _FLAGS (2: of where it goes): to this host, RTN_LOCAL.
        const std::uint32_t to = value(data, 1);
        if (value(data, 2) == 3 && (value(data, 3) & 2) != 0) return load(to, 2);
        registers_.set(to, Kind::unknown);
    }
    void bitwise(Bytes data) {
        const Registers::Register* const from = registers_.at(value(data, expression::bitwise_sreg));
        const std::uint32_t to = value(data, expression::bitwise_dreg);
        const Bytes mask = attribute(attribute(data, order_, expression::bitwise_mask), order_, expression::data_value);
        const Bytes flip = attribute(attribute(data, order_, expression::bitwise_xor), order_, expression::data_value);
        if (from == nullptr || from->kind != Kind::bytes || value(data, expression::bitwise_op) != 0 || mask.size() != from->size ||
            flip.size() != from->size)
            return registers_.set(to, Kind::unknown);
        std::byte result[16];
        for (std::size_t i = 0; i < mask.size(); ++i) result[i] = (from->bytes[i] & mask[i]) ^ flip[i];
        registers_.set(to, Bytes(result, mask.size()));
    }

    // How many of the ports are such that `good(port)`.
    template <class F>
    Holds of_ports(F good) const {
        std::uint32_t count = 0, all = std::uint32_t{sample_.last_port} - sample_.first_port + 1;
        for (std::uint32_t i = 0; i < all; ++i) count += good(static_cast<std::uint16_t>(sample_.first_port + i)) ? 1u : 0u;
        return count == 0 ? Holds::never : count == all ? Holds::always : Holds::partly;
    }
    static bool compares(std::uint32_t op, int order) {
        switch (op) {
            case expression::cmp_eq:
                return order == 0;
            case expression::cmp_neq:
                return order != 0;
            case expression::cmp_lt:
                return order < 0;
            case expression::cmp_lte:
                return order <= 0;
            case expression::cmp_gt:
                return order > 0;
            default:
                return order >= 0;
        }
    }
    // Of an interface of which only that is known that it is not the loopback.
    Holds is_interface(Bytes wanted) const {
        const bool loopback = wanted.size() == 4 ? rejoin::load<std::uint32_t>(wanted.data(), order_) == 1 : text(wanted) == TextView("lo");
        return loopback ? Holds::never : Holds::perhaps;
    }
    void compare(Bytes data) {
        const Registers::Register* const from = registers_.at(value(data, expression::cmp_sreg));
        const std::uint32_t op = value(data, expression::cmp_op, 0xffffffff);
        const Bytes with = attribute(attribute(data, order_, expression::cmp_data), order_, expression::data_value);
        if (from == nullptr || with.empty() || op > expression::cmp_gte) return require(Holds::perhaps);
        if (from->kind == Kind::of_interface && op <= expression::cmp_neq)
            return require(op == expression::cmp_eq ? is_interface(with) : opposite(is_interface(with)));
        if (from->kind == Kind::port && with.size() == 2) {
            const int port = load_big<std::uint16_t>(with.data());
            return require(of_ports([&](std::uint16_t one) { return compares(op, one - port); }));
        }
        if (from->kind != Kind::bytes || with.size() > from->size) return require(Holds::perhaps);  // shorter: a name's beginning
        require(compares(op, std::memcmp(from->bytes, with.data(), with.size())) ? Holds::always : Holds::never);
    }
    void range(Bytes data) {
        const Registers::Register* const in = registers_.at(value(data, expression::range_sreg));
        const Bytes from = attribute(attribute(data, order_, expression::range_from), order_, expression::data_value);
        const Bytes to = attribute(attribute(data, order_, expression::range_to), order_, expression::data_value);
        Holds holds = Holds::perhaps;
        if (in != nullptr && in->kind == Kind::port && from.size() == 2 && to.size() == 2)
            holds = of_ports([&](std::uint16_t one) {
                return one >= load_big<std::uint16_t>(from.data()) && one <= load_big<std::uint16_t>(to.data());
            });
        else if (in != nullptr && in->kind == Kind::bytes && from.size() == in->size && to.size() == in->size && in->size > 0)
            holds = std::memcmp(in->bytes, from.data(), in->size) >= 0 && std::memcmp(in->bytes, to.data(), in->size) <= 0 ? Holds::always
                                                                                                                           : Holds::never;
        require(value(data, expression::range_op) == 0 ? holds : opposite(holds));
    }

    static const Element* find(const Set& set, const std::byte* key, std::size_t size) {
        const Element* found = nullptr;
        const Element* otherwise = nullptr;
        for (const Element& one : set.elements) {
            if (one.catches) {
                otherwise = &one;
                continue;
            }
            const int order = std::memcmp(one.key, key, size);
            if ((set.flags & set::interval) == 0) {
                if (order == 0) return &one;
            } else if (order <= 0 && (found == nullptr || std::memcmp(found->key, one.key, size) < 0 ||
                                      (std::memcmp(found->key, one.key, size) == 0 && found->ends))) {
                found = &one;  // the last that begins or ends before it
            }
        }
        return found != nullptr && !found->ends ? found : otherwise;
    }
    void lookup(Bytes data) {
        const TextView name = text(attribute(data, order_, expression::lookup_set));
        const Registers::Register* const from = registers_.at(value(data, expression::lookup_sreg));
        const Bytes dreg = attribute(data, order_, expression::lookup_dreg);
        const bool inverted = (value(data, expression::lookup_flags) & 1) != 0;
        const Set* set = nullptr;
        for (const Set& one : sets_)
            if (one.family == family_ && one.name == name && one.table == table_) set = &one;
        const bool known = set != nullptr && set->known && from != nullptr;
        if (dreg.empty()) {
            Holds holds = Holds::perhaps;
            if (known && from->kind == Kind::bytes && from->size >= set->key_length)
                holds = find(*set, from->bytes, set->key_length) != nullptr ? Holds::always : Holds::never;
            else if (known && from->kind == Kind::port && set->key_length == 2)
                holds = of_ports([&](std::uint16_t one) {
                    std::byte raw[2];
                    store_big(raw, one);
                    return find(*set, raw, 2) != nullptr;
                });
            return require(inverted ? opposite(holds) : holds);
        }
        if (number(dreg) != 0) return require(Holds::perhaps), registers_.set(number(dreg), Kind::unknown);
        if (known && from->kind == Kind::bytes && from->size >= set->key_length) {
            const Element* const one = find(*set, from->bytes, set->key_length);
            if (one == nullptr) return require(Holds::never);
            return decide(verdict_of(one->verdict), one->chain);
        }
        require(Holds::perhaps);
        decide(V::drop);  // some may be
    }

    // ---- What iptables-nft leaves to the modules of iptables: structures of the kernel's, in the machine's order.

    std::uint16_t two(Bytes info, std::size_t at) const { return rejoin::load<std::uint16_t>(info.data() + at, order_); }
    bool in_ports(Bytes info, std::size_t at, std::uint16_t port) const { return port >= two(info, at) && port <= two(info, at + 2); }
    void match(TextView name, Bytes info) {
        const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(info[i]); };
        if (name == TextView("comment")) return;
        if ((name == TextView("tcp") && info.size() >= 12) || (name == TextView("udp") && info.size() >= 9)) {
            const bool tcp = name == TextView("tcp");
            if (tcp != (sample_.protocol == Protocol::tcp)) return require(Holds::never);
            const unsigned inverted = at(tcp ? 11 : 8);
            const Holds ports = of_ports([&](std::uint16_t one) { return in_ports(info, 4, one); });
            require((inverted & 2) != 0 ? opposite(ports) : ports);
            if (two(info, 0) != 0 || two(info, 2) != 0xffff || (tcp && at(8) != 0)) require(Holds::perhaps);
            if (tcp && at(9) != 0 && ((2 & at(9)) == at(10)) == ((inverted & 4) != 0)) require(Holds::never);
            return;
        }
        if (name == TextView("multiport") && info.size() >= 48 && at(1) <= 15) {  // xt_multiport_v1
            if (at(0) != 1) return require(Holds::perhaps);
            const Holds holds = of_ports([&](std::uint16_t one) {
                for (std::size_t i = 0; i < at(1); ++i) {
                    const std::uint16_t first = two(info, 2 + 2 * i);
                    const std::uint16_t last = at(32 + i) != 0 && i + 1 < at(1) ? two(info, 2 + 2 * ++i) : first;
                    if (one >= first && one <= last) return true;
                }
                return false;
            });
            return require(at(47) != 0 ? opposite(holds) : holds);
        }
        if (name == TextView("conntrack") && info.size() >= 152 && two(info, 146) == 1) {  // xt_conntrack_mtinfo2 and 3: the state alone
            const bool is = (two(info, 150) & expression::ct_state_new) != 0;
            return require(is != ((two(info, 148) & 1) != 0) ? Holds::always : Holds::never);
        }
        if (name == TextView("state") && info.size() >= 4)  // xt_state_info
            return require((rejoin::load<std::uint32_t>(info.data(), order_) & expression::ct_state_new) != 0 ? Holds::always
                                                                                                              : Holds::never);
        if (name == TextView("addrtype") && info.size() >= 8 && two(info, 0) == 0 && two(info, 2) != 0) {  // xt_addrtype_info_v1
            const bool is = (two(info, 2) & 1 << 2) != 0;                                                  // RTN_LOCAL
            return require(is != ((rejoin::load<std::uint32_t>(info.data() + 4, order_) & 2) != 0) ? Holds::always : Holds::never);
        }
        require(Holds::perhaps);
    }
    void target(TextView name) {
        if (name == TextView("REJECT") || name == TextView("DROP") || name == TextView("TARPIT")) return decide(V::drop);
        if (name == TextView("ACCEPT")) return decide(V::accept);
    }

    const Sample& sample_;
    const Array<Set>& sets_;
    const std::uint8_t family_;
    const TextView table_;
    const std::endian order_;
    Registers registers_;
    Outcome out_;
};

}  // namespace detail

/// What a rule of that table, by its expressions, does with the sample.
inline Outcome evaluate(Bytes expressions, const Sample& sample, const Array<Set>& sets, std::uint8_t family, TextView table,
                        std::endian order) {
    return detail::Evaluation(sample, sets, family, table, order).of(expressions);
}

}  // namespace rejoin::inline v0_1::firewall::nft

namespace rejoin::inline v0_1::firewall::nft {

/// The rules of nf_tables, read from the kernel's answers: chains, sets and what is in them, rules. Pure. Bounded: of more than it holds it
/// says so.
class Ruleset {
public:
    static constexpr std::size_t chains_max = 8192, sets_max = 8192, elements_max = 1 << 18, rules_max = 1 << 18, bytes_max = 64u << 20;

    struct Chain {
        Text<127> table, name;
        std::uint8_t family = 0;
        bool base = false;
        bool drops = false;  ///< by policy
        std::uint32_t hook = 0;
        std::int32_t priority = 0;
        Text<15> type;
    };
    struct Entry {
        std::uint32_t chain = 0, at = 0, size = 0;  ///< expressions, in the arena
        std::uint64_t handle = 0;
        Text<127> comment;
    };

    explicit Ruleset(std::endian order = std::endian::native) : order_(order) {}

    /// Takes what the kernel has answered to that request. `malformed`; `too_large` for more than it holds; `out_of_memory`; the system's
    /// error.
    Error read(Bytes datagram, std::uint32_t sequence, bool& done) {
        Received one;
        while (!datagram.empty()) {
            if (!next_message(datagram, order_, one)) return Errc::malformed;
            if (one.sequence != sequence) continue;  // an answer to what was asked before
            if (one.type == nlmsg_done || one.type == nlmsg_error) {
                done = true;
                if (one.error != 0) return Error::system(one.error);
                continue;
            }
            if (!each_attribute(one.attributes, order_, [](std::uint16_t, Bytes) { return true; })) return Errc::malformed;
            interrupted_ = interrupted_ || (one.flags & nlm_f_dump_intr) != 0;
            Error error;
            if (one.type == newchain) error = chain_is(one);
            if (one.type == newset) error = set_is(one);
            if (one.type == newsetelem) error = elements_are(one);
            if (one.type == newrule) error = rule_is(one);
            if (error) return error;
        }
        return {};
    }
    /// Whether it changed while it was read: then it is to be read again.
    bool interrupted() const { return interrupted_; }
    const Array<Chain>& chains() const { return chains_; }
    const Array<Entry>& rules() const { return rules_; }
    Array<Set>& sets() { return sets_; }
    const Array<Set>& sets() const { return sets_; }

    /// What becomes of the sample in a base chain: the rule that decides, as a place in `rules()`, or `no_rule` for the policy.
    static constexpr std::size_t no_rule = ~std::size_t{0};
    struct Decision {
        Fate fate = Fate::none;
        std::size_t rule = no_rule;  ///< of the base chain
        bool some_dropped = false;
    };
    /// For every base chain in turn, `f(which, Decision)`. False when memory is out.
    template <class F>
    bool decide(const Sample& sample, F f) const {
        Array<FilterChain> chains;
        for (std::size_t i = 0; i < chains_.size(); ++i)
            if (!chains.push({})) return false;
        Array<std::size_t> firsts;  // the places in rules_ of each chain's, in order
        for (std::size_t i = 0; i < rules_.size(); ++i) {
            const Entry& entry = rules_[i];
            const Chain& chain = chains_[entry.chain];
            if (!meets(chain.family, sample.v6)) continue;
            const Outcome outcome = evaluate({arena_.data() + entry.at, entry.size}, sample, sets_, chain.family, chain.table, order_);
            FilterRule rule;
            rule.holds = outcome.holds;
            rule.verdict = outcome.verdict;
            rule.handle = i;
            if (outcome.verdict == FilterRule::Verdict::jump || outcome.verdict == FilterRule::Verdict::go_to)
                rule.target = static_cast<std::uint32_t>(find(chain.family, chain.table, outcome.chain));
            if (!chains[entry.chain].rules.push(rule)) return false;
        }
        for (std::size_t i = 0; i < chains_.size(); ++i) {
            if (!chains_[i].base || !meets(chains_[i].family, sample.v6)) continue;
            const Walk walked = walk(chains, i, chains_[i].drops ? Fate::dropped : Fate::accepted);
            Decision decision{walked.fate, no_rule, walked.some_dropped};
            if (walked.at < chains[i].rules.size()) decision.rule = static_cast<std::size_t>(chains[i].rules[walked.at].handle);
            f(i, decision);
        }
        return true;
    }

    /// To where a rule jumps, whenever it holds; empty where it does not.
    TextView target_of(std::size_t rule) const {
        TextView found;
        const Entry& entry = rules_[rule];
        each_attribute({arena_.data() + entry.at, entry.size}, order_, [&](std::uint16_t, Bytes one) {
            if (!(text(attribute(one, order_, expression::name)) == TextView("immediate"))) return true;
            const Bytes data = attribute(attribute(one, order_, expression::data), order_, expression::immediate_data);
            found = text(attribute(attribute(data, order_, expression::data_verdict), order_, expression::verdict_chain));
            return found.size() == 0;
        });
        return found;
    }

private:
    static bool meets(std::uint8_t family, bool v6) { return family == nfproto_inet || family == (v6 ? nfproto_ipv6 : nfproto_ipv4); }
    std::size_t find(std::uint8_t family, TextView table, TextView name) const {
        for (std::size_t i = 0; i < chains_.size(); ++i)
            if (chains_[i].family == family && chains_[i].name == name && chains_[i].table == table) return i;
        return chains_.size();
    }
    std::size_t find_set(std::uint8_t family, TextView table, TextView name) const {
        for (std::size_t i = 0; i < sets_.size(); ++i)
            if (sets_[i].family == family && sets_[i].name == name && sets_[i].table == table) return i;
        return sets_.size();
    }
    Bytes of(const Received& one, std::uint16_t type) const { return attribute(one.attributes, order_, type); }

    Error chain_is(const Received& one) {
        if (chains_.size() >= chains_max) return Errc::too_large;
        Chain made;
        made.family = one.family;
        made.table = text(of(one, chain::table));
        made.name = text(of(one, chain::name));
        made.type = text(of(one, chain::type));
        made.drops = number(of(one, chain::policy), 1) == 0;
        if (const Bytes hook = of(one, chain::hook); !hook.empty()) {
            made.base = true;
            made.hook = number(attribute(hook, order_, chain::hook_num), 0xffffffff);
            made.priority = static_cast<std::int32_t>(number(attribute(hook, order_, chain::hook_priority)));
        }
        return chains_.push(std::move(made)) ? Error() : Error(Errc::out_of_memory);
    }
    Error set_is(const Received& one) {
        if (sets_.size() >= sets_max) return Errc::too_large;
        Set made;
        made.family = one.family;
        made.table = text(of(one, set::table));
        made.name = text(of(one, set::name));
        made.flags = number(of(one, set::flags));
        made.key_type = number(of(one, set::key_type));
        made.key_length = number(of(one, set::key_len));
        return sets_.push(std::move(made)) ? Error() : Error(Errc::out_of_memory);
    }
    Error elements_are(const Received& one) {
        const std::size_t which = find_set(one.family, text(of(one, element::table)), text(of(one, element::set)));
        if (which == sets_.size()) return {};
        Set& to = sets_[which];
        Error error;
        const bool whole = each_attribute(of(one, element::elements), order_, [&](std::uint16_t, Bytes raw) {
            if (++elements_ > elements_max) return error = Errc::too_large, false;
            Element made;
            const std::uint32_t flags = number(attribute(raw, order_, element::flags));
            made.ends = (flags & element::interval_end) != 0;
            made.catches = (flags & element::catchall) != 0;
            const Bytes key = attribute(attribute(raw, order_, element::key), order_, expression::data_value);
            if (key.size() > sizeof made.key) return true;
            copy(made.key, key);
            const Bytes verdict = attribute(attribute(raw, order_, element::data), order_, expression::data_verdict);
            made.verdict = number(attribute(verdict, order_, expression::verdict_code), 0xffffffff);
            made.chain = text(attribute(verdict, order_, expression::verdict_chain));
            if (!to.elements.push(std::move(made))) error = Errc::out_of_memory;
            return !error;
        });
        return error || whole ? error : Error(Errc::malformed);
    }
    Error rule_is(const Received& one) {
        const std::size_t chain = find(one.family, text(of(one, rule::table)), text(of(one, rule::chain)));
        if (chain == chains_.size()) return {};  // made since the chains were read, or of a family that is not looked at
        const Bytes expressions = of(one, rule::expressions);
        if (rules_.size() >= rules_max || arena_.size() + expressions.size() > bytes_max) return Errc::too_large;
        Entry made;
        made.chain = static_cast<std::uint32_t>(chain);
        made.at = static_cast<std::uint32_t>(arena_.size());
        made.size = static_cast<std::uint32_t>(expressions.size());
        const Bytes handle = of(one, rule::handle);
        made.handle = handle.size() == 8 ? load_big<std::uint64_t>(handle.data()) : 0;
        // Data of nft's: a byte of type (0: a comment), one of length, and that.
        for (Bytes data = of(one, rule::userdata); data.size() >= 2;) {
            const std::size_t size = std::to_integer<std::size_t>(data[1]);
            if (size > data.size() - 2) break;
            if (data[0] == std::byte{0}) made.comment = text(data.subspan(2, size));
            data = data.subspan(2 + size);
        }
        if (made.comment.empty()) made.comment = xt_comment(expressions);
        if (!arena_.append(expressions.data(), expressions.size()) || !rules_.push(std::move(made))) return Errc::out_of_memory;
        return {};
    }
    // That of iptables' module of this name.
    TextView xt_comment(Bytes expressions) const {
        TextView found;
        each_attribute(expressions, order_, [&](std::uint16_t, Bytes one) {
            const Bytes data = attribute(one, order_, expression::data);
            if (text(attribute(one, order_, expression::name)) == TextView("match") &&
                text(attribute(data, order_, expression::match_name)) == TextView("comment"))
                found = text(attribute(data, order_, expression::match_info));
            return found.size() == 0;
        });
        return found;
    }

    std::endian order_;
    bool interrupted_ = false;
    Array<Chain> chains_;
    Array<Set> sets_;
    Array<Entry> rules_;
    Array<std::byte> arena_;
    std::size_t elements_ = 0;
};

}  // namespace rejoin::inline v0_1::firewall::nft

// What is changed in nf_tables, as messages and as commands of nft(8). Pure.
namespace rejoin::inline v0_1::firewall::nft {

inline const char* family_name(std::uint8_t family) {
    return family == nfproto_inet ? "inet" : family == nfproto_ipv4 ? "ip" : family == nfproto_ipv6 ? "ip6" : "?";
}
/// The set of what is open for a time, in the chain's table.
using SetName = Text<56>;
inline SetName set_name(const Rule& rule) {
    return SetName("rejoin/").append(rule.app).append("/").append(to_text(rule.protocol)).append("/").append(ports_of(rule));
}

/// Where a rule goes: before the one that decides, so that what comes earlier holds for it too; or behind the last.
struct Place {
    const Ruleset::Chain* chain = nullptr;
    std::uint64_t before = 0;  ///< a rule's handle; 0: behind the last
};

namespace detail {

class Expressions {
public:
    explicit Expressions(Writer& to) : to_(to), list_(to.begin_nested(rule::expressions)) {}
    ~Expressions() { to_.close(list_); }

    template <class F>
    void add(TextView name, F data) {
        const std::size_t one = to_.begin_nested(expression::list_elem);
        to_.add(expression::name, name);
        const std::size_t inner = to_.begin_nested(expression::data);
        data();
        to_.close(inner);
        to_.close(one);
    }
    void value(std::uint16_t type, Bytes bytes) {
        const std::size_t at = to_.begin_nested(type);
        to_.add(expression::data_value, bytes);
        to_.close(at);
    }
    void compare(std::uint32_t op, Bytes with) {
        add("cmp", [&] {
            to_.add(expression::cmp_sreg, std::uint32_t{1});
            to_.add(expression::cmp_op, op);
            value(expression::cmp_data, with);
        });
    }
    void meta(std::uint32_t key) {
        add("meta", [&] {
            to_.add(expression::meta_key, key);
            to_.add(expression::meta_dreg, std::uint32_t{1});
        });
    }

private:
    Writer& to_;
    std::size_t list_;
};

inline void key(Writer& to, std::uint16_t port) {
    std::byte raw[2];
    store_big(raw, port);
    const std::size_t at = to.begin_nested(element::key);
    to.add(expression::data_value, Bytes(raw));
    to.close(at);
}
// One element of the set: its ports, from now on for so long.
inline void elements(Writer& to, std::uint16_t message, std::uint16_t flags, std::uint32_t sequence, const Ruleset::Chain& chain,
                     const Rule& rule, bool timed) {
    to.message(message, flags, sequence, chain.family);
    to.add(element::table, TextView(chain.table));
    to.add(element::set, TextView(set_name(rule)));
    const std::size_t list = to.begin_nested(element::elements);
    const std::size_t first = to.begin_nested(expression::list_elem);
    key(to, rule.port);
    if (timed) to.add(element::timeout, std::uint64_t{rule.seconds()} * 1000);
    to.close(first);
    if (rule.last() != rule.port && rule.last() != 65535) {
        const std::size_t last = to.begin_nested(expression::list_elem);
        to.add(element::flags, element::interval_end);
        key(to, static_cast<std::uint16_t>(rule.last() + 1));
        to.close(last);
    }
    to.close(list);
}

}  // namespace detail

/// Opens, in one batch that the kernel takes whole or not at all, between `begin` and `end`.
inline void begin(Writer& to) { to.message(nfnl_msg_batch_begin, nlm_f_request, 0, nfproto_unspec, 10); }
inline void end(Writer& to, std::uint32_t sequence) { to.message(nfnl_msg_batch_end, nlm_f_request, sequence, nfproto_unspec, 10); }
inline void open(Writer& to, const Place& place, const Rule& rule, std::uint32_t& sequence) {
    const Ruleset::Chain& chain = *place.chain;
    const bool timed = rule.expiry > Duration();
    if (timed) {
        to.message(newset, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain.family);
        to.add(set::table, TextView(chain.table));
        to.add(set::name, TextView(set_name(rule)));
        to.add(set::flags, set::timeout | (rule.last() != rule.port ? set::interval : 0));
        to.add(set::key_type, std::uint32_t{13});  // inet_service
        to.add(set::key_len, std::uint32_t{2});
        to.add(set::id, sequence);
        const std::byte big_endian[] = {{}, std::byte{4}, std::byte{2},
                                        {}, {},           {}};  // nft's note on the order of its keys, as it writes it
        std::byte order[6];
        copy(order, Bytes(big_endian));
        if constexpr (std::endian::native == std::endian::big) std::swap(order[2], order[5]);
        to.add(set::userdata, Bytes(order));
        detail::elements(to, newsetelem, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain, rule, true);
    }
    const bool at_end = place.before == 0;
    to.message(newrule, static_cast<std::uint16_t>(nlm_f_request | nlm_f_ack | nlm_f_create | (at_end ? nlm_f_append : 0)), ++sequence,
               chain.family);
    to.add(rule::table, TextView(chain.table));
    to.add(rule::chain, TextView(chain.name));
    if (!at_end) to.add(rule::position, place.before);
    {
        detail::Expressions list(to);
        const auto raw_port = [](std::uint16_t port, std::byte(&raw)[2]) {
            store_big(raw, port);
            return Bytes(raw);
        };
        if (!rule.interface_name.empty()) {
            list.meta(expression::meta_iifname);
            std::byte name[16] = {};
            copy(name, TextView(rule.interface_name).bytes());
            list.compare(expression::cmp_eq, Bytes(name));
        }
        list.meta(expression::meta_l4proto);
        const std::byte protocol[] = {static_cast<std::byte>(rule.protocol)};
        list.compare(expression::cmp_eq, Bytes(protocol));
        list.add("payload", [&] {
            to.add(expression::payload_dreg, std::uint32_t{1});
            to.add(expression::payload_base, expression::base_transport);
            to.add(expression::payload_offset, std::uint32_t{2});
            to.add(expression::payload_len, std::uint32_t{2});
        });
        std::byte raw[2];
        if (timed) {
            list.add("lookup", [&] {
                to.add(expression::lookup_sreg, std::uint32_t{1});
                to.add(expression::lookup_set, TextView(set_name(rule)));
            });
        } else if (rule.last() == rule.port) {
            list.compare(expression::cmp_eq, raw_port(rule.port, raw));
        } else {
            list.compare(expression::cmp_gte, raw_port(rule.port, raw));
            list.compare(expression::cmp_lte, raw_port(rule.last(), raw));
        }
        list.add("immediate", [&] {
            to.add(expression::immediate_dreg, std::uint32_t{0});
            const std::size_t data = to.begin_nested(expression::immediate_data), verdict = to.begin_nested(expression::data_verdict);
            to.add(expression::verdict_code, expression::accept);
            to.close(verdict);
            to.close(data);
        });
    }
    const Tag tag = tag_of(rule);
    std::byte comment[64] = {std::byte{0}, static_cast<std::byte>(tag.size() + 1)};
    copy(comment + 2, TextView(tag).bytes());
    to.add(rule::userdata, Bytes(comment, tag.size() + 3));
}
/// Once more for the whole time, where it is open for a time; `there`: it has not run out yet.
inline void renew(Writer& to, const Ruleset::Chain& chain, const Rule& rule, bool there, std::uint32_t& sequence) {
    if (there) detail::elements(to, delsetelem, nlm_f_request | nlm_f_ack, ++sequence, chain, rule, false);
    detail::elements(to, newsetelem, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain, rule, true);
}
/// Takes away one rule of that chain, and the set.
inline void remove_rule(Writer& to, const Ruleset::Chain& chain, std::uint64_t handle, std::uint32_t& sequence) {
    to.message(delrule, nlm_f_request | nlm_f_ack, ++sequence, chain.family);
    to.add(rule::table, TextView(chain.table));
    to.add(rule::chain, TextView(chain.name));
    to.add(rule::handle, handle);
}
inline void remove_set(Writer& to, const Set& set, std::uint32_t& sequence) {
    to.message(delset, nlm_f_request | nlm_f_ack, ++sequence, set.family);
    to.add(set::table, TextView(set.table));
    to.add(set::name, TextView(set.name));
}
/// Asks for all of it: chains, sets, rules; or for what is in a set.
inline void ask(Writer& to, Message what, std::uint32_t sequence) {
    to.message(what, nlm_f_request | nlm_f_dump, sequence, nfproto_unspec);
}
inline void ask_elements(Writer& to, const Set& set, std::uint32_t sequence) {
    to.message(getsetelem, nlm_f_request | nlm_f_dump, sequence, set.family);
    to.add(element::table, TextView(set.table));
    to.add(element::set, TextView(set.name));
}

// ---- The same, to be typed.

inline Command table_words(const Ruleset::Chain& chain) { return Command(family_name(chain.family)).append(" ").append(chain.table); }
/// What `nft` is to be told to open it.
inline Command open_command(const Place& place, const Rule& rule) {
    const Command table = table_words(*place.chain);
    Command text;
    if (rule.expiry > Duration())
        text.append("add set ")
            .append(table)
            .append(" ")
            .append(set_name(rule))
            .append(" { type inet_service; flags ")
            .append(rule.last() != rule.port ? "interval,timeout" : "timeout")
            .append("; }; add element ")
            .append(table)
            .append(" ")
            .append(set_name(rule))
            .append(" { ")
            .append(ports_of(rule))
            .append(" timeout ")
            .append_number(rule.seconds())
            .append("s }; ");
    text.append(place.before == 0 ? "add" : "insert").append(" rule ").append(table).append(" ").append(place.chain->name);
    if (place.before != 0) text.append(" handle ").append_number(static_cast<std::int64_t>(place.before));
    if (!rule.interface_name.empty()) text.append(" iifname \"").append(rule.interface_name).append("\"");
    text.append(" ").append(to_text(rule.protocol)).append(" dport ");
    rule.expiry > Duration() ? text.append("@").append(set_name(rule)) : text.append(ports_of(rule));
    text.append(" accept comment \"").append(tag_of(rule)).append("\"");
    Command command("nft");
    add_word(command, text);
    return command;
}
/// What is to be typed to take it back: `handle` 0 where that is to be found out first.
inline Command close_command(const Ruleset::Chain& chain, std::uint64_t handle, const Rule& rule, bool with_set) {
    const Command table = table_words(chain);
    Command text;
    if (handle == 0) {
        text.append("nft -a list chain ")
            .append(table)
            .append(" ")
            .append(chain.name)
            .append(" | sed -n '\\|\"")
            .append(tag_of(rule))
            .append("\"|s/.* handle //p' | xargs -r -n 1 nft delete rule ")
            .append(table)
            .append(" ")
            .append(chain.name)
            .append(" handle");
        if (with_set) text.append("; nft delete set ").append(table).append(" ").append(set_name(rule));
        return text;
    }
    text.append("delete rule ")
        .append(table)
        .append(" ")
        .append(chain.name)
        .append(" handle ")
        .append_number(static_cast<std::int64_t>(handle));
    if (with_set) text.append("; delete set ").append(table).append(" ").append(set_name(rule));
    Command command("nft");
    add_word(command, text);
    return command;
}

}  // namespace rejoin::inline v0_1::firewall::nft

#if defined(__linux__)
namespace rejoin::inline v0_1::firewall::nft {

/// The kernel's nf_tables, asked and told by netlink: no program is started. Of the network namespace in which it was opened.
class Kernel {
public:
    static Result<Kernel> open() {
        Kernel made;
        auto socket = NetlinkSocket::netfilter();
        if (!socket) return socket.error();
        made.socket_ = std::move(*socket);
        if (made.room_.extend(room_size) == nullptr) return Errc::out_of_memory;
        return made;
    }

    /// All that is there. EPERM without privilege; errors of `Ruleset::read`.
    Error read(Ruleset& to) {
        for (int tries = 0; tries < 10; ++tries) {
            to = Ruleset();
            Error error;
            for (Message what : {getchain, getset})
                if (!error) error = dump(to, [&](Writer& w) { ask(w, what, ++sequence_); });
            for (std::size_t i = 0; i < to.sets().size() && !error; ++i) {
                Set& set = to.sets()[i];
                if (!set.matters()) continue;
                error = dump(to, [&](Writer& w) { ask_elements(w, set, ++sequence_); });
                set.known = !error;
                if (error == Error::system(ENOENT)) error = {};  // it has gone meanwhile
            }
            if (!error) error = dump(to, [&](Writer& w) { ask(w, getrule, ++sequence_); });
            if (error || !to.interrupted()) return error;
        }
        return Errc::would_block;  // it changes all the time
    }
    /// Tells it what `write(Writer&, std::uint32_t& sequence)` writes: all of that, or nothing.
    template <class F>
    Error change(F write) {
        Writer batch;
        begin(batch);
        write(batch, sequence_);
        nft::end(batch, ++sequence_);
        const Bytes all = batch.end();
        if (!batch.ok()) return Errc::out_of_memory;
        if (auto sent = socket_.send(all); !sent) return sent.error();
        Error first;
        // Each message but the two around them is answered, in order, and all of that is there.
        for (bool last = false; !last;) {
            const auto read = receive([&](Bytes datagram) {
                for (Received one; next_message(datagram, std::endian::native, one);) {
                    if (one.type != nlmsg_error) continue;
                    if (one.error != 0 && !first) first = Error::system(one.error);
                    last = last || one.sequence == sequence_ - 1;
                }
                return Error();
            });
            if (read) return first || read == Errc::would_block ? first : read;
        }
        return first;
    }

private:
    Kernel() = default;
    template <class F>
    Error dump(Ruleset& to, F ask_for) {
        Writer request;
        ask_for(request);
        const Bytes bytes = request.end();
        if (!request.ok()) return Errc::out_of_memory;
        if (auto sent = socket_.send(bytes); !sent) return sent.error();
        for (bool done = false; !done;)
            if (const Error error = receive([&](Bytes datagram) { return to.read(datagram, sequence_, done); })) return error;
        return {};
    }
    // What is there, in one call: a dump's end comes in a datagram of its own.
    static constexpr std::size_t datagrams_max = 4, room_size = datagrams_max * 32 * 1024;
    template <class F>
    Error receive(F f) {
        std::size_t sizes[datagrams_max];
        const auto count = socket_.receive({room_.data(), room_.size()}, sizes);
        if (!count) return count.error();
        for (std::size_t i = 0; i < *count; ++i)
            if (const Error error = f(Bytes(room_.data() + i * (room_size / datagrams_max), sizes[i]))) return error;
        return {};
    }

    NetlinkSocket socket_;
    std::uint32_t sequence_ = 0;
    Array<std::byte> room_;
};

}  // namespace rejoin::inline v0_1::firewall::nft
#endif

// As much of D-Bus (dbus.freedesktop.org, specification 0.38) as it takes to call a method with texts and numbers, and to read what it
// returns. Pure.
namespace rejoin::inline v0_1::firewall::dbus {

inline constexpr std::size_t message_max = 1 << 20;  // the standard allows 128 MiB

/// Writes a method call, little-endian; `interactive authorization` is not allowed, so that nobody is asked for a password.
class Call {
public:
    Call(std::uint32_t serial, TextView destination, TextView path, TextView of, TextView member) {
        const std::byte fixed[] = {std::byte{'l'}, std::byte{1}, {}, std::byte{1}};
        ok_ = bytes_.append(fixed, 4);
        number(bytes_, 0);  // the body's length
        number(bytes_, serial);
        number(bytes_, 0);  // that of the fields
        field(1, 'o', path);
        field(2, 's', of);
        field(3, 's', member);
        field(6, 's', destination);
    }
    Call& add(TextView value) {
        signature_[arguments_++ & 7] = 's';
        text(body_, value);
        return *this;
    }
    Call& add(std::int32_t value) {
        signature_[arguments_++ & 7] = 'i';
        number(body_, static_cast<std::uint32_t>(value));
        return *this;
    }
    /// All of it; empty where memory is out.
    Bytes end() {
        if (arguments_ > 0) {
            align(bytes_, 8);
            const std::byte of_signature[] = {std::byte{8}, std::byte{1}, std::byte{'g'}, {}, static_cast<std::byte>(arguments_)};
            ok_ =
                ok_ && bytes_.append(of_signature, 5) && bytes_.append(TextView(signature_, arguments_ + 1).bytes().data(), arguments_ + 1);
        }
        if (!ok_) return {};
        set(12, static_cast<std::uint32_t>(bytes_.size() - 16));
        set(4, static_cast<std::uint32_t>(body_.size()));
        align(bytes_, 8);
        ok_ = ok_ && bytes_.append(body_.data(), body_.size());
        return ok_ ? Bytes(bytes_.data(), bytes_.size()) : Bytes();
    }

private:
    void align(Array<std::byte>& to, std::size_t n) {
        while (ok_ && to.size() % n != 0) ok_ = to.push(std::byte{0});
    }
    void number(Array<std::byte>& to, std::uint32_t value) {
        align(to, 4);
        for (int shift = 0; shift < 32; shift += 8) ok_ = ok_ && to.push(static_cast<std::byte>(value >> shift));
    }
    void text(Array<std::byte>& to, TextView value) {
        number(to, static_cast<std::uint32_t>(value.size()));
        const Bytes bytes = value.bytes();
        ok_ = ok_ && to.append(bytes.data(), bytes.size()) && to.push(std::byte{0});
    }
    void field(int code, char type, TextView value) {
        align(bytes_, 8);
        const std::byte head[] = {static_cast<std::byte>(code), std::byte{1}, static_cast<std::byte>(type), {}};
        ok_ = ok_ && bytes_.append(head, 4);
        text(bytes_, value);
    }
    void set(std::size_t at, std::uint32_t value) {
        for (std::size_t i = 0; i < 4; ++i) bytes_[at + i] = static_cast<std::byte>(value >> (8 * i));
    }

    Array<std::byte> bytes_, body_;
    char signature_[9] = {};
    std::size_t arguments_ = 0;
    bool ok_ = true;
};

/// A message that came: its views hold as long as its bytes.
struct Reply {
    enum class Kind : std::uint8_t { other, returned, failed };
    Kind kind = Kind::other;
    std::uint32_t to = 0;  ///< the serial of the call that it answers
    TextView error_name;
    TextView signature;
    Bytes body;
    std::endian order = std::endian::little;

    /// The first value, where it is a text, a truth or an array of texts: each in turn to `f(TextView)`. False for anything else.
    TextView text() const {
        TextView first;
        if (signature == TextView("s")) take(body, order, first);
        return first;
    }
    bool truth() const { return signature == TextView("b") && body.size() >= 4 && load<std::uint32_t>(body.data(), order) == 1; }
    template <class F>
    bool each_text(F f) const {
        if (!(signature == TextView("as")) || body.size() < 4) return false;
        const std::size_t size = load<std::uint32_t>(body.data(), order);
        if (size > body.size() - 4) return false;
        Bytes rest = body.first(4 + size);
        for (std::size_t at = 4; at < rest.size();) {
            at = (at + 3) & ~std::size_t{3};
            if (at >= rest.size()) return false;
            TextView one;
            const std::size_t took = take(rest.subspan(at), order, one);
            if (took == 0) return false;
            f(one);
            at += took;
        }
        return true;
    }

    // A text, with its length and its zero: how many bytes that was; 0 where it does not fit.
    static std::size_t take(Bytes from, std::endian order, TextView& to) {
        if (from.size() < 5) return 0;
        const std::size_t size = load<std::uint32_t>(from.data(), order);
        if (size > from.size() - 5 || from[4 + size] != std::byte{0}) return 0;
        to = {reinterpret_cast<const char*>(from.data() + 4), size};
        return size + 5;
    }
};

/// Takes a message off the front of `bytes`: true when there is one, false while it is not whole. `malformed`; `too_large`.
inline Result<bool> next(Bytes& bytes, Reply& to) {
    if (bytes.size() < 16) return false;
    if (bytes[0] != std::byte{'l'} && bytes[0] != std::byte{'B'}) return Errc::malformed;
    to = {};
    to.order = bytes[0] == std::byte{'l'} ? std::endian::little : std::endian::big;
    if (bytes[3] != std::byte{1}) return Errc::malformed;
    const std::size_t body = load<std::uint32_t>(bytes.data() + 4, to.order), fields = load<std::uint32_t>(bytes.data() + 12, to.order);
    if (body > message_max || fields > message_max) return Errc::too_large;
    const std::size_t start = (16 + fields + 7) & ~std::size_t{7};
    if (bytes.size() < start + body) return false;
    to.kind = bytes[1] == std::byte{2} ? Reply::Kind::returned : bytes[1] == std::byte{3} ? Reply::Kind::failed : Reply::Kind::other;
    const Bytes header = bytes.first(16 + fields);
    for (std::size_t at = 16; at < header.size();) {
        at = (at + 7) & ~std::size_t{7};
        if (header.size() < at + 4 || header[at + 1] != std::byte{1} || header[at + 3] != std::byte{0}) return Errc::malformed;
        const auto code = std::to_integer<int>(header[at]);
        const auto type = std::to_integer<char>(header[at + 2]);
        const Bytes value = header.subspan(at + 4);
        std::size_t took = 0;
        TextView text;
        if (type == 'u') {
            if (value.size() < 4) return Errc::malformed;
            if (code == 5) to.to = load<std::uint32_t>(value.data(), to.order);
            took = 4;
        } else if (type == 's' || type == 'o') {
            took = Reply::take(value, to.order, text);
            if (code == 4) to.error_name = text;
        } else if (type == 'g') {
            if (value.size() < 2 || std::to_integer<std::size_t>(value[0]) + 2 > value.size()) return Errc::malformed;
            took = std::to_integer<std::size_t>(value[0]) + 2;
            if (code == 8) to.signature = {reinterpret_cast<const char*>(value.data() + 1), took - 2};
        }
        if (took == 0) return Errc::malformed;
        at += 4 + took;
    }
    to.body = bytes.subspan(start, body);
    bytes = bytes.subspan(start + body);
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::dbus

namespace rejoin::inline v0_1::firewall::firewalld {

/// The rich rule that opens it (firewalld.richlanguage(5)). It notes the tag where nobody listens, which costs nothing: rules of firewalld
/// have no comments.
inline Text<255> rich_rule(const Rule& rule) {
    return Text<255>("rule port port=\"")
        .append(ports_of(rule))
        .append("\" protocol=\"")
        .append(to_text(rule.protocol))
        .append("\" nflog prefix=\"")
        .append(tag_of(rule))
        .append("\" accept");
}
/// What firewall-cmd is to be told to open it; `remove`: to take that back.
inline Command command(const Rule& rule, TextView zone, bool remove) {
    iptables::Words words;
    words.add("firewall-cmd");
    if (zone.size() > 0) words.add(Text<63>("--zone=").append(zone));
    words.add(Text<288>(remove ? "--remove-rich-rule=" : "--add-rich-rule=").append(rich_rule(rule)));
    if (!remove && rule.expiry > Duration()) words.add(Text<31>("--timeout=").append_number(rule.seconds()));
    return words.typed();
}

}  // namespace rejoin::inline v0_1::firewall::firewalld

#if defined(__linux__)
namespace rejoin::inline v0_1::firewall::firewalld {

/// firewalld, over the system's bus. Waits for each answer, at most two seconds; asks nobody for a password.
class Client {
public:
    /// `unsupported` where there is no bus, or no firewalld on it.
    static Result<Client> connect() {
        Client made;
        auto socket = UnixSocket::connect("/run/dbus/system_bus_socket");
        if (!socket) return Errc::unsupported;
        made.socket_ = std::move(*socket);
        Text<63> hello("AUTH EXTERNAL ");
        Text<15> user;
        user.append_number(::geteuid());
        for (char c : TextView(user)) hello.append_hex(static_cast<unsigned char>(c));
        hello.append("\r\n");
        made.until_ = monotonic_now() + Duration::seconds(2);
        const std::byte zero[] = {std::byte{0}};
        if (!made.send(zero) || !made.send(TextView(hello).bytes())) return Errc::unsupported;
        while (!made.has_line())
            if (!made.receive()) return Errc::unsupported;
        if (!firewall::detail::starts({reinterpret_cast<const char*>(made.in_.data()), made.in_.size()}, "OK ")) return Errc::unsupported;
        made.in_.clear();
        if (!made.send(TextView("BEGIN\r\n").bytes())) return Errc::unsupported;
        dbus::Reply reply;
        if (made.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", reply)) return Errc::unsupported;
        dbus::Call asks(++made.serial_, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner");
        asks.add(TextView(name));
        if (made.answer(asks, reply) || !reply.truth()) return Errc::unsupported;
        return made;
    }
    /// The zone that an interface is in, or the default one. Errors of `add`.
    Result<Text<32>> zone_of(TextView interface_name) {
        dbus::Reply reply;
        if (interface_name.size() > 0) {
            dbus::Call asks(++serial_, name, path, zones, "getZoneOfInterface");
            asks.add(interface_name);
            if (!answer(asks, reply) && reply.text().size() > 0) return Text<32>(reply.text());
        }
        dbus::Call asks(++serial_, name, path, name, "getDefaultZone");
        if (const Error error = answer(asks, reply)) return error;
        return Text<32>(reply.text());
    }
    /// Opens it in that zone, and it closes by itself where it expires. EPERM where firewalld says so; `timed_out`; `malformed` for what it
    /// does not understand.
    Error add(const Rule& rule, TextView zone) {
        dbus::Call asks(++serial_, name, path, zones, "addRichRule");
        asks.add(zone).add(TextView(rich_rule(rule))).add(static_cast<std::int32_t>(rule.seconds()));
        dbus::Reply reply;
        return answer(asks, reply);
    }
    Error remove(const Rule& rule, TextView zone) {
        dbus::Call asks(++serial_, name, path, zones, "removeRichRule");
        asks.add(zone).add(TextView(rich_rule(rule)));
        dbus::Reply reply;
        return answer(asks, reply);
    }
    /// Calls `f(TextView zone, TextView rich rule)` with each that carries a tag of rejoin's.
    template <class F>
    Error each_rule(F f) {
        dbus::Call asks(++serial_, name, path, zones, "getZones");
        dbus::Reply reply;
        if (const Error error = answer(asks, reply)) return error;
        Array<Text<32>> all;
        bool kept = true;
        reply.each_text([&](TextView zone) { kept = kept && all.push(Text<32>(zone)); });
        if (!kept) return Errc::out_of_memory;
        for (const Text<32>& zone : all) {
            dbus::Call rules(++serial_, name, path, zones, "getRichRules");
            rules.add(TextView(zone));
            if (const Error error = answer(rules, reply)) return error;
            reply.each_text([&](TextView one) { f(TextView(zone), one); });
        }
        return {};
    }

private:
    static constexpr const char* name = "org.fedoraproject.FirewallD1";
    static constexpr const char* path = "/org/fedoraproject/FirewallD1";
    static constexpr const char* zones = "org.fedoraproject.FirewallD1.zone";

    Client() = default;
    bool has_line() const {
        for (std::byte b : in_)
            if (b == std::byte{'\n'}) return true;
        return false;
    }
    bool wait(short events) {
        rejoin::detail::PollEntry entry{socket_.fd(), events, 0};
        const std::int64_t left = (until_ - monotonic_now()).milliseconds();
        return left > 0 && rejoin::detail::poll_wait(&entry, 1, static_cast<int>(left)) > 0;
    }
    bool send(Bytes bytes) {
        while (!bytes.empty()) {
            const auto sent = UnixSocket::send(socket_, bytes);
            if (sent) bytes = bytes.subspan(*sent);
            if (!sent && (sent.error() != Errc::would_block || !wait(POLLOUT))) return false;
        }
        return true;
    }
    bool receive() {
        std::byte room[4096];
        for (;;) {
            const auto size = socket_.receive(room);
            if (size) return *size > 0 && in_.size() < dbus::message_max && in_.append(room, *size);
            if (size.error() != Errc::would_block || !wait(POLLIN)) return false;
        }
    }
    Error call(const char* to, const char* at, const char* of, const char* member, dbus::Reply& reply) {
        dbus::Call asks(++serial_, to, at, of, member);
        return answer(asks, reply);
    }
    // The answer's views hold until the next call.
    Error answer(dbus::Call& asks, dbus::Reply& reply) {
        in_.clear();
        until_ = monotonic_now() + Duration::seconds(2);
        const Bytes bytes = asks.end();
        if (bytes.empty()) return Errc::out_of_memory;
        if (!send(bytes)) return Errc::timed_out;
        for (;;) {
            Bytes from(in_.data(), in_.size());
            for (;;) {
                const auto there = dbus::next(from, reply);
                if (!there) return there.error();
                if (!*there) break;
                if (reply.to != serial_ || reply.kind == dbus::Reply::Kind::other) continue;
                if (reply.kind == dbus::Reply::Kind::returned) return {};
                return ends_in(reply.error_name, "AccessDenied") || ends_in(reply.error_name, "NotAuthorizedException")
                           ? Error::system(EPERM)
                           : Error(Errc::malformed);
            }
            if (!receive()) return Errc::timed_out;
        }
    }
    static bool ends_in(TextView text, TextView end) {
        return text.size() >= end.size() && TextView(text.data() + text.size() - end.size(), end.size()) == end;
    }

    Socket socket_;
    TimePoint until_;
    std::uint32_t serial_ = 0;
    Array<std::byte> in_;
};

}  // namespace rejoin::inline v0_1::firewall::firewalld
#endif

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

// Windows Firewall as INetFwPolicy2 tells of it, and what that means for a rule. Pure.
namespace rejoin::inline v0_1::firewall::windows {

enum : std::uint32_t { domain = 1, private_ = 2, public_ = 4, all_profiles = 7 };  // NET_FW_PROFILE2_…
inline constexpr std::int32_t any_protocol = 256;                                  // NET_FW_IP_PROTOCOL_ANY

struct KnownRule {
    Text<255> name;
    Text<1023> program;  ///< empty: any
    Text<255> ports;     ///< `80,443,5000-5010`; empty, or `*`: any
    std::int32_t protocol = any_protocol;
    std::uint32_t profiles = all_profiles;
    bool allows = true;
    bool narrow = false;  ///< for some remote or local addresses, kinds of interface or services alone
};
/// Of each profile, in the order domain, private, public.
struct State {
    std::uint32_t active = 0;
    bool on[3] = {}, blocks_all[3] = {}, allows_by_default[3] = {};
    /// Whether local changes count: 0; not, as group policy says otherwise: 1; not, as everything is blocked: 2 (NET_FW_MODIFY_STATE).
    int modify_state = 0;
    Array<KnownRule> rules;  ///< those that are on, and for what comes in
};

inline const char* profile_name(std::size_t i) {
    constexpr const char* names[] = {"domain", "private", "public"};
    return names[i];
}
inline bool wanted(const Rule& rule, std::size_t i) { return i == 0 ? rule.on_domain : i == 1 ? rule.on_private : rule.on_public; }
inline std::uint32_t profiles_of(const Rule& rule) {
    return (rule.on_domain ? domain : 0u) | (rule.on_private ? private_ : 0u) | (rule.on_public ? public_ : 0u);
}

namespace detail {

inline bool same_file(TextView a, TextView b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '/' ? '\\' : c; };
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}
// Between quotes, at a prompt of Windows'.
inline bool is_plain(TextView text) {
    for (char c : text)
        for (char special : {'"', '%', '!', '^', '\n', '\r'})
            if (c == special) return false;
    return true;
}
// How many of the rule's ports are in the list.
inline Holds in_ports(TextView list, const Rule& rule) {
    if (list.size() == 0 || list == TextView("*")) return Holds::always;
    Text<255> colons;
    for (char c : list)
        if (c != ' ') colons.append({c == '-' ? ":" : &c, 1});
    Sample sample;
    sample.first_port = rule.port;
    sample.last_port = rule.last();
    return iptables::detail::in_ports(colons, sample);
}

}  // namespace detail

/// The same for an administrator's prompt.
inline Command netsh(const Rule& rule, bool remove) {
    const auto quoted = [](Command& to, TextView what) {
        to.append("\"");
        for (char c : what)
            if (c != '"') to.append({&c, 1});  // which no file's name has there
        to.append("\"");
    };
    Command command("netsh advfirewall firewall ");
    command.append(remove ? "delete" : "add").append(" rule name=");
    quoted(command, tag_of(rule));
    if (remove) return command;
    command.append(" dir=in action=allow protocol=")
        .append(rule.protocol == Protocol::tcp ? "TCP" : "UDP")
        .append(" localport=")
        .append(ports_of(rule));
    if (!rule.program.empty()) {
        command.append(" program=");
        quoted(command, rule.program);
    }
    command.append(" profile=");
    bool first = true;
    for (std::size_t i = 0; i < 3; ++i)
        if (wanted(rule, i)) command.append(std::exchange(first, false) ? "" : ",").append(profile_name(i));
    return command;
}

/// One gate for each profile that is active and on. False when memory is out.
inline bool judge(const State& state, const Rule& rule, Array<Gate>& gates) {
    const Tag tag = tag_of(rule);
    for (std::size_t i = 0; i < 3; ++i) {
        const std::uint32_t bit = 1u << i;
        if ((state.active & bit) == 0 || !state.on[i]) continue;
        Gate gate;
        gate.system = System::windows;
        gate.where = Text<191>("profile ").append(profile_name(i));
        if (rule.port == 0) {
            gate.stance = Stance::active;
            if (state.blocks_all[i]) gate.why = TextView("it blocks all incoming connections");
            if (!gates.push(std::move(gate))) return false;
            continue;
        }
        const KnownRule* blocker = nullptr;
        bool opened = false, allowed = state.allows_by_default[i];
        for (const KnownRule& known : state.rules) {
            if ((known.profiles & bit) == 0) continue;
            if (known.protocol != any_protocol && known.protocol != static_cast<std::int32_t>(rule.protocol)) continue;
            if (!known.program.empty() && (rule.program.empty() || !detail::same_file(known.program, rule.program))) continue;
            const Holds ports = detail::in_ports(known.ports, rule);
            if (!known.allows && ports != Holds::never && known.narrow) gate.some_dropped = true;
            if (known.narrow) continue;
            if (!known.allows && ports != Holds::never) blocker = &known;
            if (!known.allows || ports != Holds::always) continue;
            allowed = true;
            opened = opened || known.name == TextView(tag);
        }
        if (state.blocks_all[i]) {
            gate.stance = Stance::refused;
            gate.why = TextView("it blocks all incoming connections, those of allowed programs too");
        } else if (state.modify_state != 0) {
            gate.stance = allowed && blocker == nullptr ? Stance::allows : Stance::refused;
            gate.why = TextView("group policy decides here, and rules of this computer do not count");
        } else if (blocker != nullptr) {
            // To block is stronger than to allow, whoever says so: that rule is not ours to take away.
            gate.stance = Stance::refused;
            gate.why =
                Text<255>("a rule blocks this program, as it is left when somebody says no to Windows' question: ").append(blocker->name);
            // A name that could mean something else to the prompt is not for anybody to paste there.
            if (detail::is_plain(blocker->name) && detail::is_plain(blocker->program)) {
                gate.command = Command("netsh advfirewall firewall delete rule name=\"").append(blocker->name).append("\"");
                if (!blocker->program.empty()) gate.command.append(" program=\"").append(blocker->program).append("\"");
            }
        } else if (allowed) {
            gate.stance = opened ? Stance::opened : Stance::allows;
            if (opened) gate.inverse = netsh(rule, true);
        } else if (!wanted(rule, i)) {
            gate.stance = Stance::refused;
            gate.why = Text<255>("this network counts as ").append(profile_name(i)).append(", for which it was not asked");
        } else {
            gate.stance = Stance::blocks;
            gate.why = TextView("no rule allows it");
            gate.command = netsh(rule, false);
            gate.inverse = netsh(rule, true);
        }
        if (!gates.push(std::move(gate))) return false;
    }
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::windows

#if defined(_WIN32)
namespace rejoin::inline v0_1::firewall::windows {

namespace com {

// Those of netfw.h and oaidl.h that are called here, by their places in the tables; the places between are only counted. Declared here, so
// that nobody has to include OLE's headers, or to link its libraries.
struct Guid {
    std::uint32_t a;
    std::uint16_t b, c;
    std::uint8_t d[8];
};
inline constexpr Guid clsid_policy = {0xe2b3c97f, 0x6ae1, 0x41ac, {0x81, 0x7a, 0xf6, 0xf9, 0x21, 0x66, 0xd7, 0xdd}},
                      iid_policy = {0x98325047, 0xc671, 0x4174, {0x8d, 0x81, 0xde, 0xfc, 0xd3, 0xf0, 0x31, 0x86}},
                      clsid_rule = {0x2c5bc43e, 0x3369, 0x4c33, {0xab, 0x0c, 0xbe, 0x94, 0x69, 0x67, 0x7a, 0xf4}},
                      iid_rule = {0xaf230d27, 0xbaba, 0x4e42, {0xac, 0xed, 0xf5, 0x24, 0xf2, 0x2c, 0xfc, 0xe2}},
                      iid_enum_variant = {0x00020404, 0, 0, {0xc0, 0, 0, 0, 0, 0, 0, 0x46}};
using Result_ = long;  // HRESULT
struct Variant {
    std::uint16_t type, reserved[3];
    void* value;
    void* more;
};

// An object, and what its table has at a place.
struct Object {
    void** table;
};
template <class... Args>
Result_ call(Object* object, std::size_t place, Args... args) {
    return reinterpret_cast<Result_(STDMETHODCALLTYPE*)(Object*, Args...)>(object->table[place])(object, args...);
}
template <class T>
class Pointer {
public:
    Pointer() = default;
    Pointer(const Pointer&) = delete;
    ~Pointer() {
        if (object_ != nullptr) call(object_, 2);  // Release
    }
    Object** to() { return &object_; }
    Object* get() const { return object_; }

private:
    Object* object_ = nullptr;
};
// Places: those of IUnknown and IDispatch are the first seven.
namespace policy {
enum : std::size_t { current_profiles = 7, enabled = 8, block_all = 12, rules = 18, default_inbound = 23, modify_state = 28 };
}
namespace rules {
enum : std::size_t { add = 8, remove = 9, new_enum = 11 };
}
namespace rule {
enum : std::size_t {
    get_name = 7,
    put_name,
    get_description,
    put_description,
    get_application,
    put_application,
    get_service = 13,
    get_protocol = 15,
    put_protocol,
    get_ports,
    put_ports,
    get_local_addresses = 21,
    get_remote_addresses = 23,
    get_direction = 27,
    put_direction,
    get_interface_types = 31,
    get_enabled = 33,
    put_enabled,
    get_profiles = 37,
    put_profiles,
    get_action = 41,
    put_action
};
}

}  // namespace com

/// Windows Firewall over COM. Of this thread, which must not have chosen another apartment that lets nobody in.
class ComPolicy {
public:
    /// This program's file; empty where that is not known.
    Text<1023> program() const {
        wchar_t path[1024];
        char narrow[3 * 1024];
        const unsigned long size = ::GetModuleFileNameW(nullptr, path, 1024);
        if (size == 0 || size >= 1024) return {};
        const int n = ::WideCharToMultiByte(CP_UTF8, 0, path, -1, narrow, sizeof narrow, nullptr, nullptr);
        return n > 1 && n <= 1024 ? Text<1023>(TextView(narrow, static_cast<std::size_t>(n - 1))) : Text<1023>();
    }
    /// Reads it all, which needs no privilege. The error is the HRESULT.
    Error read(State& to) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy;
        if (const Error error = com.create(com::clsid_policy, com::iid_policy, policy.to())) return error;
        long active = 0;
        Error error = result(com::call(policy.get(), com::policy::current_profiles, &active));
        to.active = static_cast<std::uint32_t>(active);
        for (std::size_t i = 0; i < 3 && !error; ++i) {
            const int profile = 1 << i;
            short on = 0, blocks = 0;
            int action = 0;
            error = result(com::call(policy.get(), com::policy::enabled, profile, &on));
            if (!error) error = result(com::call(policy.get(), com::policy::block_all, profile, &blocks));
            if (!error) error = result(com::call(policy.get(), com::policy::default_inbound, profile, &action));
            to.on[i] = on != 0;
            to.blocks_all[i] = blocks != 0;
            to.allows_by_default[i] = action == 1;
        }
        if (error) return error;
        if (const Error why = result(com::call(policy.get(), com::policy::modify_state, &to.modify_state))) return why;
        com::Pointer<void> rules, unknown, all;
        error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (!error) error = result(com::call(rules.get(), com::rules::new_enum, unknown.to()));
        if (!error) error = result(com::call(unknown.get(), 0, &com::iid_enum_variant, all.to()));
        while (!error) {
            com::Variant one{};
            unsigned long got = 0;
            if (com::call(all.get(), 3, 1ul, &one, &got) != 0 || got == 0) break;  // IEnumVARIANT::Next
            if (one.value != nullptr && (one.type == 9 || one.type == 13)) {       // VT_DISPATCH, VT_UNKNOWN
                com::Pointer<void> rule;
                if (com::call(static_cast<com::Object*>(one.value), 0, &com::iid_rule, rule.to()) == 0)
                    error = add_known(com, rule.get(), to);
            }
            com.variant_clear(&one);
        }
        return error;
    }
    /// Adds a rule, which takes an administrator: EPERM, as ERROR_ACCESS_DENIED.
    Error add(const Rule& rule) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy, rules, made;
        Error error = com.create(com::clsid_policy, com::iid_policy, policy.to());
        if (!error) error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (!error) error = com.create(com::clsid_rule, com::iid_rule, made.to());
        if (error) return error;
        const auto text = [&](std::size_t place, TextView what) {
            wchar_t* const value = com.string(what);
            if (value == nullptr) return Error(Errc::out_of_memory);
            const Error why = result(com::call(made.get(), place, value));
            com.free_string(value);
            return why;
        };
        error = text(com::rule::put_name, tag_of(rule));
        if (!error && !rule.program.empty()) error = text(com::rule::put_application, rule.program);
        if (!error) error = result(com::call(made.get(), com::rule::put_protocol, static_cast<long>(rule.protocol)));
        if (!error) error = text(com::rule::put_ports, ports_of(rule));
        if (!error) error = result(com::call(made.get(), com::rule::put_direction, 1));
        if (!error) error = result(com::call(made.get(), com::rule::put_profiles, static_cast<long>(profiles_of(rule))));
        if (!error) error = result(com::call(made.get(), com::rule::put_action, 1));
        if (!error) error = result(com::call(made.get(), com::rule::put_enabled, static_cast<short>(-1)));
        return error ? error : result(com::call(rules.get(), com::rules::add, made.get()));
    }
    /// Takes away every rule of that name, as add would not have made a second.
    Error remove(const Rule& rule) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy, rules;
        Error error = com.create(com::clsid_policy, com::iid_policy, policy.to());
        if (!error) error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (error) return error;
        wchar_t* const name = com.string(tag_of(rule));
        if (name == nullptr) return Errc::out_of_memory;
        error = result(com::call(rules.get(), com::rules::remove, name));
        com.free_string(name);
        return error;
    }

private:
    static Error result(com::Result_ value) {
        if (value >= 0) return {};
        const auto bits = static_cast<std::uint32_t>(value);
        return Error::system(static_cast<int>((bits & 0xffff0000) == 0x80070000 ? bits & 0xffff : bits));  // of Win32, or COM's own
    }

    // COM, for one call.
    struct Com {
        Com() {
            HMODULE const ole = ::LoadLibraryW(L"ole32.dll"), automation = ::LoadLibraryW(L"oleaut32.dll");
            take(ole, "CoInitializeEx", initialize_);
            take(ole, "CoUninitialize", uninitialize_);
            take(ole, "CoCreateInstance", create_);
            take(automation, "SysAllocString", allocate_);
            take(automation, "SysFreeString", free_string);
            take(automation, "VariantClear", variant_clear);
            if (error) return;
            const com::Result_ began = initialize_(nullptr, 0);  // COINIT_MULTITHREADED
            began_ = began >= 0;
            if (!began_ && static_cast<std::uint32_t>(began) != 0x80010106)
                error = result(began);  // RPC_E_CHANGED_MODE: it is there already
        }
        Com(const Com&) = delete;
        ~Com() {
            if (began_) uninitialize_();
        }
        Error create(const com::Guid& what, const com::Guid& as, com::Object** to) const {
            return result(create_(&what, nullptr, 1, &as, to));  // CLSCTX_INPROC_SERVER
        }
        wchar_t* string(TextView text) const {
            wchar_t wide[1100] = {};
            const int n = ::MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), wide, 1099);
            return n <= 0 && text.size() > 0 ? nullptr : allocate_(wide);
        }

        Error error;
        void(STDMETHODCALLTYPE* free_string)(wchar_t*) = nullptr;
        com::Result_(STDMETHODCALLTYPE* variant_clear)(com::Variant*) = nullptr;

    private:
        template <class F>
        void take(HMODULE from, const char* name, F& to) {
            if (from != nullptr) to = reinterpret_cast<F>(reinterpret_cast<void*>(::GetProcAddress(from, name)));
            if (to == nullptr) error = Errc::unsupported;
        }
        com::Result_(STDMETHODCALLTYPE* initialize_)(void*, unsigned long) = nullptr;
        void(STDMETHODCALLTYPE* uninitialize_)() = nullptr;
        com::Result_(STDMETHODCALLTYPE* create_)(const com::Guid*, void*, unsigned long, const com::Guid*, com::Object**) = nullptr;
        wchar_t*(STDMETHODCALLTYPE* allocate_)(const wchar_t*) = nullptr;
        bool began_ = false;
    };

    // False for what does not fit whole.
    template <std::size_t N>
    static bool text_of(Com& com, com::Object* rule, std::size_t place, Text<N>& to) {
        wchar_t* value = nullptr;
        if (com::call(rule, place, &value) < 0 || value == nullptr) return true;
        char narrow[N + 1];
        const int n = ::WideCharToMultiByte(CP_UTF8, 0, value, -1, narrow, static_cast<int>(sizeof narrow), nullptr, nullptr);
        if (n > 1) to = TextView(narrow, static_cast<std::size_t>(n - 1));
        com.free_string(value);
        return n > 0;
    }
    static Error add_known(Com& com, com::Object* rule, State& to) {
        int direction = 0, action = 0;
        short enabled = 0;
        long protocol = any_protocol, profiles = 0;
        if (com::call(rule, com::rule::get_direction, &direction) < 0 || direction != 1) return {};
        if (com::call(rule, com::rule::get_enabled, &enabled) < 0 || enabled == 0) return {};
        com::call(rule, com::rule::get_action, &action);
        com::call(rule, com::rule::get_protocol, &protocol);
        com::call(rule, com::rule::get_profiles, &profiles);
        KnownRule known;
        known.allows = action == 1;
        known.protocol = static_cast<std::int32_t>(protocol);
        known.profiles = static_cast<std::uint32_t>(profiles) & all_profiles;
        text_of(com, rule, com::rule::get_name, known.name);
        // What is too long to be known holds for something else than what is asked about, or for some of it: neither is counted on.
        known.narrow = !text_of(com, rule, com::rule::get_application, known.program);
        known.narrow = !text_of(com, rule, com::rule::get_ports, known.ports) || known.narrow;
        for (const std::size_t place :
             {com::rule::get_service, com::rule::get_local_addresses, com::rule::get_remote_addresses, com::rule::get_interface_types}) {
            Text<15> only;
            const bool whole = text_of(com, rule, place, only);
            known.narrow = known.narrow || !whole || !(only.empty() || only == TextView("*") || only == TextView("All"));
        }
        return to.rules.push(std::move(known)) ? Error() : Error(Errc::out_of_memory);
    }
};

}  // namespace rejoin::inline v0_1::firewall::windows
#endif

namespace rejoin::inline v0_1::firewall {

/// Windows Firewall. As `LinuxFirewall` in what it promises; a rule is for this program where none is named. `Policy` has `program`,
/// `read`, `add` and `remove` as `windows::ComPolicy`.
template <class Policy>
class WindowsFirewall {
public:
    struct Options {
        Text<255> helper;    ///< unused: the commands say it all
        Text<255> journal;   ///< unused: rules carry their tag, and nothing here expires by itself
        Text<1023> program;  ///< this program's file, for rules that name none
    };

    WindowsFirewall() = default;
    explicit WindowsFirewall(const Options& options) : options_(options) {}
    /// What it goes by; for tests.
    Policy& policy() { return policy_; }

    Report detect() { return look(Rule()); }
    Report explain(const Rule& rule) { return rule.valid() ? look(rule) : failed(rule, Errc::invalid_argument); }
    Report apply(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        const Report before = look(rule);
        bool blocked = false;
        for (const Gate& gate : before.gates) blocked = blocked || gate.stance == Stance::blocks;
        if (!blocked) return look(rule);
        const Error error = policy_.add(with_program(rule));
        Report after = look(rule);
        for (Gate& gate : after.gates) {
            const Gate* const was = find_gate(before, gate);
            if (was == nullptr || was->stance != Stance::blocks) continue;
            gate.changed = gate.stance == Stance::opened;
            if (!gate.changed) gate.error = error ? error : Error(Errc::unsupported);  // it said yes, and reads otherwise
        }
        return after;
    }
    Report verify(const Rule& rule, Proof proof = Proof::none) {
        Report report = explain(rule);
        report.proof = proof;
        return report;
    }
    Report revert(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        const Report before = look(rule);
        bool there = false;
        for (const windows::KnownRule& known : state_.rules) there = there || known.name == TextView(tag_of(rule));
        const Error error = there ? policy_.remove(rule) : Error();
        Report after = look(rule);
        mark_reverted(before, after);
        if (error) after.error = error;
        return after;
    }
    /// `entry` is always null.
    template <class F>
    Error each_opening(F f) {
        state_ = {};
        if (const Error error = policy_.read(state_)) return error;
        for (const windows::KnownRule& known : state_.rules)
            if (const auto rule = rule_of(known.name)) f(*rule, nullptr);
        return {};
    }
    Error clear(TextView app) {
        Array<Rule> old;
        bool kept = true;
        Error first = each_opening([&](const Rule& rule, std::nullptr_t) {
            if (rule.app == app) kept = kept && old.push(rule);
        });
        for (const Rule& rule : old)
            if (const Error error = policy_.remove(rule); error && !first) first = error;
        return kept ? first : Error(Errc::out_of_memory);
    }

private:
    static Report failed(const Rule& rule, Error error) {
        Report report;
        report.rule = rule;
        report.error = error;
        return report;
    }
    Rule with_program(const Rule& rule) const {
        Rule with = rule;
        if (with.program.empty()) with.program = options_.program;
        if (with.program.empty()) with.program = policy_.program();
        return with;
    }
    Report look(const Rule& rule) {
        Report report;
        report.rule = rule;
        state_ = {};
        const Rule with = with_program(rule);
        if (const Error error = policy_.read(state_)) {
            Gate gate;
            gate.system = System::windows;
            gate.stance = Stance::unknown;
            gate.error = error;
            if (rule.port != 0) {
                gate.command = windows::netsh(with, false);
                gate.inverse = windows::netsh(with, true);
            }
            if (!report.gates.push(std::move(gate))) report.error = Errc::out_of_memory;
            return report;
        }
        if (!windows::judge(state_, rule.port == 0 ? rule : with, report.gates)) report.error = Errc::out_of_memory;
        return report;
    }

    Options options_;
    Policy policy_;
    windows::State state_;
};

}  // namespace rejoin::inline v0_1::firewall

namespace rejoin::inline v0_1::firewall {

#if defined(__linux__)
using Firewall = LinuxFirewall;
#elif defined(_WIN32)
using Firewall = WindowsFirewall<windows::ComPolicy>;
#else
using Firewall = BsdFirewall;
#endif

}  // namespace rejoin::inline v0_1::firewall

namespace rejoin::inline v0_1 {

/// A port that others can reach: let in by this host's firewall, and mapped by the gateways on the way, as far as each is asked for. Given
/// to a `Listener`'s options, or a `Pipe`'s, it opens what that listens on, goes along when the network changes, and closes with it. Lives
/// longer than what it was given to; one for each.
///
/// Belongs to its loop's thread, and is neither copied nor moved. The host's firewall is asked and told by calls that may take as long as
/// the system's tools do, ten seconds at worst; gateways never make anybody wait. A handler may destroy nothing that this was given to, nor
/// this.
template <EventSource E = SystemEvents>
class Opening final : public Opener {
public:
    struct Options {
        /// Who opens, for which protocol, and for how long: `app` has to be there. The port is said by what it is given to.
        firewall::Rule rule;
        bool host = false;    ///< changes this host's firewall, where it blocks; else it is only looked at
        bool gateway = true;  ///< asks the gateways: for IPv4 a mapping, for IPv6 a pinhole
        /// For so long a rule without an expiry of its own, and a mapping, outlive a crash; both are renewed at half of it.
        Duration lease = Duration::seconds(1200);
        firewall::Firewall::Options firewall;
    };

    Opening(Loop& loop, const Options& options)
        : loop_(loop),
          options_(options),
          firewall_(options.firewall),
          mappings_{router::Mapping(loop), router::Mapping(loop)},
          observer_(Delegate<void(const NetworkChange&)>::template to<&Opening::network_changed>(this)),
          renewal_(loop, Delegate<void()>::template to<&Opening::renew>(this)),
          look_again_(loop, Delegate<void()>::template to<&Opening::look_again>(this)) {
        for (router::Mapping& mapping : mappings_) mapping.on_change([this] { mapping_changed(); });
    }
    Opening(const Opening&) = delete;
    ~Opening() {
        on_change_ = {};
        closed();
    }

    /// What is known of it is another than before: `report`, and `external`.
    void on_change(Function<void()> handler) { on_change_ = std::move(handler); }
    /// How this host's firewall stood to it when it was looked at last.
    const firewall::Report& report() const { return report_; }
    /// Where others reach it by that family, as the gateway says; not `valid` where none has said.
    Endpoint external(Family family = Family::v4) const { return mappings_[family == Family::v6].external(); }
    /// Whether a gateway is being asked, and has not answered yet.
    bool asks(Family family = Family::v4) const { return mappings_[family == Family::v6].state() == router::Mapper::State::asking; }
    /// By what; or why not.
    router::Method method(Family family = Family::v4) const { return mappings_[family == Family::v6].method(); }
    Error error(Family family = Family::v4) const { return mappings_[family == Family::v6].error(); }

    // ---- What it is given to calls these.

    /// That is listened on.
    void opened(const Endpoint& local) override {
        if (open_ && local == local_) return;
        closed();
        open_ = true;
        local_ = local;
        rule_ = options_.rule;
        rule_.port = local.port();
        rule_.last_port = 0;
        if (options_.host) {
            if (rule_.expiry == Duration()) rule_.expiry = options_.lease;
            static_cast<void>(firewall_.clear(rule_.app));
        }
        static_cast<void>(look());
        arm_renewal();
        E& events = E::of(loop_);
        events.observe(observer_);
        map(events.state());
        tell();
    }
    /// It is not any more.
    void closed() override {
        if (!std::exchange(open_, false)) return;
        observer_.unlink();
        renewal_.cancel();
        look_again_.cancel();
        if (options_.host) report_ = firewall_.revert(rule_);
        for (router::Mapping& mapping : mappings_) mapping.close();
    }

private:
    void map(const NetworkState& network) {
        if (!options_.gateway) return;
        const Route& v4 = network.route_for(Family::v4);
        for (Family family : {Family::v4, Family::v6}) {
            const Route& route = network.route_for(family);
            const bool reached = local_.ip().is_unspecified() ? family == Family::v4 || local_.ip().family == Family::v6
                                                              : unmapped(local_.ip()).family == family;
            if (!reached || !route.present || route.gateway.family != family || route.source.family != family) continue;
            const IpAddress own = local_.ip().is_unspecified() ? route.source : unmapped(local_.ip());
            router::Mapping& mapping = mappings_[family == Family::v6];
            using State = router::Mapper::State;
            const State state = mapping.state();
            if (state == State::closing) continue;  // it is begun when that is over
            if (state != State::idle && state != State::closed) {
                static_cast<void>(mapping.moved(route.gateway, own, v4.gateway));
                continue;
            }
            router::Want want;
            want.protocol = rule_.protocol;
            want.port = local_.port();
            want.lifetime = options_.lease;
            want.name = TextView(tag_of(rule_));
            static_cast<void>(mapping.start(want, route.gateway, own, v4.gateway));
        }
    }
    // How the firewall stands to it, and opens it where that was asked for. Whether that is another than it was.
    bool look() {
        firewall::Report fresh = options_.host ? firewall_.apply(rule_) : firewall_.explain(rule_);
        for (firewall::Gate& gate : report_.gates) gate.changed = false;
        const bool news = fresh.changed() || !(fresh == report_);
        report_ = std::move(fresh);
        return news;
    }
    void arm_renewal() {
        if (options_.host && options_.rule.expiry == Duration())
            renewal_.after(Duration::milliseconds(options_.lease.milliseconds() / 2 + 1));
    }
    void renew() {
        arm_renewal();
        look_again();
    }
    void look_again() {
        if (look()) tell();
    }
    void network_changed(const NetworkChange& change) {
        map(E::of(loop_).state());
        if (change.settled) look_again_.schedule();  // once, for all that one happening has changed
    }
    void mapping_changed() {
        if (open_) map(E::of(loop_).state());
        tell();
    }
    void tell() {
        if (on_change_) on_change_();
    }

    Loop& loop_;
    const Options options_;
    firewall::Firewall firewall_;
    firewall::Rule rule_;
    firewall::Report report_;
    router::Mapping mappings_[2];
    NetworkObserver observer_;
    Loop::Timer renewal_;
    Loop::Deferred look_again_;
    Function<void()> on_change_;
    Endpoint local_;
    bool open_ = false;
};

}  // namespace rejoin::inline v0_1
