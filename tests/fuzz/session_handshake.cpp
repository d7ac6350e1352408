// SPDX-License-Identifier: BSL-1.0
// Any bytes as what the other end says in a handshake. Input: a byte that says who hears it, then pieces, each behind its length. Nobody
// joins but with the one right answer, of which the seeds have some; they are made by tests/session/foreign_peer.py --seeds.
#include <cstdlib>
#include <rejoin/session/session.hpp>
#include <vector>

using namespace rejoin;
using namespace rejoin::session;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}
template <class T>
T filled(int from) {
    T value;
    for (std::byte& b : value.bytes) b = static_cast<std::byte>(from++);
    return value;
}
const Nonce client_nonce = filled<Nonce>(0x00), server_nonce = filled<Nonce>(0x10);
const Identity identity{filled<SessionId>(0x20), filled<Digest>(0x30)};
const PreSharedKey secret(TextView("correct horse battery staple").bytes());
constexpr std::uint32_t client_window = 0x100000, server_window = 0x10000;

using Said = std::vector<std::byte>;
Said take(session::detail::Handshake& handshake) {
    Said out(handshake.pending().begin(), handshake.pending().end());
    handshake.wrote(out.size());
    return out;
}
void ask(ClientHandshake& client, unsigned what) {
    if (what == 2)
        client.ask_resume(identity, client_nonce, 1, client_window);
    else
        client.ask_new(client_nonce, client_window, what == 0 ? nullptr : secret.get());
}
void answer(ServerHandshake& server, unsigned what) {
    Identity made = identity;
    if (what == 2)
        server.resume(identity.key, server_nonce, 5, server_window);
    else if (!server.welcome(made, server_nonce, server_window, what == 0 ? nullptr : secret.get()))
        server.refuse(Refusal::proof);
}
// What an honest server answers to that question, as this program computes it.
Said honest_answer(unsigned what) {
    ClientHandshake client;
    ask(client, what);
    const Said question = take(client);
    ServerHandshake server;
    Bytes bytes = question;
    expect(static_cast<bool>(server.receive(bytes)));
    answer(server, what);
    return take(server);
}

// Calls `hear` with the pieces, until it has heard enough.
template <class Hear>
void in_pieces(Bytes rest, Hear hear) {
    while (!rest.empty()) {
        const auto length = std::to_integer<std::size_t>(rest[0]);
        rest = rest.subspan(1);
        const Bytes piece = rest.first(rest.size() < length ? rest.size() : length);
        rest = rest.subspan(piece.size());
        if (!hear(piece)) return;
    }
}

void client_hears(Bytes input, unsigned what) {
    static const Said honest[] = {honest_answer(0), honest_answer(1), honest_answer(2)};
    ClientHandshake client;
    ask(client, what);
    take(client);
    Said heard;
    in_pieces(input, [&](Bytes piece) {
        const Bytes before = piece;
        auto joined = client.receive(piece);
        expect(piece.size() <= before.size());
        const Bytes used = before.first(before.size() - piece.size());
        heard.insert(heard.end(), used.begin(), used.end());
        expect(heard.size() <= frame_header_size + welcome_size || !joined);
        if (!joined) {
            expect(client.pending().empty());
            const PushBack& ask = client.push_back();
            if (joined.error() == Errc::redirected) expect(ask.port != 0 && !ask.ip.is_unspecified() && ask.retry_after_ms == 0);
            if (joined.error() == Errc::overloaded) expect(ask.port == 0 && ask.ip.is_unspecified());
            return false;
        }
        expect(*joined || piece.empty());
        if (!*joined) return true;
        expect(heard == honest[what]);
        client.confirm(3, 0);
        expect(client.pending().size() == frame_header_size + confirm_size);
        return false;
    });
}

void server_hears(Bytes input, bool pre_shared) {
    ServerHandshake server;
    bool failed = false;
    unsigned answered = 0;
    in_pieces(input, [&](Bytes piece) {
        for (;;) {
            auto step = server.receive(piece);
            if (!step) {
                expect(step.error() == Errc::malformed || step.error() == Errc::version_mismatch || step.error() == Errc::proof_invalid);
                failed = true;  // its caller is done with it; it has to stay harmless
            }
            if (!step || *step == ServerHandshake::Step::more) {
                expect(!step || piece.empty());
                return true;
            }
            if (*step == ServerHandshake::Step::joined) {
                expect(answered > 0);
                expect(failed || server.agreement().window >= window_min);
                return false;
            }
            ++answered;
            expect(server.agreement().window >= window_min && server.agreement().window <= window_max);
            answer(server, *step == ServerHandshake::Step::resume ? 2 : pre_shared ? 1 : 0);
            expect(!server.pending().empty() && server.pending().size() <= frame_header_size + welcome_size);
            take(server);
        }
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const Bytes input{reinterpret_cast<const std::byte*>(data) + 1, size - 1};
    const unsigned who = data[0] % 5;
    who < 3 ? client_hears(input, who) : server_hears(input, who == 4);
    return 0;
}
