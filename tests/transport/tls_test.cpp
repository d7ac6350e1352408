// SPDX-License-Identifier: BSL-1.0
#include <rejoin/transport/tls.hpp>

#include <string>
#include <vector>

#include "pipe/support.hpp"

namespace {

// An engine of which nothing is secret, and everything can be seen: records of a type, a length of two bytes, and bytes with one bit
// turned.
class Toy {
public:
    struct Context {
        explicit Context(Loop&) {}
        std::vector<std::string> names;  // whom clients have asked for
        std::size_t records = 0;         // with data
        bool announces_end = true;
        bool mute = false;  // a client says nothing
    };
    Error start(Context& context, bool server, const char* name) {
        context_ = &context;
        server_ = server;
        if (server || context.mute) return {};
        context.names.emplace_back(name);
        return say('H', TextView(name).bytes());
    }
    Error receive(Bytes bytes) {
        in_.append(text(bytes));
        while (in_.size() >= 3) {
            const std::size_t size = static_cast<unsigned char>(in_[1]) * 256u + static_cast<unsigned char>(in_[2]);
            if (in_[0] != 'H' && in_[0] != 'D' && in_[0] != 'E') return Errc::malformed;
            if (in_.size() < 3 + size) break;
            std::string body = in_.substr(3, size);
            for (char& c : body) c = static_cast<char>(c ^ 1);
            if (in_[0] == 'H') {
                if (body == "wrong") return Errc::proof_invalid;
                established_ = true;
                if (server_) static_cast<void>(say('H', {}));
            }
            if (in_[0] == 'D') clear_ += body;
            ended_ = ended_ || in_[0] == 'E';
            in_.erase(0, 3 + size);
        }
        return {};
    }
    bool established() const { return established_; }
    Result<std::size_t> read(MutableBytes room) {
        if (clear_.empty()) return ended_ ? Errc::end_of_stream : Errc::would_block;
        const std::size_t n = std::min(room.size(), clear_.size());
        std::memcpy(room.data(), clear_.data(), n);
        clear_.erase(0, n);
        return n;
    }
    Error write(Bytes bytes) {
        ++context_->records;
        return bytes.size() > 16 * 1024 ? Error(Errc::too_large) : say('D', bytes);
    }
    Error end() { return context_->announces_end ? say('E', {}) : Error(); }
    Bytes pending() const { return TextView(out_.data(), out_.size()).bytes(); }
    void sent(std::size_t n) { out_.erase(0, n); }

private:
    Error say(char type, Bytes body) {
        out_ += type;
        out_ += static_cast<char>(body.size() / 256);
        out_ += static_cast<char>(body.size() % 256);
        for (std::byte b : body) out_ += static_cast<char>(b ^ std::byte{1});
        return {};
    }
    Context* context_ = nullptr;
    std::string in_, out_, clear_;
    bool server_ = false, established_ = false, ended_ = false;
};

using Secure = Tls<Tcp, Toy>;
using Client = Pipe<NoEvents, Secure, FailFast>;
using Server = Listener<Secure, NoEvents, FailFast>;

struct Pair {
    explicit Pair(Loop& l) : loop(l), server(l) {
        REQUIRE(server.listen({"127.0.0.1", 0}));
        server.on_accept([this](Server::AcceptedPipe& pipe) {
            accepted = &pipe;
            heard.listen(pipe);
        });
    }
    Toy::Context& toy() { return loop.service<Toy::Context>(); }
    Loop& loop;
    Server server;
    Server::AcceptedPipe* accepted = nullptr;
    Heard heard;
};

}  // namespace

static_assert(Transport<Secure>);
static_assert(Transport<Resumable<Secure>>);

TEST_CASE("a pipe under TLS carries bytes both ways, and ends in order") {
    Loop loop;
    Pair pair(loop);
    Client pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    REQUIRE(pipe.send("hello"));
    REQUIRE(until(loop, [&] { return pair.heard.bytes == "hello"; }));
    REQUIRE(pair.accepted->send("and back"));
    REQUIRE(until(loop, [&] { return heard.bytes == "and back"; }));
    CHECK(pair.toy().names == std::vector<std::string>{"127.0.0.1"});
    pipe.close();
    REQUIRE(until(loop, [&] { return heard.over() && pair.heard.over(); }));
}

TEST_CASE("the engine is told the name that was asked for, to prove it") {
    Loop loop;
    Pair pair(loop);
    Client pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect({"localhost", pair.server.local_endpoint().port()}));
    REQUIRE(until(loop, [&] { return heard.is(PipeState::connected); }));
    CHECK(pair.toy().names.back() == "localhost");
}

TEST_CASE("what is sent before the handshake is over goes out behind it, in few records, and much of it as it is taken") {
    Loop loop;
    Pair pair(loop);
    Sink sink;
    pair.server.on_accept([&](Server::AcceptedPipe& pipe) { sink.listen(pipe); });
    Client pipe(loop);
    Source<Client> source(pipe, 0);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    for (std::uint64_t i = 0; i < 100; ++i) {
        const std::byte one[] = {at(i)};
        REQUIRE(pipe.send(one));
    }
    REQUIRE(until(loop, [&] { return sink.received == 100; }));
    CHECK(pair.toy().records == 1);
    source.sent = 100;
    source.total = 8'000'000;
    source.go();
    REQUIRE(until(loop, [&] { return sink.received == source.total; }));
    CHECK(sink.good);
}

TEST_CASE("a paused pipe under TLS gives nothing on, and then all of it, the end too") {
    Loop loop;
    Pair pair(loop);
    Client pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    REQUIRE(until(loop, [&] { return pair.accepted != nullptr && heard.is(PipeState::connected); }));
    pair.accepted->on_receive([&, first = true](Bytes) mutable {
        if (std::exchange(first, false)) pair.accepted->pause();
    });
    const std::string large(600'000, 'x');
    REQUIRE(pipe.send("1"));
    REQUIRE(until(loop, [&] { return pair.heard.bytes == "1"; }));
    REQUIRE(pipe.send(large));
    pipe.close();
    settle(loop);
    CHECK(pair.heard.bytes == "1");
    pair.accepted->resume();
    REQUIRE(until(loop, [&] { return pair.heard.over() && heard.over(); }));
    CHECK(pair.heard.bytes == "1" + large);
}

TEST_CASE("records come in pieces of one byte, and go out so") {
    Loop loop;
    using Slow = Tls<Faulty<Tcp>, Toy>;
    Faults& faults = Faults::of(loop);
    for (Fault::At where : {Fault::At::write, Fault::At::read}) {
        Fault fault{where, Fault::Kind::shorten};
        fault.times = 100'000;
        REQUIRE(faults.add(fault));
    }
    Listener<Slow, NoEvents, FailFast> server(loop);
    REQUIRE(server.listen({"127.0.0.1", 0}));
    server.on_accept([](auto& pipe) { pipe.on_receive([&pipe](Bytes bytes) { REQUIRE(pipe.send(bytes)); }); });
    Pipe<NoEvents, Slow, FailFast> pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(server.local_endpoint()));
    REQUIRE(pipe.send("hello, one by one"));
    REQUIRE(until(loop, [&] { return heard.bytes == "hello, one by one"; }));
    pipe.close();
    REQUIRE(until(loop, [&] { return heard.over(); }));
}

TEST_CASE("an end that was not announced is a break") {
    Loop loop;
    Pair pair(loop);
    Client pipe(loop);
    Heard heard(pipe);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    REQUIRE(until(loop, [&] { return pair.accepted != nullptr && heard.is(PipeState::connected); }));
    pair.toy().announces_end = false;
    pipe.close();
    REQUIRE(until(loop, [&] { return pair.heard.is(PipeState::closed); }));
    CHECK(pair.heard.why().error == Errc::end_of_stream);
}

TEST_CASE("a peer that is not the right one, or speaks no TLS, is told by name") {
    Loop loop;
    Pair pair(loop);
    for (const bool wrong : {true, false}) {
        pair.heard = Heard();
        Pipe<NoEvents, Tcp, FailFast> raw(loop);
        REQUIRE(raw.connect(pair.server.local_endpoint()));
        REQUIRE(raw.send(wrong ? TextView("H\0\5vsnof", 8) : TextView("GET / HTTP/1.1")));
        REQUIRE(until(loop, [&] { return pair.heard.is(PipeState::closed); }));
        CHECK(pair.heard.why().kind == FailureKind::protocol);
        CHECK(pair.heard.why().error == (wrong ? Errc::proof_invalid : Errc::malformed));
    }
}

TEST_CASE("a client that never finishes the handshake is given up") {
    Loop loop;
    Pair pair(loop);
    pair.toy().mute = true;
    Client pipe(loop);
    REQUIRE(pipe.connect(pair.server.local_endpoint()));
    const TimePoint began = loop.now();
    REQUIRE(until(loop, [&] { return pair.heard.is(PipeState::closed); }));
    CHECK(pair.heard.why().error == Errc::timed_out);
    CHECK(loop.now() - began >= Secure::Connection::handshake_max);
}

TEST_CASE("a session goes on over one connection under TLS after another") {
    Loop loop;
    using Lasting = Resumable<Secure>;
    Listener<Lasting, NoEvents, Persistent> server(loop, quick_listener<Listener<Lasting, NoEvents, Persistent>>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Sink sink;
    server.on_accept([&](auto& pipe) { sink.listen(pipe); });
    Middle middle(loop, server.local_endpoint());
    Pipe<NoEvents, Lasting, Persistent> pipe(loop, quick<Pipe<NoEvents, Lasting, Persistent>>());
    REQUIRE(pipe.connect(middle.endpoint()));
    Source source(pipe, 3'000'000);
    for (int round = 1; round <= 5; ++round) {
        const std::uint64_t limit = source.total / 6 * static_cast<unsigned>(round);
        REQUIRE(until(loop, [&] { return sink.received >= limit; }));
        middle.cut();
    }
    REQUIRE(until(loop, [&] { return sink.received == source.total; }));
    CHECK(sink.good);
    CHECK(pipe.statistics().resumes >= 1);
}

TEST_CASE("a pipe under TLS is destroyed in each of its handlers") {
    for (int which = 0; which < 3; ++which) {
        CAPTURE(which);
        Loop loop;
        Pair pair(loop);
        auto pipe = std::make_unique<Client>(loop);
        const auto end = [&](int handler) {
            if (handler == which) pipe.reset();
        };
        pipe->on_state([&](PipeState state, const Failure&) {
            if (state == PipeState::connected) end(0);
            if (state == PipeState::closed) end(2);
        });
        pipe->on_receive([&](Bytes) { end(1); });
        REQUIRE(pipe->connect(pair.server.local_endpoint()));
        REQUIRE(pipe->send("x"));
        REQUIRE(until(loop, [&] { return pipe == nullptr || pair.heard.bytes == "x"; }));
        if (pipe != nullptr) {
            REQUIRE(pair.accepted->send("y"));
            pair.accepted->close();
        }
        REQUIRE(until(loop, [&] { return pipe == nullptr; }));
    }
}
