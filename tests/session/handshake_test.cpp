// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/handshake.hpp>
#include <rejoin/session/session.hpp>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin;
using namespace rejoin::session;
using test::Buffer;
using test::from_hex;
using test::hex;
using test::to_hex;
using Step = ServerHandshake::Step;

namespace {

// What README.md of the session calls its worked example.
constexpr char hello[] = "0100001c 524a4e01 00000000 00100000 000102030405060708090a0b0c0d0e0f";
constexpr char welcome[] =
    "02000064 00010000 202122232425262728292a2b2c2d2e2f 101112131415161718191a1b1c1d1e1f"
    "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f"
    "4d98098770de1884f0c4e6d8e9b95aa8e937ec57cad8355b7ef3665aee1b1768";
constexpr char confirm[] = "05000030 0000000000000000 0000000000000000 8140f5616cc70ae9ea66db513316a0ae4f34fa1bbe0e24cc0f7303dbacdf5a6c";
constexpr char hello_pre_shared[] = "0100001c 524a4e01 00000001 00100000 000102030405060708090a0b0c0d0e0f";
constexpr char welcome_pre_shared[] =
    "02000064 00010000 202122232425262728292a2b2c2d2e2f 101112131415161718191a1b1c1d1e1f"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "319436349595a82c3c49b0c2cdf74749eaec749f1a10db193bb37e67c5c17902";
constexpr char confirm_pre_shared[] =
    "05000030 0000000000000000 0000000000000000 4b9c1bc6de8bd5ecaf5fdfb01e88b851ac6105b4bbe1bdaf779c436f3278a1f0";
constexpr char resume[] = "03000030 524a4e01 00100000 202122232425262728292a2b2c2d2e2f 0000000000000001 000102030405060708090a0b0c0d0e0f";
constexpr char resumed[] =
    "0400003c 00010000 0000000000000005 101112131415161718191a1b1c1d1e1f"
    "6d18cde01c43d283ebfc343be3c5f9c09026b0eec46ee1f51e5c2c73954e6bb2";
constexpr char confirm_resumed[] =
    "05000030 0000000000000003 0000000000000005 18fbd119e60d1860c29c7b8e20f010f7f3630ce13d68e4a56e514f3b2690a5cf";

constexpr std::uint32_t client_window = 0x100000;
constexpr std::uint32_t server_window = 0x10000;

template <class T>
T filled(int from) {
    T value;
    for (std::byte& b : value.bytes) b = static_cast<std::byte>(from++);
    return value;
}
const Nonce client_nonce = filled<Nonce>(0x00);
const Nonce server_nonce = filled<Nonce>(0x10);
const Identity identity{filled<SessionId>(0x20), filled<Digest>(0x30)};
const PreSharedKey secret(TextView("correct horse battery staple").bytes());

Buffer take(session::detail::Handshake& handshake) {
    Buffer out(handshake.pending().begin(), handshake.pending().end());
    handshake.wrote(out.size());
    return out;
}
ClientHandshake asking_new(const Digest* pre_shared_key = nullptr) {
    ClientHandshake client;
    client.ask_new(client_nonce, client_window, pre_shared_key);
    return client;
}
ClientHandshake asking_resume(std::uint64_t epoch = 1) {
    ClientHandshake client;
    client.ask_resume(identity, client_nonce, epoch, client_window);
    return client;
}
// Feeds all of it, in pieces cut at `cut`; what comes out last.
template <class Handshake>
auto feed(Handshake& handshake, Bytes input, std::size_t cut, Bytes* rest = nullptr) {
    Bytes first = input.first(cut), second = input.subspan(cut);
    auto result = handshake.receive(first);
    if (result && !static_cast<bool>(*result)) {  // false, or Step::more
        REQUIRE(first.empty());
        result = handshake.receive(second);
        first = second;
    } else {
        first = {first.data(), first.size() + second.size()};
    }
    if (rest != nullptr) *rest = first;
    return result;
}
template <class Handshake>
auto feed(Handshake& handshake, Bytes input) {
    return feed(handshake, input, input.size());
}
// A server that has answered.
ServerHandshake welcoming(const Digest* pre_shared_key = nullptr) {
    ServerHandshake server;
    auto step = feed(server, from_hex(pre_shared_key == nullptr ? hello : hello_pre_shared));
    REQUIRE((step && *step == Step::hello));
    Identity made = identity;
    REQUIRE(server.welcome(made, server_nonce, server_window, pre_shared_key));
    return server;
}
ServerHandshake resuming(std::uint64_t received = 5, const Nonce& nonce = server_nonce) {
    ServerHandshake server;
    auto step = feed(server, from_hex(resume));
    REQUIRE((step && *step == Step::resume));
    server.resume(identity.key, nonce, received, server_window);
    return server;
}
// The error of a handshake that must not join.
template <class T>
Error error_of(const Result<T>& result) {
    REQUIRE_FALSE(result);
    return result.error();
}

}  // namespace

TEST_CASE("a new session, byte for byte, however its bytes are cut") {
    const bool pre_shared = GENERATE(false, true);
    const Digest* const key = pre_shared ? secret.get() : nullptr;
    const Buffer hello_bytes = from_hex(pre_shared ? hello_pre_shared : hello);
    const Buffer welcome_bytes = from_hex(pre_shared ? welcome_pre_shared : welcome);
    const Buffer confirm_bytes = test::join(from_hex(pre_shared ? confirm_pre_shared : confirm), test::bytes("and the stream"));

    for (std::size_t cut = 0; cut < hello_bytes.size(); ++cut) {
        ServerHandshake server;
        auto step = feed(server, hello_bytes, cut);
        REQUIRE((step && *step == Step::hello));
        REQUIRE(server.agreement().window == client_window);
        REQUIRE(server.agreement().epoch == 0);
    }
    for (std::size_t cut = 0; cut < welcome_bytes.size(); ++cut) {
        ClientHandshake client = asking_new(key);
        REQUIRE(take(client) == hello_bytes);
        REQUIRE_FALSE(client.resuming());
        const auto joined = feed(client, welcome_bytes, cut);
        REQUIRE((joined && *joined));
        REQUIRE(client.pending().empty());  // nothing is confirmed before the caller has chosen
        client.confirm(0, 0);
        REQUIRE(take(client) == from_hex(pre_shared ? confirm_pre_shared : confirm));
        REQUIRE(client.identity().id == identity.id);
        REQUIRE(client.agreement().window == server_window);
        REQUIRE(client.agreement().send_from == 0);
        REQUIRE(client.agreement().receive_from == 0);
        REQUIRE((to_hex(client.identity().key) == to_hex(identity.key)) == !pre_shared);
    }
    for (std::size_t cut = 0; cut < confirm_bytes.size() - 14; ++cut) {
        ServerHandshake server = welcoming(key);
        REQUIRE(take(server) == welcome_bytes);
        REQUIRE(server.id() == identity.id);
        Bytes rest;
        const auto step = feed(server, confirm_bytes, cut, &rest);
        REQUIRE((step && *step == Step::joined));
        REQUIRE(to_hex(rest) == to_hex(test::bytes("and the stream")));
    }
}

TEST_CASE("resuming, byte for byte, however its bytes are cut") {
    const Buffer resume_bytes = from_hex(resume), resumed_bytes = from_hex(resumed);
    const Buffer confirm_bytes = test::join(from_hex(confirm_resumed), test::bytes("and the stream"));

    for (std::size_t cut = 0; cut < resume_bytes.size(); ++cut) {
        ServerHandshake server;
        auto step = feed(server, resume_bytes, cut);
        REQUIRE((step && *step == Step::resume));
        REQUIRE(server.id() == identity.id);
        REQUIRE(server.agreement().epoch == 1);
        REQUIRE(server.agreement().window == client_window);
    }
    for (std::size_t cut = 0; cut < resumed_bytes.size(); ++cut) {
        ClientHandshake client = asking_resume();
        REQUIRE(client.resuming());
        REQUIRE(take(client) == resume_bytes);
        const auto joined = feed(client, resumed_bytes, cut);
        REQUIRE((joined && *joined));
        REQUIRE(client.pending().empty());
        client.confirm(3, 2);
        REQUIRE(take(client) == from_hex(confirm_resumed));
        REQUIRE(client.agreement().epoch == 1);
        REQUIRE(client.agreement().window == server_window);
        REQUIRE(client.agreement().receive_from == 3);
        REQUIRE(client.agreement().send_from == 5);
    }
    for (std::size_t cut = 0; cut < confirm_bytes.size() - 14; ++cut) {
        ServerHandshake server = resuming();
        REQUIRE(take(server) == resumed_bytes);
        Bytes rest;
        const auto step = feed(server, confirm_bytes, cut, &rest);
        REQUIRE((step && *step == Step::joined));
        REQUIRE(server.agreement().send_from == 3);
        REQUIRE(server.agreement().receive_from == 5);
        REQUIRE(to_hex(rest) == to_hex(test::bytes("and the stream")));
    }
}

TEST_CASE("an acknowledgement that came after the server answered moves the start, and no further back") {
    ClientHandshake client = asking_resume();
    take(client);
    REQUIRE(*feed(client, from_hex(resumed)));  // the server has 5
    client.confirm(3, 9);
    REQUIRE(client.agreement().send_from == 9);
    ServerHandshake server = resuming();
    take(server);
    const auto step = feed(server, take(client));
    REQUIRE((step && *step == Step::joined));
    REQUIRE(server.agreement().receive_from == 9);
    REQUIRE(server.agreement().send_from == 3);

    ServerHandshake further = resuming(6);  // it said 6; a client that goes on from 5 has not read that
    take(further);
    ClientHandshake behind = asking_resume();
    take(behind);
    REQUIRE(*feed(behind, from_hex(resumed)));
    behind.confirm(3, 0);
    REQUIRE(error_of(feed(further, take(behind))));
}

TEST_CASE("every refusal reaches the client as its error") {
    const std::pair<Refusal, Errc> rows[] = {{Refusal::version, Errc::version_mismatch},
                                             {Refusal::unknown, Errc::session_unknown},
                                             {Refusal::limit, Errc::session_limit},
                                             {Refusal::proof, Errc::proof_invalid},
                                             {Refusal::fenced, Errc::session_fenced}};
    int code = 1;
    for (const auto& [refusal, errc] : rows) {
        ServerHandshake server;
        REQUIRE(feed(server, from_hex(resume)));
        server.refuse(refusal);
        const Buffer said = take(server);
        REQUIRE(to_hex(said) == hex("06000001 0" + std::to_string(code++)));
        for (ClientHandshake client : {asking_new(), asking_new(secret.get()), asking_resume()}) {
            take(client);
            REQUIRE(error_of(feed(client, said)) == errc);
        }
    }
    for (const char* unknown : {"06000001 00", "06000001 06", "06000001 07", "06000001 08", "06000001 ff"}) {
        ClientHandshake client = asking_resume();
        take(client);
        REQUIRE(error_of(feed(client, from_hex(unknown))) == Errc::malformed);
    }
}

TEST_CASE("a server that pushes back says for how long, or whereto") {
    const auto said = [](const PushBack& ask) {
        ServerHandshake server;
        REQUIRE(feed(server, from_hex(resume)));
        server.push_back(ask);
        return take(server);
    };
    const Buffer later = said({90'000, {}, 0});
    REQUIRE(to_hex(later) == hex("06000018 06 00 0000 00015f90 00000000000000000000000000000000"));
    const Buffer v4 = said({{}, rejoin::IpAddress::v4(192, 0, 2, 1), 4000});
    REQUIRE(to_hex(v4) == hex("06000018 07 00 0fa0 00000000 00000000000000000000ffffc0000201"));
    const Buffer v6 = said({{}, *rejoin::IpAddress::parse("2001:db8::1"), 1});
    REQUIRE(to_hex(v6) == hex("06000018 07 00 0001 00000000 20010db8000000000000000000000001"));
    REQUIRE(to_hex(said({UINT32_MAX, {}, 0})).substr(16, 8) == "ffffffff");

    for (ClientHandshake client : {asking_new(), asking_resume()}) {
        take(client);
        ClientHandshake other = client, third = client;
        REQUIRE(error_of(feed(client, later)) == Errc::overloaded);
        REQUIRE(client.push_back().retry_after_ms == 90'000);
        REQUIRE(error_of(feed(other, v4)) == Errc::redirected);
        REQUIRE(other.push_back().ip == rejoin::IpAddress::v4(192, 0, 2, 1));
        REQUIRE(other.push_back().port == 4000);
        REQUIRE(error_of(feed(third, v6)) == Errc::redirected);
        REQUIRE(third.push_back().ip == *rejoin::IpAddress::parse("2001:db8::1"));
    }
    for (const char* wrong : {
             "06000018 05 00 0000 00000000 00000000000000000000000000000000",  // a code that says nothing more
             "06000018 08 00 0000 00000000 00000000000000000000000000000000",  // no code
             "06000018 06 01 0000 00000001 00000000000000000000000000000000",  // what has no meaning is zero
             "06000018 06 00 0001 00000001 00000000000000000000000000000000",  //
             "06000018 06 00 0000 00000001 00000000000000000000000000000001",  //
             "06000018 07 00 0fa0 00000001 20010db8000000000000000000000001",  //
             "06000018 07 00 0000 00000000 20010db8000000000000000000000001",  // no port
             "06000018 07 00 0fa0 00000000 00000000000000000000000000000000",  // nowhere
             "06000018 07 00 0fa0 00000000 00000000000000000000ffff00000000",  //
             "06000018 07 00 0fa0 00000000 fe800000000000000000000000000001",  // on which link?
             "06000017 06 00 0000 00000001 000000000000000000000000000000",    // too short, too long
             "06000019 06 00 0000 00000001 0000000000000000000000000000000000",
         }) {
        INFO(wrong);
        ClientHandshake client = asking_resume();
        take(client);
        REQUIRE(error_of(feed(client, from_hex(wrong))) == Errc::malformed);
    }
}

TEST_CASE("a refusal takes the place of an answer that was not sent") {
    ServerHandshake server = welcoming();
    server.refuse(Refusal::limit);
    REQUIRE(to_hex(server.pending()) == hex("06000001 03"));
}

TEST_CASE("another version is told from nonsense") {
    for (const char* frame : {"0100001c 524a4e02 00000000 00100000 000102030405060708090a0b0c0d0e0f", "01000005 524a4e0000",
                              "03000004 524a4eff", "01000008 524a4e02 00000000"}) {
        ServerHandshake server;
        REQUIRE(error_of(feed(server, from_hex(frame))) == Errc::version_mismatch);
    }
    for (const char* frame : {
             "0100001c 524a4d01 00000000 00100000 000102030405060708090a0b0c0d0e0f",    // other magic
             "0100001b 524a4e01 00000000 00100000 000102030405060708090a0b0c0d0e",      // too short
             "0100001d 524a4e01 00000000 00100000 000102030405060708090a0b0c0d0e0f00",  // too long
             "0100001c 524a4e01 00000002 00100000 000102030405060708090a0b0c0d0e0f",    // a flag that is none
             "0100001c 524a4e01 80000000 00100000 000102030405060708090a0b0c0d0e0f",    //
             "0100001c 524a4e01 00000000 00000fff 000102030405060708090a0b0c0d0e0f",    // a window that is too small
             "0100001c 524a4e01 00000000 40000001 000102030405060708090a0b0c0d0e0f",    // or too large
             "0100001c 524a4e01 00000000 00000000 000102030405060708090a0b0c0d0e0f",    //
             "03000030 524a4e01 00000fff 202122232425262728292a2b2c2d2e2f 0000000000000001 000102030405060708090a0b0c0d0e0f",
             "03000030 524a4e01 00100000 202122232425262728292a2b2c2d2e2f 0000000000000000 000102030405060708090a0b0c0d0e0f",  // epoch 0
             "01000003 524a4e", "02000004 524a4e01", "05000004 524a4e01", "10000004 524a4e01", "00000004 524a4e01",
             "47455420"  // GET, as a length
         }) {
        ServerHandshake server;
        INFO(frame);
        REQUIRE(error_of(feed(server, from_hex(frame))) == Errc::malformed);
    }
    for (const char* window : {"00001000", "40000000"}) {
        ServerHandshake server;
        REQUIRE(feed(server, from_hex(std::string("0100001c 524a4e01 00000000 ") + window + "000102030405060708090a0b0c0d0e0f")));
    }
}

TEST_CASE("a client takes no answer but its own") {
    for (const char* frame : {"04000001 00", "02000001 00", "06000002 0101", "05000030", "01000004 524a4e01", "10000001 00",
                              "02000064 00000fff 202122232425262728292a2b2c2d2e2f 101112131415161718191a1b1c1d1e1f"  // window
                              "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f"
                              "4d98098770de1884f0c4e6d8e9b95aa8e937ec57cad8355b7ef3665aee1b1768"}) {
        ClientHandshake client = asking_new();
        take(client);
        Buffer bytes = from_hex(frame);
        bytes.resize(200);
        REQUIRE(error_of(feed(client, bytes)) == Errc::malformed);
    }
    ClientHandshake client = asking_new();
    take(client);
    REQUIRE(error_of(feed(client, from_hex(resumed))) == Errc::malformed);
    ClientHandshake other = asking_resume();
    take(other);
    REQUIRE(error_of(feed(other, from_hex(welcome))) == Errc::malformed);
}

TEST_CASE("an answer to a question that is not out yet is refused") {
    ClientHandshake client = asking_new();
    client.wrote(31);
    REQUIRE(error_of(feed(client, from_hex(welcome))) == Errc::malformed);
    ServerHandshake server = welcoming();
    server.wrote(103);
    REQUIRE(error_of(feed(server, from_hex(confirm))) == Errc::malformed);
}

TEST_CASE("a length that cannot be is refused before a byte of the payload is kept, and for good") {
    const auto refused = [](auto& handshake, std::uint32_t length) {
        std::byte header[4];
        write_frame_header(header, FrameType::hello, length);
        Bytes bytes = header;
        REQUIRE(error_of(handshake.receive(bytes)) == Errc::malformed);
        const Buffer payload(70'000);
        for (int i = 0; i < 3; ++i) {
            bytes = payload;
            REQUIRE(error_of(handshake.receive(bytes)) == Errc::malformed);
            REQUIRE(bytes.size() == payload.size());
        }
    };
    for (std::uint32_t length : {0u, 101u, 102u, 1000u, 0xffffffu}) {
        ServerHandshake server;
        refused(server, length);
        ServerHandshake answered = welcoming();
        take(answered);
        refused(answered, length);
        ClientHandshake client = asking_new();
        take(client);
        refused(client, length);
    }
    ServerHandshake server;  // the longest that is read
    std::byte header[4];
    write_frame_header(header, FrameType::hello, 100);
    Bytes bytes = header;
    REQUIRE(*server.receive(bytes) == Step::more);
}

TEST_CASE("a pre-shared key on one side only, or another one, is refused") {
    Identity made = identity;
    ServerHandshake has_none;
    REQUIRE(feed(has_none, from_hex(hello_pre_shared)));
    REQUIRE(error_of(has_none.welcome(made, server_nonce, server_window, nullptr)) == Errc::proof_invalid);
    REQUIRE(has_none.pending().empty());
    ServerHandshake has_one;
    REQUIRE(feed(has_one, from_hex(hello)));
    REQUIRE(error_of(has_one.welcome(made, server_nonce, server_window, secret.get())) == Errc::proof_invalid);
    REQUIRE(to_hex(made.key) == to_hex(identity.key));

    const PreSharedKey another(TextView("correct horse battery staples").bytes());
    ClientHandshake client = asking_new(another.get());
    take(client);
    REQUIRE(error_of(feed(client, from_hex(welcome_pre_shared))) == Errc::proof_invalid);
    // A server without it, or somebody on the path, that sends a key of its own instead.
    ClientHandshake expecting = asking_new(secret.get());
    take(expecting);
    REQUIRE(error_of(feed(expecting, from_hex(welcome))) == Errc::malformed);
}

TEST_CASE("the derived key is another one with every nonce, and never the pre-shared one") {
    ServerHandshake server = welcoming(secret.get());
    Identity first = identity, second = identity;
    REQUIRE(server.welcome(first, server_nonce, server_window, secret.get()));
    REQUIRE(server.welcome(second, client_nonce, server_window, secret.get()));
    REQUIRE(to_hex(first.key) != to_hex(second.key));
    REQUIRE(to_hex(first.key) != to_hex(*secret.get()));
    REQUIRE(PreSharedKey().get() == nullptr);
    REQUIRE(to_hex(*secret.get()) == "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a");
}

TEST_CASE("no corrupted byte of an answer or a proof gets anyone in") {
    const auto client_refuses = [](const char* frame, const auto& make) {
        const Buffer good = from_hex(frame);
        for (std::size_t at = 0; at < good.size(); ++at)
            for (int bit = 0; bit < 8; ++bit) {
                Buffer bad = good;
                bad[at] ^= static_cast<std::byte>(1 << bit);
                bad.resize(bad.size() + 256);  // a longer length is not left waiting
                ClientHandshake client = make();
                take(client);
                INFO("byte " << at << ", bit " << bit);
                error_of(feed(client, bad));
            }
    };
    client_refuses(welcome, [] { return asking_new(); });
    client_refuses(welcome_pre_shared, [] { return asking_new(secret.get()); });
    client_refuses(resumed, [] { return asking_resume(); });

    const auto server_refuses = [](const char* frame, const auto& make) {
        const Buffer good = from_hex(frame);
        for (std::size_t at = 0; at < good.size(); ++at)
            for (int bit = 0; bit < 8; ++bit) {
                Buffer bad = good;
                bad[at] ^= static_cast<std::byte>(1 << bit);
                bad.resize(bad.size() + 256);
                ServerHandshake server = make();
                take(server);
                INFO("byte " << at << ", bit " << bit);
                error_of(feed(server, bad));
            }
    };
    server_refuses(confirm, [] { return welcoming(); });
    server_refuses(confirm_pre_shared, [] { return welcoming(secret.get()); });
    server_refuses(confirm_resumed, [] { return resuming(); });
}

TEST_CASE("what was recorded proves nothing later") {
    ServerHandshake first = resuming();
    take(first);
    REQUIRE(*feed(first, from_hex(confirm_resumed)) == Step::joined);
    ServerHandshake again = resuming(5, filled<Nonce>(0x60));  // the server's nonce is fresh
    take(again);
    REQUIRE(error_of(feed(again, from_hex(confirm_resumed))) == Errc::proof_invalid);
    // A recorded answer does not fit another question either.
    ClientHandshake client;
    client.ask_resume(identity, filled<Nonce>(0x60), 1, client_window);
    take(client);
    REQUIRE(error_of(feed(client, from_hex(resumed))) == Errc::proof_invalid);
    ClientHandshake later = asking_resume(2);
    take(later);
    REQUIRE(error_of(feed(later, from_hex(resumed))) == Errc::proof_invalid);
}

TEST_CASE("one side's proof is not the other's") {
    Buffer mirrored = from_hex("05000030 0000000000000003 0000000000000005");
    const Buffer answer = from_hex(resumed);
    mirrored = test::join(mirrored, Bytes(answer).last(32));  // the server's own proof, sent back
    ServerHandshake server = resuming();
    take(server);
    REQUIRE(error_of(feed(server, mirrored)) == Errc::proof_invalid);
}
