// SPDX-License-Identifier: BSL-1.0
// Says in plain words what this host's network looks like, and what happens to it as it happens.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <rejoin.hpp>
#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace {

using rejoin::Description;
using rejoin::Duration;
using rejoin::Family;
using rejoin::NetworkChange;
using rejoin::NetworkState;
using rejoin::TextView;
using Events = rejoin::ExternalAddress<rejoin::SystemEvents>;

constexpr char usage[] =
    "usage: netwatch [--once] [--json] [--stun HOST:PORT]... [--for DURATION]\n"
    "  --once            the network as it is now, and no more\n"
    "  --json            one JSON object a line\n"
    "  --stun HOST:PORT  asks this STUN server (3478 without a port) for the address that the internet sees; up to 8\n"
    "  --for DURATION    ends after so long: 500ms, 30s, 5m, 2h\n"
    "Every change is shown as soon as it is noticed; one that may break connections is marked with \"!\".\n";

struct Arguments {
    bool once = false, json = false;
    Duration time = Duration::unlimited();
    rejoin::Endpoint servers[Events::servers_max];
    std::size_t server_count = 0;
};

bool parse_duration(const char* text, Duration& to) {
    static constexpr struct {
        const char* name;
        Duration unit;
    } units[] = {
        {"ms", Duration::milliseconds(1)}, {"s", Duration::seconds(1)}, {"m", Duration::seconds(60)}, {"h", Duration::seconds(3600)}};
    char* end = nullptr;
    const long number = std::strtol(text, &end, 10);
    if (end == text || number <= 0) return false;
    for (const auto& u : units)
        if (TextView(end) == TextView(u.name)) {
            to = u.unit * number;
            return true;
        }
    return false;
}

// HOST, HOST:PORT, [IPv6]:PORT, or an IPv6 address alone.
bool parse_server(TextView text, rejoin::Endpoint& to) {
    std::size_t colon = text.size();
    for (std::size_t i = 0; i < text.size(); ++i)
        if (text[i] == ':') colon = i;
    TextView host = text;
    long port = 3478;
    if (colon != text.size() && !rejoin::IpAddress::parse(text)) {
        char* end = nullptr;
        port = std::strtol(text.data() + colon + 1, &end, 10);
        if (end == text.data() + colon + 1 || *end != 0 || port < 1 || port > 65535) return false;
        host = {text.data(), colon};
    }
    if (host.size() > 2 && host[0] == '[' && host[host.size() - 1] == ']') host = {host.data() + 1, host.size() - 2};
    to = rejoin::Endpoint(host, static_cast<int>(port));
    return to.valid();
}

bool parse(int argc, char** argv, Arguments& to) {
    for (int i = 1; i < argc; ++i) {
        const TextView option = argv[i];
        const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (option == "--once") {
            to.once = true;
        } else if (option == "--json") {
            to.json = true;
        } else if (option == "--for" && value != nullptr) {
            if (!parse_duration(argv[++i], to.time)) return false;
        } else if (option == "--stun" && value != nullptr) {
            if (to.server_count == Events::servers_max || !parse_server(argv[++i], to.servers[to.server_count++])) return false;
        } else {
            return false;
        }
    }
    return true;
}

const char* name(NetworkChange::Kind kind) {
    using Kind = NetworkChange::Kind;
    switch (kind) {
        case Kind::interface_removed:
            return "interface_removed";
        case Kind::interface_down:
            return "interface_down";
        case Kind::carrier_down:
            return "carrier_down";
        case Kind::address_removed:
            return "address_removed";
        case Kind::address_unusable:
            return "address_unusable";
        case Kind::address_deprecated:
            return "address_deprecated";
        case Kind::interface_added:
            return "interface_added";
        case Kind::interface_up:
            return "interface_up";
        case Kind::carrier_up:
            return "carrier_up";
        case Kind::address_added:
            return "address_added";
        case Kind::address_usable:
            return "address_usable";
        case Kind::route_added:
            return "route_added";
        case Kind::route_changed:
            return "route_changed";
        case Kind::route_removed:
            return "route_removed";
        case Kind::active_interface_changed:
            return "active_interface_changed";
        case Kind::connectivity_lost:
            return "connectivity_lost";
        case Kind::connectivity_regained:
            return "connectivity_regained";
        case Kind::dns_changed:
            return "dns_changed";
        case Kind::external_address_changed:
            return "external_address_changed";
        case Kind::woke:
            return "woke";
    }
    return "";
}
const char* name(Family family) { return family == Family::v6 ? "IPv6" : "IPv4"; }

// ---- For people.

class Words {
public:
    explicit Words(bool colour) : colour_(colour) {}

    void state(const NetworkState& network, const Events& events) {
        for (const rejoin::Interface& i : network.interfaces) {
            row(i.name, i.running() ? good : faint,
                i.running() ? "has a link"
                : i.up      ? "has no link"
                            : "is switched off",
                i.noise ? "the system's own" : "");
            for (const rejoin::InterfaceAddress& a : network.addresses) {
                if (a.interface_index != i.index) continue;
                const Description text = Description(to_text(a.ip)).append("/").append_number(a.prefix_length);
                row("", a.usable() ? plain : bad, text,
                    a.duplicate    ? "another host has it"
                    : a.tentative  ? "being checked"
                    : a.deprecated ? "not for new connections"
                    : a.temporary  ? "temporary"
                                   : "");
            }
        }
        for (Family family : {Family::v4, Family::v6}) {
            const rejoin::Route& route = network.route_for(family);
            if (!route.present) {
                row(name(family), faint, "has no route to the internet");
                continue;
            }
            const rejoin::Interface* const by = network.find_interface(route.interface_index);
            Description text("goes to the internet by ");
            by != nullptr ? text.append(by->name) : text.append("number ").append_number(route.interface_index);
            if (route.gateway.family != Family::none) text.append(", through ").append(to_text(route.gateway));
            if (route.source.family != Family::none) text.append(", from ").append(to_text(route.source));
            row(name(family), good, text);
        }
        Description names(network.dns_servers.empty() ? "unknown" : "");
        for (const rejoin::IpAddress& server : network.dns_servers) names.append(names.empty() ? "" : ", ").append(to_text(server));
        row("name servers", plain, names);
        for (Family family : {Family::v4, Family::v6}) {
            const rejoin::External& external = events.external(family);
            if (external.address.family == Family::none) continue;
            row(Description(name(family)).append(" outside"), plain, to_text(external.address),
                external.mapping == rejoin::NatMapping::differs ? "looks different to each server" : "");
        }
    }
    void change(const NetworkChange& change) {
        char time[16];
        const std::time_t now = std::time(nullptr);
        std::strftime(time, sizeof time, "%H:%M:%S", std::localtime(&now));
        const bool better = change.may_help();
        std::printf("%s%s%s %s %s%s%s\n", on(faint), time, off(), change.major ? "!" : " ",
                    on(change.noise   ? faint
                       : change.major ? bad
                       : better       ? good
                                      : plain),
                    describe(change).c_str(), off());
    }
    void note(TextView text) { std::printf("%s%.*s%s\n", on(faint), static_cast<int>(text.size()), text.data(), off()); }

private:
    enum Colour { plain, good, bad, faint };
    const char* on(Colour colour) const {
        static constexpr const char* codes[] = {"", "\033[32m", "\033[31m", "\033[2m"};
        return colour_ ? codes[colour] : "";
    }
    const char* off() const { return colour_ ? "\033[0m" : ""; }
    void row(TextView label, Colour colour, TextView text, TextView remark = "") {
        std::printf("%-15.*s %s%.*s%s%s%.*s\n", static_cast<int>(label.size()), label.data(), on(colour), static_cast<int>(text.size()),
                    text.data(), off(), remark.size() == 0 ? "" : ", ", static_cast<int>(remark.size()), remark.data());
    }
    const bool colour_;
};

// ---- For programs: one JSON object a line (RFC 8259).

class Json {
public:
    void state(const NetworkState& network, const Events& events) {
        open();
        std::fputs(",\"state\":{\"interfaces\":[", stdout);
        for (const rejoin::Interface& i : network.interfaces) {
            std::fputs(&i == network.interfaces.begin() ? "{" : ",{", stdout);
            std::printf("\"index\":%u,\"up\":%s,\"carrier\":%s,\"noise\":%s", i.index, word(i.up), word(i.carrier), word(i.noise));
            text("name", i.name);
            std::fputs(",\"addresses\":[", stdout);
            const char* comma = "";
            for (const rejoin::InterfaceAddress& a : network.addresses) {
                if (a.interface_index != i.index) continue;
                std::printf("%s{\"prefix_length\":%d,\"tentative\":%s,\"duplicate\":%s,\"deprecated\":%s,\"temporary\":%s", comma,
                            a.prefix_length, word(a.tentative), word(a.duplicate), word(a.deprecated), word(a.temporary));
                text("address", to_text(a.ip));
                std::fputs("}", stdout);
                comma = ",";
            }
            std::fputs("]}", stdout);
        }
        std::fputs("],\"routes\":[", stdout);
        const char* comma = "";
        for (Family family : {Family::v4, Family::v6}) {
            const rejoin::Route& route = network.route_for(family);
            if (!route.present) continue;
            std::printf("%s{\"family\":\"%s\",\"interface_index\":%u", comma, name(family), route.interface_index);
            address("gateway", route.gateway);
            address("source", route.source);
            std::fputs("}", stdout);
            comma = ",";
        }
        std::fputs("],\"name_servers\":[", stdout);
        for (const rejoin::IpAddress& server : network.dns_servers)
            std::printf("%s\"%s\"", &server == network.dns_servers.begin() ? "" : ",", to_text(server).c_str());
        std::fputs("],\"external\":[", stdout);
        comma = "";
        for (Family family : {Family::v4, Family::v6}) {
            const rejoin::External& external = events.external(family);
            if (external.address.family == Family::none) continue;
            std::printf("%s{\"family\":\"%s\",\"servers_disagree\":%s", comma, name(family),
                        word(external.mapping == rejoin::NatMapping::differs));
            address("address", external.address);
            std::fputs("}", stdout);
            comma = ",";
        }
        std::fputs("]}", stdout);
        close();
    }
    void change(const NetworkChange& change) {
        open();
        std::printf(",\"change\":\"%s\",\"major\":%s,\"noise\":%s", name(change.kind), word(change.major), word(change.noise));
        if (change.family != Family::none) std::printf(",\"family\":\"%s\"", name(change.family));
        if (change.interface_index != 0) {
            std::printf(",\"interface_index\":%u", change.interface_index);
            text("interface", change.interface_name);
        }
        address("address", change.address);
        address("gateway", change.gateway);
        if (change.kind == NetworkChange::Kind::external_address_changed) {
            address("old_address", change.old_address);
            if (change.server.family != Family::none) text("server", to_text(rejoin::Endpoint(change.server, change.server_port)));
            std::printf(",\"servers_disagree\":%s", word(change.servers_disagree));
        }
        if (change.kind == NetworkChange::Kind::woke)
            std::printf(",\"slept_ms\":%lld", static_cast<long long>(change.slept.milliseconds()));
        text("text", describe(change));
        close();
    }
    void note(TextView what) {
        open();
        text("note", what);
        close();
    }

private:
    static const char* word(bool b) { return b ? "true" : "false"; }
    static void open() {
        char time[32];
        const std::time_t now = std::time(nullptr);
        std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
        std::printf("{\"time\":\"%s\"", time);
    }
    static void close() { std::puts("}"); }
    static void address(const char* key, const rejoin::IpAddress& ip) {
        if (ip.family != Family::none) text(key, to_text(ip));
    }
    static void text(const char* key, TextView value) {
        std::printf(",\"%s\":\"", key);
        for (std::size_t i = 0; i < value.size();) {
            const auto c = static_cast<unsigned char>(value[i]);
            std::size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
            for (std::size_t k = 1; k < n; ++k)
                if (i + k >= value.size() || (static_cast<unsigned char>(value[i + k]) & 0xc0) != 0x80) n = 0;
            if (n == 0)  // an interface's name may be any bytes, and cut short: JSON may not
                std::fputs("\\ufffd", stdout);
            else if (c < 0x20 || c == '"' || c == '\\')
                std::printf("\\u%04x", c);
            else
                std::fwrite(value.data() + i, 1, n, stdout);
            i += n == 0 ? 1 : n;
        }
        std::fputs("\"", stdout);
    }
};

template <class Output>
int watch(Output output, const Arguments& arguments) {
    rejoin::Loop loop;
    Events& events = Events::of(loop);
    rejoin::SystemEvents& system = rejoin::SystemEvents::of(loop);
    if (const rejoin::Error error = system.error())
        output.note(
            Description(system.polling() ? "The system does not tell of changes (error " : "The network cannot be watched here (error ")
                .append_number(error.code())
                .append(system.polling() ? "): looking from time to time." : ")."));
    if (!system.state().known) return 1;

    bool asked = arguments.server_count == 0;  // the servers have answered, or will not
    const auto all_asked = [&] {
        for (Family family : {Family::v4, Family::v6})
            if (events.state().route_for(family).present && events.external(family).error == rejoin::Errc::invalid_state) return false;
        return true;
    };
    if (!asked) {
        if (!events.set_servers({arguments.servers, arguments.server_count})) return 2;
        const rejoin::TimePoint end = loop.now() + Duration::seconds(10);
        while (!asked && loop.now() < end) {
            if (!loop.run_once(Duration::milliseconds(100))) return 1;
            asked = all_asked();
        }
    }
    output.state(events.state(), events);
    std::fflush(stdout);
    if (arguments.once) return 0;

    rejoin::Pipe<Events, rejoin::Tcp, rejoin::FailFast> pipe(loop);  // idle: that is enough to hear of the network
    pipe.on_network_change(
        [&](const NetworkChange& change) {
            output.change(change);
            std::fflush(stdout);
        },
        rejoin::Notice::at_once);
    return (arguments.time == Duration::unlimited() ? loop.run() : loop.run_for(arguments.time)) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    if (!parse(argc, argv, arguments)) {
        std::fputs(usage, stderr);
        return 2;
    }
    if (arguments.json) return watch(Json(), arguments);
#if defined(_WIN32)
    const bool terminal = ::_isatty(1) != 0 && std::getenv("WT_SESSION") != nullptr;  // older consoles show the codes themselves
#else
    const bool terminal = ::isatty(1) != 0;
#endif
    return watch(Words(terminal && std::getenv("NO_COLOR") == nullptr), arguments);
}
