// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/firewall/router/pcp.hpp>
#include <rejoin/firewall/router/xml.hpp>

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
