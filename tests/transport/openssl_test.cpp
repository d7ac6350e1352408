// SPDX-License-Identifier: BSL-1.0
#include "skip.hpp"
#include "transport/certificates.hpp"
#if defined(REJOIN_TEST_OPENSSL)
#include <rejoin/openssl.hpp>

#include "pipe/support.hpp"

namespace {

using Secure = Tls<Tcp, OpenSsl>;
using Client = Pipe<NoEvents, Secure, FailFast>;
using Server = Listener<Secure, NoEvents, FailFast>;

struct Pair {
    explicit Pair(Loop& l) : loop(l), server(l) {
        if (!certificate.there()) return;
        auto& openssl = OpenSsl::Context::of(loop);
        REQUIRE(openssl.identify(certificate.chain().c_str(), certificate.key().c_str()));
        REQUIRE(server.listen({"127.0.0.1", 0}));
        server.on_accept([this](Server::AcceptedPipe& pipe) {
            accepted = &pipe;
            heard.listen(pipe);
            sink.listen(pipe);
        });
    }
    bool none() const {
        if (!certificate.there()) test::skip("no openssl(1)");
        return !certificate.there();
    }
    void trust() { REQUIRE(OpenSsl::Context::of(loop).trust(certificate.chain().c_str())); }
    Loop& loop;
    test::Certificate certificate;
    Server server;
    Server::AcceptedPipe* accepted = nullptr;
    Heard heard;
    Sink sink;
};

}  // namespace

static_assert(TlsEngine<OpenSsl>);

TEST_CASE("OpenSSL: a server is proven by its name, and by its number") {
    Loop loop;
    Pair pair(loop);
    if (pair.none()) return;
    pair.trust();
    for (const char* host : {"localhost", "127.0.0.1"}) {
        Client pipe(loop);
        Heard heard(pipe);
        REQUIRE(pipe.connect({host, pair.server.local_endpoint().port()}));
        REQUIRE(pipe.send("hello"));
        REQUIRE(until(loop, [&] { return pair.heard.bytes == "hello"; }));
        REQUIRE(pair.accepted->send("and back"));
        REQUIRE(until(loop, [&] { return heard.bytes == "and back"; }));
        pipe.close();
        REQUIRE(until(loop, [&] { return heard.over() && pair.heard.over(); }));
        pair.heard.bytes.clear();
    }
}

TEST_CASE("OpenSSL: a server that is not trusted, or is another one, is refused by name, and told") {
    Loop loop;
    Pair pair(loop);
    if (pair.none()) return;
    const auto refused = [&](Server& server, Heard& there) {
        Client pipe(loop);
        Heard heard(pipe);
        REQUIRE(pipe.connect(server.local_endpoint()));
        REQUIRE(until(loop, [&] { return heard.is(PipeState::closed) && there.is(PipeState::closed); }));
        CHECK(heard.why().kind == FailureKind::protocol);
        CHECK(heard.why().error == Errc::proof_invalid);
        CHECK(there.why().error == Errc::proof_invalid);
    };
    refused(pair.server, pair.heard);
    pair.trust();
    Server elsewhere(loop);
    Heard there;
    REQUIRE(elsewhere.listen({"127.0.0.2", 0}));  // which is not in the certificate
    elsewhere.on_accept([&](Server::AcceptedPipe& pipe) { there.listen(pipe); });
    refused(elsewhere, there);
}

TEST_CASE("OpenSSL: much goes through, both ways at once, and what is no TLS does not") {
    Loop loop;
    Pair pair(loop);
    if (pair.none()) return;
    pair.trust();
    Client pipe(loop);
    Sink sink(pipe);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    REQUIRE(until(loop, [&] { return pair.accepted != nullptr && pipe.state() == PipeState::connected; }));
    Source there(pipe, 5'000'000, true);
    Source back(*pair.accepted, 5'000'000);
    REQUIRE(until(loop, [&] { return pair.sink.received == 5'000'000 && sink.received == 5'000'000; }));
    CHECK(pair.sink.good);
    CHECK(sink.good);

    pair.heard = Heard();
    Pipe<NoEvents, Tcp, FailFast> raw(loop);
    REQUIRE(raw.connect(pair.server.local_endpoint()));
    REQUIRE(raw.send("GET / HTTP/1.1\r\n\r\n"));
    REQUIRE(until(loop, [&] { return pair.heard.is(PipeState::closed); }));
    CHECK(pair.heard.why().error == Errc::malformed);
}

TEST_CASE("OpenSSL: a session goes on over one connection after another") {
    Loop loop;
    Pair pair(loop);
    if (pair.none()) return;
    pair.trust();
    using Lasting = Resumable<Secure>;
    Listener<Lasting, NoEvents, Persistent> server(loop, quick_listener<Listener<Lasting, NoEvents, Persistent>>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Sink sink;
    server.on_accept([&](auto& pipe) { sink.listen(pipe); });
    Middle middle(loop, server.local_endpoint());
    Pipe<NoEvents, Lasting, Persistent> pipe(loop, quick<Pipe<NoEvents, Lasting, Persistent>>());
    REQUIRE(pipe.connect(middle.endpoint()));
    Source source(pipe, 3'000'000);
    for (unsigned round = 1; round <= 5; ++round) {
        REQUIRE(until(loop, [&] { return sink.received >= source.total / 6 * round; }));
        middle.cut();
    }
    REQUIRE(until(loop, [&] { return sink.received == source.total; }));
    CHECK(sink.good);
}

TEST_CASE("OpenSSL: files that are no certificate, no key, or of another pair are refused") {
    Loop loop;
    Pair pair(loop);
    if (pair.none()) return;
    const test::Certificate other;
    auto& openssl = OpenSsl::Context::of(loop);
    CHECK(openssl.trust("/does/not/exist").error() == Errc::invalid_argument);
    CHECK(openssl.trust(pair.certificate.key().c_str()).error() == Errc::invalid_argument);
    CHECK(openssl.identify(other.key().c_str(), other.key().c_str()).error() == Errc::invalid_argument);
    CHECK(openssl.identify(pair.certificate.chain().c_str(), other.key().c_str()).error() == Errc::invalid_argument);
}
#endif
