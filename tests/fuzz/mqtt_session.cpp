// SPDX-License-Identifier: BSL-1.0
// Any bytes as what a server says to a session that publishes and subscribes: whatever it says, each message that was accepted is told of
// once, what a session says is in order, and memory is bounded. Input: a byte of what the session is like, then pieces: a byte that says
// what happens before and how long the piece is, and the piece.
#include <cstdlib>
#include <rejoin/mqtt/session.hpp>
#include <set>
#include <vector>

using namespace rejoin;
using namespace rejoin::mqtt;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

struct Run {
    Run(Version version, const Limits& l) : limits(l), session(version, l) {
        Connect connect;
        connect.client_id = "me";
        connect.clean = false;
        expect(static_cast<bool>(session.configure(connect)));
    }
    // What it says is packets that a client may send, the first of them CONNECT, and no other is.
    void write(std::size_t limit) {
        const Bytes out = session.pending(now);
        const Bytes part = out.first(out.size() < limit ? out.size() : limit);
        written.insert(written.end(), part.begin(), part.end());
        session.wrote(part.size(), now);
        std::size_t at = 0;
        while (written.size() - at >= 2) {
            std::size_t length = 0, i = at + 1;
            unsigned shift = 0;
            for (; i < written.size() && i < at + 5; ++i, shift += 7) {
                length |= (std::to_integer<std::size_t>(written[i]) & 0x7f) << shift;
                if ((written[i] & std::byte{0x80}) == std::byte{}) break;
            }
            if (i >= written.size() || written.size() - i - 1 < length) break;
            expect(i < at + 5);
            const unsigned type = std::to_integer<unsigned>(written[at]) >> 4;
            expect(type != 0 && type != 2 && type != 9 && type != 11 && type != 13 && type != 15);
            expect((type == 1) == (packets == 0));
            expect(!left);
            left = type == 14;
            ++packets;
            at = i + 1 + length;
        }
        written.erase(written.begin(), written.begin() + static_cast<std::ptrdiff_t>(at));
    }
    void tell(Bytes piece) {
        for (mqtt::Event event;;) {
            const auto there = session.next(piece, now, event);
            if (!there) {
                expect(session.state() == Session::State::closed);
                write(SIZE_MAX);
                return connect();
            }
            if (!*there) break;
            switch (event.kind) {
                case mqtt::Event::Kind::delivered:
                case mqtt::Event::Kind::failed:
                    expect(accepted.erase(event.token) == 1);
                    break;
                case mqtt::Event::Kind::message:
                    expect(event.packet.topic.size() > 0);
                    break;
                case mqtt::Event::Kind::refused:
                case mqtt::Event::Kind::disconnected:
                    expect(session.state() == Session::State::closed);
                    return connect();
                default:
                    break;
            }
        }
        expect(piece.empty() || session.state() == Session::State::closed);
        expect(session.queued() <= limits.queue);
    }
    void connect() {
        written.clear();
        packets = 0;
        left = false;
        expect(static_cast<bool>(session.opened(now)));
    }
    void publish(unsigned kind) {
        static constexpr char text[] = "payload, of any length";
        Message message;
        message.topic = "t";
        message.payload = TextView(text, kind % sizeof text).bytes();
        message.qos = static_cast<Qos>(kind % 3);
        message.retain = kind % 5 == 0;
        if (kind % 7 == 0) message.expiry = Duration::seconds(kind);
        const auto token = session.publish(message, now);
        if (token)
            expect(accepted.insert(*token).second);
        else
            expect(token.error() == Errc::would_block);
    }

    TimePoint now = TimePoint::from_nanoseconds(1'000'000'000);
    Limits limits;
    Session session;
    std::vector<std::byte> written;
    std::set<Token> accepted;
    int packets = 0;
    bool left = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    Limits limits;
    limits.packet = 4096;
    limits.queue = 1000;
    limits.in_flight = 3;
    limits.receive_maximum = 2;
    limits.topic_aliases = 2;
    limits.subscriptions = 2;
    const Version version = (data[0] & 1) != 0 ? Version::v5 : Version::v3_1_1;
    Run run(version, limits);
    run.connect();
    if ((data[0] & 2) != 0) {
        // It is let in at once, into the session it had if that is said.
        std::byte connack[] = {std::byte{0x20},
                               version == Version::v5 ? std::byte{3} : std::byte{2},
                               (data[0] & 4) != 0 ? std::byte{1} : std::byte{0},
                               {},
                               {}};
        run.write(SIZE_MAX);
        run.tell(Bytes(connack, version == Version::v5 ? 5 : 4));
    }
    std::size_t at = 1;
    while (at < size) {
        const unsigned what = data[at++];
        Subscription subscription;
        subscription.filter = (what & 8) != 0 ? "t/#" : "t";
        switch (what & 7) {
            case 0:
                run.publish(what >> 3);
                break;
            case 1:
                static_cast<void>(run.session.subscribe(subscription));
                break;
            case 2:
                static_cast<void>(run.session.unsubscribe(subscription.filter));
                break;
            case 3:
                run.write(what >> 3);
                break;
            case 4:
                run.now = run.now + Duration::seconds(what >> 3);
                if (run.session.expire(run.now)) run.connect();
                break;
            case 5:
                run.connect();
                break;
            default:
                run.write(SIZE_MAX);
                break;
        }
        const std::size_t n = at < size ? data[at++] % 64 : 0, piece = n < size - at ? n : size - at;
        run.tell({reinterpret_cast<const std::byte*>(data + at), piece});
        at += piece;
    }
    run.session.cancel();
    run.session.lost();
    run.tell({});
    expect(run.accepted.empty() && run.session.queued() == 0);
    return 0;
}
