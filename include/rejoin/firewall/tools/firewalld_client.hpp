// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/dbus.hpp>
#include <rejoin/firewall/tools/firewalld.hpp>
#include <rejoin/os/clock.hpp>
#include <rejoin/os/local_socket.hpp>
#include <rejoin/os/poller.hpp>

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
