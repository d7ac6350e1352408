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

// Reads values; once one is not what it has to be, `error` says so. One that is absent leaves things as they are.
struct Reader {
    Error error;

    template <class T>
    void number(Json from, T& to) {
        if (!from) return;
        const auto n = from.number();
        if (!n || static_cast<T>(*n) != *n)
            error = Errc::malformed;
        else
            to = static_cast<T>(*n);
    }
    void bytes(Json from, Array<std::byte>& to) {
        if (!from) return;
        const auto read = from.text()[0] == '"' ? append_from_base64(to, from.raw_string()) : Errc::malformed;
        if (!read) error = read.error();
    }
    template <std::size_t N>
    void exactly(Json from, std::byte (&to)[N]) {
        Array<std::byte> read;
        bytes(from, read);
        if (read.size() == N)
            copy(to, {read.data(), N});
        else if (!error)
            error = Errc::malformed;
    }
};

inline void read_connection(Json object, Reader& read, session::State& s) {
    static constexpr TextView names[] = {"sent", "acknowledgementSent", "skip", "window", "payloadOut", "payloadIn", "pong", "out", "in"};
    Json found[std::size(names)];
    object.members(names, found);
    const auto& [sent, acknowledgement_sent, skip, window, payload_out, payload_in, pong, out, in] = found;
    s.attached = object.is_object();
    read.number(sent, s.sent);
    read.number(acknowledgement_sent, s.acknowledgement_sent);
    read.number(skip, s.skip);
    read.number(window, s.window);
    read.number(payload_out, s.payload_out);
    read.number(payload_in, s.payload_in);
    s.pong_due = static_cast<bool>(pong);
    read.number(pong, s.pong);
    read.bytes(out, s.out);
    read.bytes(in, s.in);
}
inline void read_session(Json object, Reader& read, session::State& s) {
    static constexpr TextView names[] = {"id",           "key",         "accepted",  "epoch",           "askedEpoch", "roundTrip",
                                         "acknowledged", "highestSent", "finishing", "finAcknowledged", "received",   "peerFinished",
                                         "heldFin",      "connection",  "held",      "replay"};
    Json found[std::size(names)];
    object.members(names, found);
    const auto& [id, key, accepted, epoch, asked_epoch, round_trip, acknowledged, highest_sent, finishing, fin_acknowledged, received,
                 peer_finished, held_fin, connection, held, replay] = found;
    read.exactly(id, s.identity.id.bytes);
    read.exactly(key, s.identity.key.bytes);
    s.accepted = accepted.is_true();
    read.number(epoch, s.epoch);
    read.number(asked_epoch, s.asked_epoch);
    std::uint64_t nanoseconds = 0;
    read.number(round_trip, nanoseconds);
    s.round_trip = Duration::nanoseconds(static_cast<std::int64_t>(nanoseconds));
    read.number(acknowledged, s.acknowledged);
    read.number(highest_sent, s.highest_sent);
    s.finishing = finishing.is_true();
    s.fin_acknowledged = fin_acknowledged.is_true();
    read.number(received, s.received);
    s.peer_finished = peer_finished.is_true();
    s.held_fin = held_fin.is_true();
    read_connection(connection, read, s);
    read.bytes(held, s.held);
    read.bytes(replay, s.replay);
}

}  // namespace detail

/// Appends an offer, as one line; false when memory is out. `datagram_v6`: of a datagram socket, that its family is IPv6.
[[gnu::cold]] inline bool write_offer(Array<char>& to, std::uint64_t id, SocketKind kind, bool datagram_v6, const Luggage& luggage) {
    // Most of what there is to say beyond the bytes; base64 makes four of three.
    static constexpr std::size_t words = 900;
    const auto& s = luggage.session;
    const std::size_t bytes = luggage.ticket.size() + luggage.unread.size() + luggage.unsent.size() + s.out.size() + s.in.size() +
                              s.held.size() + s.replay.size();
    if (!to.reserve(to.size() + luggage.note.size() + bytes / 3 * 4 + (luggage.resumable ? words : 160))) return false;
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
    line.bytes("ticket", luggage.ticket).bytes("unread", luggage.unread).bytes("unsent", luggage.unsent);
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
    static constexpr TextView outer_names[] = {"cmd", "type", "msg"};
    Json outer[std::size(outer_names)];
    line->members(outer_names, outer);
    const auto& [command, type, msg] = outer;

    Message message;
    if (command.is("NODE_HANDLE_ACK") || command.is("NODE_HANDLE_NACK")) {
        message.type = command.is("NODE_HANDLE_ACK") ? Message::Type::accept : Message::Type::decline;
        return message;
    }
    const bool handle = command.is("NODE_HANDLE");
    if (command && !handle) return message;
    static constexpr TextView names[] = {"rejoin", "id", "note", "host", "port", "ticket", "unread", "unsent", "session"};
    Json found[std::size(names)];
    (handle ? msg : *line).members(names, found);
    const auto& [word, id, note, host, port, ticket, unread, unsent, session] = found;
    if (handle) {
        message.type = Message::Type::offer;
        message.kind = type.is("net.Server") ? SocketKind::listener : type.is("dgram.Socket") ? SocketKind::datagram : SocketKind::stream;
        if (!word) {
            if (!luggage.note.append(msg.text().data(), msg.text().size())) return Errc::out_of_memory;
            return message;
        }
    }
    if (!word) return message;
    detail::Reader read;
    read.number(id, message.id);
    message.ours = true;
    if (!handle && !word.is("offer")) {
        if (!word.is("commit") && !word.is("withdraw")) return Errc::malformed;
        message.type = word.is("commit") ? Message::Type::commit : Message::Type::withdraw;
        if (read.error) return read.error;
        return message;
    }
    if (!word.is("offer")) return Errc::malformed;
    message.type = Message::Type::offer;
    if (note)
        if (auto copied = note.append_to(luggage.note); !copied) return copied.error();
    if (host) {
        std::uint16_t number = 0;
        read.number(port, number);
        Array<char> name;
        if (auto copied = host.append_to(name); !copied) return copied.error();
        luggage.peer = Endpoint(TextView(name.data(), name.size()), number);
        if (!luggage.peer.valid()) return Errc::malformed;
    }
    read.bytes(ticket, luggage.ticket);
    read.bytes(unread, luggage.unread);
    read.bytes(unsent, luggage.unsent);
    luggage.resumable = session.is_object();
    if (luggage.resumable) detail::read_session(session, read, luggage.session);
    if (read.error) return read.error;
    if (!handle && !luggage.resumable) return Errc::malformed;  // nothing moves
    return message;
}

}  // namespace rejoin::inline v0_1::handoff
