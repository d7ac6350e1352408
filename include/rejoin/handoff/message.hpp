// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/handoff/base64.hpp>
#include <rejoin/handoff/json.hpp>
#include <rejoin/handoff/luggage.hpp>

// What is said on a channel, one JSON object a line; README.md of this folder specifies it. Pure.
namespace rejoin::inline v0_1::handoff {

/// One line, read.
struct Message {
    enum class Type : std::uint8_t {
        offer,     ///< sender: this is yours, once it is committed
        accept,    ///< receiver: the oldest offer not answered yet is taken
        decline,   ///< receiver: it is not
        commit,    ///< sender: it is yours
        withdraw,  ///< sender: it is not
        other,     ///< somebody else's
    };
    Type type = Type::other;
    std::uint64_t id = 0;  ///< of offer, commit, withdraw
    SocketKind kind = SocketKind::none;
    /// An offer in rejoin's own form. Any other, such as Node makes, is the receiver's as soon as it is accepted.
    bool ours = false;
};

namespace detail {

// Writes one line; once memory is out, nothing more, and `ok` is false.
class LineWriter {
public:
    explicit LineWriter(Array<char>& to) : to_(to) {}
    bool ok() const { return ok_; }

    LineWriter& raw(TextView text) {
        ok_ = ok_ && to_.append(text.data(), text.size());
        return *this;
    }
    LineWriter& number(TextView name, std::uint64_t n) {
        char digits[20];
        std::size_t at = sizeof digits;
        do digits[--at] = static_cast<char>('0' + n % 10);
        while ((n /= 10) != 0);
        return key(name).raw({digits + at, sizeof digits - at});
    }
    // What is zero, false or empty is left out.
    LineWriter& number_if(TextView name, std::uint64_t n) { return n == 0 ? *this : number(name, n); }
    LineWriter& flag(TextView name, bool set) { return set ? key(name).raw("true") : *this; }
    LineWriter& text(TextView name, TextView text) {
        if (text.size() == 0) return *this;
        key(name);
        ok_ = ok_ && append_json_string(to_, text);
        return *this;
    }
    LineWriter& bytes(TextView name, Bytes bytes) {
        if (bytes.empty()) return *this;
        key(name).raw("\"");
        ok_ = ok_ && append_base64(to_, bytes);
        return raw("\"");
    }
    LineWriter& bytes(TextView name, const Array<std::byte>& array) { return bytes(name, Bytes(array.data(), array.size())); }
    LineWriter& open(TextView name) {
        key(name).raw("{");
        first_ = true;
        return *this;
    }
    LineWriter& close() {
        first_ = false;
        return raw("}");
    }

private:
    LineWriter& key(TextView name) { return raw(std::exchange(first_, false) ? "\"" : ",\"").raw(name).raw("\":"); }

    Array<char>& to_;
    bool ok_ = true;
    bool first_ = false;
};

inline void write_session(LineWriter& line, const session::State& s) {
    line.open("session");
    line.bytes("id", s.identity.id.bytes).bytes("key", s.identity.key.bytes).flag("accepted", s.accepted);
    line.number("epoch", s.epoch).number_if("askedEpoch", s.asked_epoch);
    line.number_if("roundTrip", static_cast<std::uint64_t>(s.round_trip.nanoseconds()));
    line.number("acknowledged", s.acknowledged).number("highestSent", s.highest_sent).number("received", s.received);
    line.flag("finishing", s.finishing).flag("finAcknowledged", s.fin_acknowledged);
    line.flag("peerFinished", s.peer_finished).flag("heldFin", s.held_fin);
    if (s.attached) {
        line.open("connection").number("sent", s.sent).number("acknowledgementSent", s.acknowledgement_sent);
        line.number_if("skip", s.skip).number("window", s.window);
        line.number_if("payloadOut", s.payload_out).number_if("payloadIn", s.payload_in);
        if (s.pong_due) line.number("pong", s.pong);
        line.bytes("out", s.out).bytes("in", s.in).close();
    }
    line.bytes("held", s.held).bytes("replay", s.replay).close();
}

// Reads members; once one is not what it has to be, `error` says so.
class Reader {
public:
    explicit Reader(Json object) : object_(object) {}
    Error error;

    template <class T>
    void number(TextView name, T& to) {
        const Json member = object_[name];
        if (!member) return;
        const auto n = member.number();
        if (!n || static_cast<T>(*n) != *n)
            error = Errc::malformed;
        else
            to = static_cast<T>(*n);
    }
    void flag(TextView name, bool& to) const { to = object_[name].is_true(); }
    void bytes(TextView name, Array<std::byte>& to) {
        const Json member = object_[name];
        if (!member) return;
        const auto read = member.text()[0] == '"' ? append_from_base64(to, member.raw_string()) : Errc::malformed;
        if (!read) error = read.error();
    }
    template <std::size_t N>
    void exactly(TextView name, std::byte (&to)[N]) {
        Array<std::byte> read;
        bytes(name, read);
        if (read.size() == N)
            copy(to, {read.data(), N});
        else if (!error)
            error = Errc::malformed;
    }

private:
    Json object_;
};

inline Error read_session(Json object, session::State& s) {
    Reader read(object);
    read.exactly("id", s.identity.id.bytes);
    read.exactly("key", s.identity.key.bytes);
    read.flag("accepted", s.accepted);
    read.number("epoch", s.epoch);
    read.number("askedEpoch", s.asked_epoch);
    std::uint64_t round_trip = 0;
    read.number("roundTrip", round_trip);
    s.round_trip = Duration::nanoseconds(static_cast<std::int64_t>(round_trip));
    read.number("acknowledged", s.acknowledged);
    read.number("highestSent", s.highest_sent);
    read.number("received", s.received);
    read.flag("finishing", s.finishing);
    read.flag("finAcknowledged", s.fin_acknowledged);
    read.flag("peerFinished", s.peer_finished);
    read.flag("heldFin", s.held_fin);
    const Json connection = object["connection"];
    s.attached = connection.is_object();
    Reader of_connection(connection);
    of_connection.number("sent", s.sent);
    of_connection.number("acknowledgementSent", s.acknowledgement_sent);
    of_connection.number("skip", s.skip);
    of_connection.number("window", s.window);
    of_connection.number("payloadOut", s.payload_out);
    of_connection.number("payloadIn", s.payload_in);
    s.pong_due = static_cast<bool>(connection["pong"]);
    of_connection.number("pong", s.pong);
    of_connection.bytes("out", s.out);
    of_connection.bytes("in", s.in);
    read.bytes("held", s.held);
    read.bytes("replay", s.replay);
    return read.error ? read.error : of_connection.error;
}

}  // namespace detail

/// Appends an offer, as one line; false when memory is out. `datagram_v6`: of a datagram socket, that its family is IPv6.
[[gnu::cold]] inline bool write_offer(Array<char>& to, std::uint64_t id, SocketKind kind, bool datagram_v6, const Luggage& luggage) {
    detail::LineWriter line(to);
    switch (kind) {
        case SocketKind::none:
            line.raw("{");
            break;
        case SocketKind::stream:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{)");
            break;
        case SocketKind::listener:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"net.Server","msg":{)");
            break;
        case SocketKind::datagram:
            line.raw(R"({"cmd":"NODE_HANDLE","type":"dgram.Socket","dgramType":")").raw(datagram_v6 ? "udp6" : "udp4");
            line.raw(R"(","msg":{)");
            break;
    }
    line.raw(R"("rejoin":"offer")").number("id", id);
    line.text("note", {luggage.note.data(), luggage.note.size()});
    if (luggage.peer.valid()) {
        line.text("host", luggage.peer.name() != nullptr ? TextView(luggage.peer.name()) : TextView(to_text(luggage.peer.ip())));
        line.number("port", luggage.peer.port());
    }
    line.bytes("unread", luggage.unread).bytes("unsent", luggage.unsent);
    if (luggage.resumable) detail::write_session(line, luggage.session);
    return line.raw(kind == SocketKind::none ? "}\n" : "}}\n").ok();
}

/// Appends a line that is no offer; false when memory is out.
inline bool write_message(Array<char>& to, Message::Type type, std::uint64_t id) {
    detail::LineWriter line(to);
    switch (type) {
        case Message::Type::accept:
            return line.raw("{\"cmd\":\"NODE_HANDLE_ACK\"}\n").ok();
        case Message::Type::decline:
            return line.raw("{\"cmd\":\"NODE_HANDLE_NACK\"}\n").ok();
        case Message::Type::commit:
            return line.raw(R"({"rejoin":"commit")").number("id", id).raw("}\n").ok();
        default:
            return line.raw(R"({"rejoin":"withdraw")").number("id", id).raw("}\n").ok();
    }
}

/// Reads one line, without its end; what an offer brings goes into `luggage`. `malformed`, `out_of_memory`.
[[gnu::cold]] inline Result<Message> read_message(TextView text, Luggage& luggage) {
    const auto line = Json::parse(text);
    if (!line) return line.error();
    Message message;
    const Json command = (*line)["cmd"], msg = (*line)["msg"];
    if (command.is("NODE_HANDLE_ACK") || command.is("NODE_HANDLE_NACK")) {
        message.type = command.is("NODE_HANDLE_ACK") ? Message::Type::accept : Message::Type::decline;
        return message;
    }
    const bool handle = command.is("NODE_HANDLE");
    if (command && !handle) return message;
    const Json body = handle ? msg : *line;
    const Json word = body["rejoin"];
    if (handle) {
        const Json type = (*line)["type"];
        message.type = Message::Type::offer;
        message.kind = type.is("net.Server") ? SocketKind::listener : type.is("dgram.Socket") ? SocketKind::datagram : SocketKind::stream;
        if (!word) {
            if (!luggage.note.append(msg.text().data(), msg.text().size())) return Errc::out_of_memory;
            return message;
        }
    }
    if (!word) return message;
    detail::Reader read(body);
    read.number("id", message.id);
    message.ours = true;
    if (!handle && !word.is("offer")) {
        if (!word.is("commit") && !word.is("withdraw")) return Errc::malformed;
        message.type = word.is("commit") ? Message::Type::commit : Message::Type::withdraw;
        if (read.error) return read.error;
        return message;
    }
    if (!word.is("offer")) return Errc::malformed;
    message.type = Message::Type::offer;
    if (const Json note = body["note"])
        if (auto copied = note.append_to(luggage.note); !copied) return copied.error();
    if (const Json host = body["host"]) {
        std::uint16_t port = 0;
        read.number("port", port);
        Array<char> name;
        if (auto copied = host.append_to(name); !copied) return copied.error();
        luggage.peer = Endpoint(TextView(name.data(), name.size()), port);
        if (!luggage.peer.valid()) return Errc::malformed;
    }
    read.bytes("unread", luggage.unread);
    read.bytes("unsent", luggage.unsent);
    const Json session = body["session"];
    luggage.resumable = session.is_object();
    if (luggage.resumable)
        if (const Error error = detail::read_session(session, luggage.session)) return error;
    if (read.error) return read.error;
    if (!handle && !luggage.resumable) return Errc::malformed;  // nothing moves
    return message;
}

}  // namespace rejoin::inline v0_1::handoff
