// SPDX-License-Identifier: BSL-1.0
// The three policies of a pipe, written from outside; and the pipe really asks them.
#include <algorithm>
#include <rejoin/listener.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "os/system.hpp"
#include "os/until.hpp"

using namespace rejoin;

namespace {

// ---- An event source whose network the test makes.

class Switch {
public:
    explicit Switch(Loop& loop) : feed_(loop) {}
    static Switch& of(Loop& loop) { return loop.service<Switch>(); }
    const NetworkState& state() const { return feed_.state(); }
    void observe(NetworkObserver& observer) {
        ++observers;
        feed_.observe(observer);
    }
    void turn(bool on) {
        NetworkState* const state = feed_.edit();
        REQUIRE(state != nullptr);
        state->known = true;
        state->route[0] = {on, on ? 7u : 0u, {}, {}};
        feed_.publish();
    }
    int observers = 0;

private:
    ChangeFeed feed_;
};
static_assert(EventSource<Switch>);

// ---- A transport without any socket: the test is the other end, and the system.

class Wire {
public:
    Wire(Loop& loop, ConnectionObserver& observer) : observer_(&observer), wires_(loop.service<Wires>()) { wires_.all.push_back(this); }
    ~Wire() { std::erase(wires_.all, this); }
    void set_observer(ConnectionObserver& observer) { observer_ = &observer; }
    Result<void> open(const Endpoint& to, const Way& way) {
        wires_.opened.push_back(std::string(to_text(to).c_str()) + " from " + to_text(way.from).c_str());
        if (wires_.refuse) return wires_.refuse;
        to_ = to;
        return {};
    }
    Result<std::size_t> write(std::span<const Bytes> pieces) {
        ++writes;
        if (room == 0) return Errc::would_block;
        std::size_t n = 0;
        for (Bytes piece : pieces) {
            piece = piece.first(std::min(piece.size(), room - n));
            written.append(reinterpret_cast<const char*>(piece.data()), piece.size());
            n += piece.size();
        }
        room -= n;
        return n;
    }
    void want_writable() { writable_wanted = true; }
    void pause(bool p) { paused_ = p; }
    bool paused() const { return paused_; }
    void set_read_limit(std::uint32_t n) { read_limit = n; }
    void end() { written += "<end>"; }
    void abort() { wires_.aborted += written; }
    Endpoint local_endpoint() const { return {"192.0.2.9", 9}; }
    Endpoint peer_endpoint() const { return to_; }

    // What the test does as the system.
    ConnectionObserver& hears() { return *observer_; }
    std::string written;
    std::size_t room = SIZE_MAX;
    int writes = 0;
    bool writable_wanted = false;
    std::uint32_t read_limit = 0;

    struct Wires {
        explicit Wires(Loop&) {}
        std::vector<Wire*> all;  // that exist, the oldest first
        std::vector<std::string> opened;
        std::string aborted;
        Error refuse;
    };

private:
    ConnectionObserver* observer_;
    Wires& wires_;
    Endpoint to_;
    bool paused_ = false;
};
struct Wired {
    using Connection = Wire;
    using Session = session::Plain;
    using Options = Session::Options;
};
static_assert(Transport<Wired>);

// ---- A recovery policy that does what the test says, and writes down what it was asked.

struct Play {
    std::vector<Failure> failures;
    std::vector<Action> actions;  // one for each decision, then the last again
    std::vector<std::uint64_t> seeds;
    int connected = 0;
    int regained = 0;
    bool offline = false;  // as it was at the last decision
};
class Scribe {
public:
    struct Options {
        Play* play = nullptr;
    };
    Scribe(const Options& options, std::uint64_t seed) : play_(*options.play) { play_.seeds.push_back(seed); }
    Action decide(const Failure& failure, const NetworkState& network, TimePoint) {
        play_.failures.push_back(failure);
        play_.offline = network.offline();
        return play_.actions[std::min(play_.failures.size(), play_.actions.size()) - 1];
    }
    void connected(TimePoint) { ++play_.connected; }
    Duration network_regained(TimePoint) {
        ++play_.regained;
        return {};
    }

private:
    Play& play_;
};
static_assert(RecoveryPolicy<Scribe>);

// The same with a third optional part.
class Impatient : public Scribe {
public:
    using Scribe::Scribe;
    Duration patience(TimePoint) { return Duration::milliseconds(1); }
};

template <class Recovery>
struct Fixture {
    using OwnPipe = Pipe<Switch, Wired, Recovery>;

    Fixture() {
        pipe.on_state([this](PipeState state, const Failure&) { states.push_back(state); });
        pipe.on_receive([this](Bytes bytes) { received.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); });
    }
    typename OwnPipe::Options options() {
        typename OwnPipe::Options made;
        made.recovery.play = &play;
        made.from = IpAddress::v4(192, 0, 2, 9);
        return made;
    }
    // Connects as far as the first connection is open.
    Wire& connected() {
        REQUIRE(pipe.connect({"192.0.2.1", 80}));
        settle(loop);
        REQUIRE(wires.all.size() == 1);
        wires.all[0]->hears().on_open();
        settle(loop);
        REQUIRE(pipe.state() == PipeState::connected);
        return *wires.all[0];
    }

    Play play;
    Loop loop;
    Switch& network = Switch::of(loop);
    Wire::Wires& wires = loop.service<Wire::Wires>();
    OwnPipe pipe{loop, options()};
    std::vector<PipeState> states;
    std::string received;
};

}  // namespace

TEST_CASE("an event source of one's own tells the pipe of the network") {
    Fixture<Scribe> f;
    CHECK(f.network.observers == 1);
    CHECK(&f.pipe.network() == &f.network.state());
    std::vector<NetworkChange::Kind> heard;
    f.pipe.on_network_change([&](const NetworkChange& change) { heard.push_back(change.kind); }, Notice::at_once);
    f.network.turn(true);
    CHECK(heard == std::vector{NetworkChange::Kind::route_added, NetworkChange::Kind::connectivity_regained});
    CHECK(f.pipe.network().connected());
}

TEST_CASE("a transport of one's own carries the pipe's bytes") {
    Fixture<Scribe> f;
    f.play.actions = {Action::give_up()};
    Wire& wire = f.connected();
    CHECK(f.wires.opened == std::vector<std::string>{"192.0.2.1:80 from 192.0.2.9"});
    CHECK(f.pipe.local_endpoint() == Endpoint{"192.0.2.9", 9});
    CHECK(f.pipe.peer_endpoint() == Endpoint{"192.0.2.1", 80});

    SECTION("what is sent in one turn is written at once") {
        REQUIRE(f.pipe.send("one "));
        REQUIRE(f.pipe.send("two"));
        settle(f.loop);
        CHECK(wire.written == "one two");
        CHECK(wire.writes == 1);
    }
    SECTION("what it does not take waits until it does") {
        wire.room = 2;
        REQUIRE(f.pipe.send("hello"));
        settle(f.loop);
        CHECK(wire.written == "he");
        REQUIRE(wire.writable_wanted);
        wire.room = SIZE_MAX;
        CHECK(wire.hears().on_writable());
        CHECK(wire.written == "hello");
    }
    SECTION("what it brings is delivered") {
        CHECK(wire.hears().on_bytes(TextView("abc").bytes()));
        CHECK(f.received == "abc");
    }
    SECTION("it is asked to pause, and to go on") {
        f.pipe.pause();
        CHECK(wire.paused());
        f.pipe.resume();
        CHECK(!wire.paused());
    }
    SECTION("linked, it is to read in small pieces") {
        Pipe<NoEvents, Tcp, FailFast> other(f.loop);
        REQUIRE(f.pipe.link(other));
        CHECK(wire.read_limit == 64 * 1024);
        CHECK(wire.paused());  // the other takes nothing before it connects
    }
    SECTION("closing ends it after what was sent, and waits for its end") {
        REQUIRE(f.pipe.send("bye"));
        f.pipe.close();
        settle(f.loop);
        CHECK(wire.written == "bye<end>");
        CHECK(f.pipe.state() == PipeState::closing);
        wire.hears().on_end();
        CHECK(f.pipe.state() == PipeState::closed);
        CHECK(f.wires.all.empty());
    }
    SECTION("aborting aborts it") {
        REQUIRE(f.pipe.send("x"));
        settle(f.loop);
        f.pipe.abort();
        CHECK(f.wires.aborted == "x");
        CHECK(f.wires.all.empty());
    }
    SECTION("its error is the pipe's") {
        wire.hears().on_error(Error::system(code::reset));
        CHECK(f.play.failures == std::vector{Failure{FailureKind::reset, Stage::established, Error::system(code::reset)}});
        CHECK(f.pipe.state() == PipeState::closed);
    }
}

TEST_CASE("a transport that refuses to open is a failure to recover from") {
    Fixture<Scribe> f;
    f.play.actions = {Action::give_up()};
    f.wires.refuse = Error::system(code::no_network);
    REQUIRE(f.pipe.connect({"192.0.2.1", 80}));
    settle(f.loop);
    CHECK(f.play.failures == std::vector{Failure{FailureKind::no_route, Stage::connecting, Error::system(code::no_network)}});
    CHECK(f.states == std::vector{PipeState::connecting, PipeState::closed});
}

TEST_CASE("a recovery policy of one's own decides") {
    Fixture<Scribe> f;
    CHECK(f.play.seeds.size() == 1);

    SECTION("to try again, and hears when that went well") {
        f.play.actions = {Action::retry_after(Duration::milliseconds(1))};
        f.connected().hears().on_error(Error::system(code::reset));
        CHECK(f.pipe.state() == PipeState::interrupted);
        REQUIRE(until(f.loop, [&] { return f.wires.opened.size() == 2; }));
        f.wires.all[0]->hears().on_open();
        CHECK(f.pipe.state() == PipeState::connected);
        CHECK(f.play.connected == 2);
    }
    SECTION("to wait for the network, and hears when it is back") {
        f.play.actions = {Action::wait_for_network()};
        Wire& wire = f.connected();
        f.network.turn(false);
        wire.hears().on_error(Error::system(code::no_network));
        CHECK(f.play.offline);
        settle(f.loop);
        CHECK(f.wires.opened.size() == 1);
        CHECK(f.play.regained == 0);
        f.network.turn(true);
        CHECK(f.play.regained > 0);
        CHECK(until(f.loop, [&] { return f.wires.opened.size() == 2; }));
    }
    SECTION("to give up") {
        f.play.actions = {Action::give_up()};
        f.connected().hears().on_error(Error::system(code::reset));
        CHECK(f.states.back() == PipeState::closed);
        CHECK(f.wires.all.empty());
    }
}

TEST_CASE("a recovery policy with patience gets a second attempt beside the first") {
    Fixture<Impatient> f;
    f.play.actions = {Action::give_up()};
    REQUIRE(f.pipe.connect({"192.0.2.1", 80}));
    REQUIRE(until(f.loop, [&] { return f.wires.all.size() > 1; }));
    Wire* const second = f.wires.all[1];
    second->hears().on_open();
    CHECK(f.pipe.state() == PipeState::connected);
    CHECK(f.wires.all == std::vector{second});  // the others are given up
}

// ---- A session over a transport of one's own, at both ends.

namespace {

struct Meter {
    explicit Meter(Loop&) {}
    int opened = 0;
    int adopted = 0;
    std::size_t written = 0;
};
class MeteredConnection : public TcpConnection {
public:
    MeteredConnection(Loop& loop, ConnectionObserver& observer) : TcpConnection(loop, observer), meter_(loop.service<Meter>()) {}
    Result<void> open(const Endpoint& to, const Way& way) {
        ++meter_.opened;
        return TcpConnection::open(to, way);
    }
    Result<void> adopt(Socket socket) {
        ++meter_.adopted;
        return TcpConnection::adopt(std::move(socket));
    }
    Result<std::size_t> write(std::span<const Bytes> pieces) {
        auto wrote = TcpConnection::write(pieces);
        if (wrote) meter_.written += *wrote;
        return wrote;
    }

private:
    Meter& meter_;
};
struct Metered : Tcp {
    using Connection = MeteredConnection;
};

}  // namespace

TEST_CASE("a session runs over a transport of one's own, with the listener's end too") {
    using OwnPipe = Pipe<Switch, Resumable<Metered>, Scribe>;
    using OwnListener = Listener<Resumable<Metered>, Switch, Scribe>;
    Play play;
    Loop loop;
    OwnListener::Options serving;
    serving.pipe.recovery.play = &play;
    OwnListener server(loop, serving);
    server.on_accept([](OwnPipe& pipe) { pipe.on_receive([&pipe](Bytes bytes) { REQUIRE(pipe.send(bytes)); }); });
    REQUIRE(server.listen({"127.0.0.1", 0}));

    OwnPipe::Options options;
    options.recovery.play = &play;
    OwnPipe pipe(loop, options);
    std::size_t back = 0;
    pipe.on_receive([&](Bytes bytes) { back += bytes.size(); });
    REQUIRE(pipe.connect(server.local_endpoint()));
    REQUIRE(pipe.send("hello"));
    REQUIRE(until(loop, [&] { return back == 5; }));
    const Meter& meter = loop.service<Meter>();
    CHECK(meter.opened == 1);
    CHECK(meter.adopted == 1);
    CHECK(meter.written > 10);   // both ends, and their frames
    CHECK(play.connected == 1);  // the end that connects has a policy
    CHECK(play.seeds.size() == 1);
    CHECK(Switch::of(loop).observers == 2);
}
