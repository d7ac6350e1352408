// SPDX-License-Identifier: BSL-1.0
// Any bytes as what a broker passes on: what was accepted is told of once, nothing is held beyond what may be, and with a key nothing is
// heard that was not sealed with it. Input: a byte that says whether there is a key, then pieces: two bytes of what happens and how long it
// is, and the piece, which is taken as an envelope's numbers or, where that is asked for, as a whole envelope.
#include <cstdlib>
#include <rejoin/signalling/exchange.hpp>
#include <set>

using namespace rejoin;
using namespace rejoin::signalling;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

struct Run {
    explicit Run(bool k) : key(k), exchange(limits(), 1) {
        expect(static_cast<bool>(exchange.set_name("me")));
        if (key) expect(static_cast<bool>(exchange.share_key("", TextView("0123456789abcdef").bytes())));
        for (int i = 0; i < 2; ++i) {
            expect(exchange.add_broker("b") == i);
            exchange.broker_up(i, now);
        }
    }
    static Limits limits() {
        Limits small;
        small.message = 200;
        small.queue = 2000;
        small.held = 1000;
        small.streams = 4;
        small.peers = 4;
        return small;
    }
    void listen() {
        for (signalling::Event event; exchange.next(event);) {
            if (event.kind == signalling::Event::Kind::message) {
                expect(!key && !event.sealed && event.payload.size() <= 1000);
            } else {
                expect(accepted.erase(event.token) == 1);
            }
        }
    }
    void hear(Bytes bytes) {
        exchange.received(0, bytes, now, wall);
        listen();
    }
    void say() {
        for (Copy copy; exchange.next_copy(copy, now, wall);) {
            const auto own = read_envelope(copy.bytes);
            expect(own && own->sealed == key && own->from == TextView("me"));
            if (own->kind == Envelope::Kind::message) last_stream = own->stream;
            exchange.given(copy, true, now);
        }
        listen();
    }
    void send() {
        SendOptions options;
        options.ordered = accepted.size() % 2 == 0;
        const auto token = exchange.send("peer", TextView("hello").bytes(), options, now);
        if (token)
            expect(accepted.insert(*token).second);
        else
            expect(token.error() == Errc::would_block);
    }

    const bool key;
    TimePoint now = TimePoint::from_nanoseconds(1'000'000'000);
    std::int64_t wall = 1'700'000'000'000;
    Exchange exchange;
    std::set<Token> accepted;
    std::uint64_t last_stream = 0;
};

// Small numbers are where the cases are.
std::uint64_t number(Bytes from, std::size_t at) {
    const unsigned value = at < from.size() ? std::to_integer<unsigned>(from[at]) : 1;
    return value < 250 ? value : ~std::uint64_t{0} - (255 - value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    Run run((data[0] & 1) != 0);
    for (std::size_t at = 1; at + 2 <= size;) {
        const unsigned what = data[at++];
        const std::size_t n = data[at++], length = n < size - at ? n : size - at;
        const Bytes piece(reinterpret_cast<const std::byte*>(data + at), length);
        at += length;
        Envelope e;
        e.kind = (what & 8) != 0 ? Envelope::Kind::acknowledgement : Envelope::Kind::message;
        e.ordered = (what & 16) != 0;
        e.again = (what & 32) != 0;
        e.from = "peer";
        e.stream = e.kind == Envelope::Kind::message ? number(piece, 0) % 8 : run.last_stream;
        e.number = number(piece, 1);
        e.base = number(piece, 2);
        e.after = number(piece, 3);
        e.time = run.wall;
        e.valid = 1000;
        e.payload = piece.size() > 4 ? piece.subspan(4) : Bytes();
        Array<std::byte> whole;
        std::byte* const room = whole.extend(e.size());
        expect(room != nullptr);
        write(room, e, "me", Digest());
        switch (what & 7) {
            case 0:
                run.send();
                break;
            case 1:
                run.say();
                break;
            case 2:
                run.now = run.now + Duration::seconds(what >> 3);
                run.wall += 1000 * (what >> 3);
                run.exchange.expire(run.now);
                run.listen();
                break;
            case 3:
                run.hear(piece);
                break;
            case 4:
                (what & 64) != 0 ? run.exchange.broker_up(1, run.now) : run.exchange.broker_down(1, run.now);
                break;
            default:
                run.hear({whole.data(), whole.size()});
                break;
        }
    }
    run.exchange.cancel(run.now);
    run.listen();
    expect(run.accepted.empty() && run.exchange.queued() == 0);
    return 0;
}
