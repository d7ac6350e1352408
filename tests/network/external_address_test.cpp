// SPDX-License-Identifier: BSL-1.0
#include <deque>
#include <functional>
#include <memory>
#include <rejoin/network/external_address.hpp>
#include <rejoin/network/scripted.hpp>
#include <rejoin/network/system.hpp>
#include <rejoin/policies.hpp>

#include "catch.hpp"
#include "os/until.hpp"
#include "stun/messages.hpp"

using namespace rejoin;
using Kind = NetworkChange::Kind;
using Events = ExternalAddress<Scripted>;
using test::Buffer;
using test::success;

static_assert(EventSource<ExternalAddress<Scripted>>);
static_assert(EventSource<ExternalAddress<SystemEvents>>);
static_assert(EventSource<ExternalAddress<NoEvents>>);

namespace {

constexpr Duration ms(int n) { return Duration::milliseconds(n); }
IpAddress ip(TextView text) { return *IpAddress::parse(text); }
const IpAddress here = ip("127.0.0.1"), here6 = ip("::1"), far_away = ip("198.18.0.1");
const IpAddress one = ip("203.0.113.1"), two = ip("203.0.113.2"), three = ip("203.0.113.3");

// What a test waits for happens at once, and what it does not wait for not at all.
template <class E = Events>
typename E::Options quick() {
    typename E::Options options;
    options.interval = Duration::seconds(3600);
    options.after_change = Duration();
    options.rto = Duration::seconds(60);
    return options;
}

// A STUN server that says what it is told to.
class Server {
public:
    struct Request {
        Endpoint from;
        stun::TransactionId id;
    };

    explicit Server(Loop& loop, const IpAddress& at = here)
        : socket_(std::move(*Socket::udp(at.family))), watch_(loop, Delegate<void(Ready)>::to<&Server::readable>(this)) {
        socket_.reuse_address();
        REQUIRE(socket_.bind(at, 0));
        REQUIRE(watch_.start(socket_.fd(), Ready::readable));
    }
    Endpoint endpoint() const { return socket_.local_endpoint(); }
    void send(const Endpoint& to, const Buffer& datagram) { REQUIRE(socket_.send_to(datagram, to.ip(), to.port())); }

    std::deque<Request> requests;
    IpAddress says;          // of family none: nothing
    std::uint16_t port = 5;  // that it says, too
    std::function<void(const Request&)> instead;

private:
    void readable(Ready) {
        std::byte buffer[600];
        Endpoint from;
        while (auto size = socket_.receive_from(buffer, from)) {
            auto request = stun::decode({buffer, *size});
            REQUIRE(request);
            REQUIRE(request->type == stun::MessageType::request);
            REQUIRE(request->fingerprint);
            requests.push_back({from, request->id});
            if (instead)
                instead(requests.back());
            else if (says.family != Family::none)
                send(from, success(request->id, says, port));
        }
    }
    Socket socket_;
    Loop::Watch watch_;
};

NetworkState state(const IpAddress& v4 = here, const IpAddress& v6 = {}) {
    NetworkState state;
    Interface eth0;
    eth0.index = 2;
    eth0.name = TextView("eth0");
    eth0.up = eth0.carrier = true;
    REQUIRE(state.put(eth0));
    for (const IpAddress& address : {v4, v6})
        if (address.family != Family::none) {
            REQUIRE(state.put(InterfaceAddress{2, address, 8}));
            state.route_for(address.family) = {true, 2, {}, address};
        }
    return state;
}

template <class E>
struct Heard {
    explicit Heard(E& events) { events.observe(observer); }
    void hear(const NetworkChange& change) {
        (change.kind == Kind::external_address_changed ? external : others).push_back(change);
        if (change.kind != Kind::external_address_changed) return;
        REQUIRE(change.early);
        REQUIRE(change.settled);
        affected.push_back(change.affects(here, far_away));
        if (const auto now = then) now();  // a copy: it may set another
    }
    std::vector<NetworkChange> external, others;
    std::vector<bool> affected;
    std::function<void()> then;
    NetworkObserver observer{Delegate<void(const NetworkChange&)>::template to<&Heard::hear>(this)};
};

struct World {
    explicit World(std::size_t servers_count = 1) {
        script.set(state());
        for (std::size_t i = 0; i < servers_count; ++i) servers.push_back(std::make_unique<Server>(loop));
    }
    Server& server(std::size_t i = 0) { return *servers[i]; }
    void start(const Events::Options& options = quick()) {
        std::vector<Endpoint> endpoints;
        for (const auto& s : servers) endpoints.push_back(s->endpoint());
        REQUIRE(events.set_servers(endpoints, options));
    }
    // Something happens after which everybody is asked again.
    void stir() {
        NetworkChange woke;
        woke.kind = Kind::woke;
        script.tell(woke);
    }
    const External& external() const { return events.external(Family::v4); }
    bool sees(const IpAddress& address, std::uint16_t port = 5) {
        return until(loop, [&] { return external().address == address && external().port == port; });
    }

    Loop loop;
    Scripted& script = Scripted::of(loop);
    Events& events = Events::of(loop);
    Heard<Events> heard{events};
    std::vector<std::unique_ptr<Server>> servers;
};

}  // namespace

TEST_CASE("external address: told when it is known, and when it is another; not when it is the same") {
    World w;
    CHECK(w.external().error == Errc::invalid_state);
    w.server().says = one;
    w.start();
    CHECK(w.external().address.family == Family::none);
    REQUIRE(w.sees(one));
    REQUIRE(w.heard.external.size() == 1);
    const NetworkChange first = w.heard.external[0];
    CHECK(first.old_address.family == Family::none);
    CHECK(first.address == one);
    CHECK(Endpoint(first.server, first.server_port) == w.server().endpoint());
    CHECK(first.family == Family::v4);
    CHECK(first.interface_index == 2);
    CHECK(first.interface_name == TextView("eth0"));
    CHECK_FALSE(first.servers_disagree);
    CHECK_FALSE(first.major);
    CHECK_FALSE(w.heard.affected[0]);
    CHECK(w.external().server == w.server().endpoint());
    CHECK(w.external().mapping == NatMapping::unknown);  // one server cannot show it
    CHECK_FALSE(w.external().error);
    CHECK(w.events.external(here) == &w.external());
    CHECK(w.events.external(ip("::ffff:127.0.0.1")) == &w.external());
    CHECK(w.events.external(far_away) == nullptr);

    w.server().port = 6;
    w.stir();
    REQUIRE(w.sees(one, 6));
    CHECK(w.heard.external.size() == 1);

    w.server().says = two;
    w.stir();
    REQUIRE(w.sees(two, 6));
    REQUIRE(w.heard.external.size() == 2);
    CHECK(w.heard.external[1].old_address == one);
    CHECK(w.heard.external[1].address == two);
    CHECK(w.heard.external[1].local_address == here);
    CHECK(w.heard.external[1].major);
    CHECK(w.heard.affected[1]);
    CHECK(w.server().requests.size() == 3);
    CHECK_FALSE(w.server().requests[0].id == w.server().requests[1].id);
}

TEST_CASE("external address: what is forged, damaged or replayed changes nothing") {
    World w;
    Server& server = w.server();
    Server forger(w.loop);
    Server::Request before;
    server.instead = [&](const Server::Request& request) {
        stun::TransactionId wrong = request.id;
        wrong.bytes[11] ^= std::byte{1};
        forger.send(request.from, success(request.id, two, 5));  // from another port
        server.send(request.from, success(wrong, two, 5));
        server.send(request.from, success({}, two, 5));
        server.send(request.from, {});
        server.send(request.from, Buffer(1400));
        server.send(request.from, Buffer(3000));
        server.send(request.from, test::message(0x0001, request.id, test::xor_mapped(request.id, two, 5)));
        server.send(request.from, test::message(0x0101, request.id, {}));
        Buffer damaged = success(request.id, two, 5);
        damaged.pop_back();
        server.send(request.from, damaged);
        if (before.from.valid()) {
            server.send(request.from, success(before.id, two, 5));  // the answer of last time again
            server.send(before.from, success(before.id, two, 5));   // and to where it was due
            server.send(before.from, success(request.id, two, 5));
        }
        before = request;
        server.send(request.from, success(request.id, one, server.port));
        server.send(request.from, success(request.id, two, 5));  // and once more, when it has been answered
    };
    w.start();
    for (std::uint16_t round = 1; round <= 3; ++round) {
        server.port = round;
        if (round > 1) w.stir();
        REQUIRE(w.sees(one, round));
        settle(w.loop);
    }
    CHECK(server.requests.size() == 3);
    REQUIRE(w.heard.external.size() == 1);
    CHECK(w.external().address == one);
    CHECK(w.external().port == 3);
}

TEST_CASE("external address: a lost request is repeated, and so its answer comes late") {
    World w;
    w.server().instead = [&](const Server::Request& request) {
        if (w.server().requests.size() == 3) w.server().send(request.from, success(request.id, one, 5));
    };
    auto options = quick();
    options.rto = ms(5);
    w.start(options);
    REQUIRE(w.sees(one));
    CHECK(w.server().requests.size() == 3);
    CHECK(w.server().requests[0].id == w.server().requests[2].id);
    CHECK(w.server().requests[0].from == w.server().requests[2].from);
}

TEST_CASE("external address: a server that says nothing is no change, and nobody waits for it when another answers") {
    World w(2);
    auto options = quick();
    options.rto = ms(2);
    w.start(options);
    REQUIRE(until(w.loop, [&] { return w.external().error == Errc::timed_out; }));
    CHECK(w.heard.external.empty());
    CHECK(w.external().address.family == Family::none);
    CHECK(w.server().requests.size() == 7);
    CHECK(w.server(1).requests.size() == 7);

    w.server(1).says = one;
    w.stir();
    REQUIRE(w.sees(one));
    CHECK(w.external().server == w.server(1).endpoint());
    CHECK_FALSE(w.external().error);
    w.server(1).says = {};
    w.stir();
    REQUIRE(until(w.loop, [&] { return w.external().error == Errc::timed_out; }));
    CHECK(w.external().address == one);  // stays known
    CHECK(w.heard.external.size() == 1);
}

TEST_CASE("external address: servers that disagree show how the NAT maps, and the majority is believed") {
    World w(3);
    for (std::size_t i = 0; i < 3; ++i) w.server(i).says = one;
    w.start();
    REQUIRE(w.sees(one));
    CHECK(w.external().mapping == NatMapping::same);
    CHECK_FALSE(w.heard.external[0].servers_disagree);
    for (std::size_t i = 1; i < 3; ++i) CHECK(w.server(i).requests[0].from == w.server(0).requests[0].from);  // one socket asks all

    // Another port for each server: port-dependent, with the same address, which is no change.
    for (std::size_t i = 0; i < 3; ++i) w.server(i).port = static_cast<std::uint16_t>(50 + i);
    w.stir();
    REQUIRE(until(w.loop, [&] { return w.external().mapping == NatMapping::differs; }));
    CHECK(w.heard.external.size() == 1);

    // One server lies.
    w.server(0).says = two;
    for (std::size_t i = 0; i < 3; ++i) w.server(i).port = 60;
    w.stir();
    REQUIRE(w.sees(one, 60));
    CHECK(w.external().mapping == NatMapping::differs);
    CHECK(w.external().server == w.server(1).endpoint());
    CHECK(w.heard.external.size() == 1);

    // All see different addresses: the one that is known stays.
    w.server(2).says = three;
    for (std::size_t i = 0; i < 3; ++i) w.server(i).port = 70;
    w.stir();
    REQUIRE(w.sees(one, 70));
    CHECK(w.heard.external.size() == 1);

    // None sees it any more: the first listed of them counts.
    w.server(1).says = three;
    w.server(2).says = ip("203.0.113.4");
    w.stir();
    REQUIRE(w.sees(two, 70));
    REQUIRE(w.heard.external.size() == 2);
    CHECK(w.heard.external[1].servers_disagree);
    CHECK(w.heard.external[1].address == two);
    CHECK(Endpoint(w.heard.external[1].server, w.heard.external[1].server_port) == w.server(0).endpoint());
}

TEST_CASE("external address: the first to answer does not decide alone while others have half an RTO to do so") {
    World w(3);
    for (std::size_t i = 0; i < 3; ++i) w.server(i).says = one;
    w.start();
    REQUIRE(w.sees(one));
    w.server(0).says = two;
    for (std::size_t i = 1; i < 3; ++i) w.server(i).says = {};  // answers later
    w.stir();
    REQUIRE(until(w.loop, [&] { return w.server(0).requests.size() + w.server(1).requests.size() + w.server(2).requests.size() == 6; }));
    settle(w.loop);
    CHECK(w.external().address == one);
    for (std::size_t i = 1; i < 3; ++i) w.server(i).send(w.server(i).requests[1].from, success(w.server(i).requests[1].id, one, 6));
    REQUIRE(w.sees(one, 6));
    CHECK(w.heard.external.size() == 1);

    auto options = quick();
    options.rto = ms(20);
    for (std::size_t i = 1; i < 3; ++i) w.server(i).says = {};
    w.start(options);
    REQUIRE(w.sees(two));  // nobody else said anything in time
}

TEST_CASE("external address: a refusal, an answer for another family and one that asks too much are no answers") {
    const auto failing = [&](std::function<Buffer(const stun::TransactionId&)> answer) {
        World w;
        w.server().instead = [&](const Server::Request& request) { w.server().send(request.from, answer(request.id)); };
        w.start();
        REQUIRE(until(w.loop, [&] { return !(w.external().error == Errc::invalid_state); }));
        CHECK(w.external().error == Errc::unsupported);
        CHECK(w.external().address.family == Family::none);
        CHECK(w.heard.external.empty());
        w.server().instead = nullptr;
        w.server().says = one;
        w.stir();
        REQUIRE(w.sees(one));
    };
    using Id = stun::TransactionId;
    failing([](const Id& id) { return test::message(0x0111, id, test::error_attribute(500, "Server Error")); });
    failing([](const Id& id) { return success(id, ip("2001:db8::1"), 5); });
    failing([](const Id& id) { return test::message(0x0101, id, test::join(test::xor_mapped(id, two, 5), test::attribute(0x7777, {}))); });
}

TEST_CASE("external address: names are resolved, at each round anew") {
    World w(2);
    w.server().says = one;
    w.server(1).says = two;
    std::vector<Function<void(Resolver::Answer)>> asked;
    Resolver::of(w.loop).replace([&](const char* name, Function<void(Resolver::Answer)> done) {
        CHECK(TextView(name) == "stun.example");
        asked.push_back(std::move(done));
    });
    const auto resolve = [&](const IpAddress& to) {
        Array<IpAddress> found;
        REQUIRE(found.push(here6));  // of the other family
        REQUIRE(found.push(to));
        asked.back()(std::move(found));
    };
    const Endpoint named("stun.example", w.server().endpoint().port());
    REQUIRE(w.events.set_servers({&named, 1}, quick()));
    REQUIRE(until(w.loop, [&] { return asked.size() == 1; }));
    settle(w.loop);
    CHECK(w.external().error == Errc::invalid_state);  // nothing is through
    asked[0](no_address);
    REQUIRE(until(w.loop, [&] { return w.external().error == no_address; }));
    CHECK(w.server().requests.empty());

    w.stir();
    REQUIRE(until(w.loop, [&] { return asked.size() == 2; }));
    resolve(here);
    REQUIRE(w.sees(one));
    CHECK(w.external().server == w.server().endpoint());

    // What was resolved before serves while a resolver is slow, or fails.
    w.server().port = 6;
    w.stir();
    REQUIRE(until(w.loop, [&] { return w.server().requests.size() == 2 && asked.size() == 3; }));
    asked[2](no_address);
    REQUIRE(w.sees(one, 6));
    CHECK(w.heard.external.size() == 1);
}

TEST_CASE("external address: asked for after changes that matter, and at an interval, and not else") {
    World w;
    w.server().says = one;
    w.start();
    REQUIRE(w.sees(one));
    const auto asks = [&](NetworkChange change) {
        const std::size_t asked = w.server().requests.size();
        w.server().port = static_cast<std::uint16_t>(w.server().port + 1);
        w.script.tell(change);
        settle(w.loop);
        if (w.server().requests.size() == asked) return false;
        REQUIRE(w.sees(one, w.server().port));
        return true;
    };
    NetworkChange change;
    change.kind = Kind::interface_down;
    CHECK_FALSE(asks(change));
    change.major = change.noise = true;
    CHECK_FALSE(asks(change));
    change.noise = false;
    CHECK(asks(change));
    change.major = false;
    for (Kind kind : {Kind::route_added, Kind::route_changed, Kind::address_usable, Kind::connectivity_regained, Kind::woke}) {
        change.kind = kind;
        CHECK(asks(change));
    }

    auto options = quick();
    options.interval = options.rto = ms(20);
    w.start(options);
    const std::size_t before = w.server().requests.size();
    REQUIRE(until(w.loop, [&] { return w.server().requests.size() >= before + 3; }));
    w.server().says = two;
    REQUIRE(w.sees(two, w.server().port));
    CHECK(w.heard.external.size() == 2);

    REQUIRE(w.events.set_servers({}, options));
    const std::size_t asked = w.server().requests.size();
    w.stir();
    static_cast<void>(w.loop.run_for(ms(60)));
    CHECK(w.server().requests.size() == asked);
    CHECK(w.external().address == two);
}

TEST_CASE("external address: a silent server holds up no round, and has timed out when the next one begins") {
    World w(2);
    w.server().says = one;
    auto options = quick();
    options.interval = options.rto = ms(20);
    w.start(options);
    REQUIRE(until(w.loop, [&] { return w.server(1).requests.size() >= 4; }));
    REQUIRE(w.sees(one));
    CHECK(w.external().server == w.server().endpoint());
    w.server().says = two;
    REQUIRE(w.sees(two));
    w.server().says = {};
    REQUIRE(until(w.loop, [&] { return w.external().error == Errc::timed_out; }));
    CHECK(w.external().address == two);
}

TEST_CASE("external address: a shower of changes makes one round, and rounds keep their distance") {
    World w;
    w.server().says = one;
    auto options = quick();
    options.after_change = Duration::seconds(20);
    w.start(options);
    REQUIRE(w.sees(one));
    for (int i = 0; i < 100; ++i) w.stir();
    static_cast<void>(w.loop.run_for(ms(20)));
    CHECK(w.server().requests.size() == 1);  // the next one is due 100 s after the first
    options.after_change = ms(2);
    w.start(options);
    REQUIRE(until(w.loop, [&] { return w.server().requests.size() == 2; }));
    for (int i = 0; i < 100; ++i) w.stir();
    REQUIRE(until(w.loop, [&] { return w.server().requests.size() == 3; }));
    static_cast<void>(w.loop.run_for(ms(20)));
    CHECK(w.server().requests.size() == 3);
}

TEST_CASE("external address: of the local address that leads, and none when there is none") {
    World w;
    w.server().says = one;
    w.start();
    REQUIRE(w.sees(one));
    w.script.set(state({}));
    CHECK(w.external().error == Errc::address_lost);
    CHECK(w.external().address.family == Family::none);
    REQUIRE(until(w.loop, [&] { return w.events.external(here) == nullptr; }));
    w.server().port = 6;
    w.script.set(state());
    REQUIRE(w.sees(one, 6));
    CHECK(w.heard.external.size() == 1);  // it was away, and is the same
    w.script.set(state({}));
    REQUIRE(until(w.loop, [&] { return w.events.external(here) == nullptr; }));
    w.server().says = two;
    w.script.set(state());
    REQUIRE(w.sees(two, 6));
    REQUIRE(w.heard.external.size() == 2);
    CHECK(w.heard.external[1].old_address == one);
    CHECK_FALSE(w.heard.affected[1]);  // what used the address that was gone knows by now
}

TEST_CASE("external address: the interface is the one that has the local address now") {
    World w;
    w.server().says = one;
    w.start();
    REQUIRE(w.sees(one));
    NetworkState moved = state();
    Interface eth1 = moved.interfaces[0];
    eth1.index = 3;
    eth1.name = TextView("eth1");
    REQUIRE(moved.put(eth1));
    moved.addresses[0].interface_index = moved.route_for(Family::v4).interface_index = 3;
    w.server().says = two;
    w.script.set(std::move(moved));
    REQUIRE(w.sees(two));
    REQUIRE(w.heard.external.size() == 2);
    CHECK(w.heard.external[1].interface_index == 3);
    CHECK(w.heard.external[1].interface_name == TextView("eth1"));
}

TEST_CASE("external address: each family has its own") {
    World w;
    Server six(w.loop, here6);
    w.server().says = one;
    six.says = ip("2001:db8::1");
    const Endpoint both[] = {w.server().endpoint(), six.endpoint()};
    w.script.set(state(here, here6));
    REQUIRE(w.events.set_servers(both, quick()));
    REQUIRE(until(w.loop, [&] { return w.heard.external.size() == 2; }));
    CHECK(w.events.external(Family::v4).address == one);
    CHECK(w.events.external(Family::v6).address == six.says);
    CHECK(w.events.external(here6) == &w.events.external(Family::v6));

    World only_four;
    only_four.script.set(state({}, here6));
    only_four.start();
    REQUIRE(until(only_four.loop, [&] { return only_four.events.external(Family::v6).error == Errc::unsupported; }));
    CHECK(only_four.events.external(Family::v4).error == Errc::address_lost);
}

TEST_CASE("external address: where nothing is known of the network, the system chooses the local address") {
    Loop loop;
    auto& events = ExternalAddress<NoEvents>::of(loop);
    CHECK_FALSE(events.state().known);
    CHECK_FALSE(events.error());
    Heard heard(events);
    Server server(loop);
    server.says = one;
    const Endpoint endpoint = server.endpoint();
    REQUIRE(events.set_servers({&endpoint, 1}, quick<ExternalAddress<NoEvents>>()));
    REQUIRE(until(loop, [&] { return events.external(Family::v4).address == one; }));
    CHECK(heard.external.size() == 1);
    REQUIRE(until(loop, [&] { return events.external(Family::v6).error == Errc::unsupported; }));
}

TEST_CASE("external address: every change of the source below is passed on as it is") {
    World w;
    CHECK(&w.events.state() == &w.script.state());
    w.heard.others.clear();
    Heard<Scripted> below(w.script);
    w.script.set(state(far_away));
    REQUIRE(until(w.loop, [&] { return !below.others.empty() && below.others.back().settled; }));
    REQUIRE(w.heard.others.size() == below.others.size());
    for (std::size_t i = 0; i < below.others.size(); ++i) {
        CHECK(w.heard.others[i].kind == below.others[i].kind);
        CHECK(w.heard.others[i].early == below.others[i].early);
        CHECK(w.heard.others[i].settled == below.others[i].settled);
    }
}

TEST_CASE("external address: whoever is told may set other servers, or leave") {
    World w(2);
    w.server().says = one;
    w.server(1).says = two;
    Heard<Events> second(w.events);
    const Endpoint other = w.server(1).endpoint();
    w.heard.then = [&] {
        w.heard.then = nullptr;
        second.observer.unlink();
        REQUIRE(w.events.set_servers({&other, 1}, quick()));
    };
    const Endpoint first = w.server().endpoint();
    REQUIRE(w.events.set_servers({&first, 1}, quick()));
    REQUIRE(w.sees(two));
    CHECK(w.heard.external.size() == 2);
    CHECK(second.external.empty());
    w.heard.then = [&] { REQUIRE(w.events.set_servers({}, quick())); };
    w.server(1).says = three;
    w.stir();
    REQUIRE(w.sees(three));
    settle(w.loop);
    CHECK(w.server(1).requests.size() == 2);
}

TEST_CASE("external address: what cannot be asked is refused, and what was asked stays") {
    World w;
    w.server().says = one;
    w.start();
    const Endpoint good = w.server().endpoint();
    const std::vector<Endpoint> many(9, good);
    CHECK(w.events.set_servers(many).error() == Errc::too_large);
    for (const Endpoint& wrong : {Endpoint(), Endpoint("stun.example", 0), Endpoint("127.0.0.1", 0), Endpoint("no name", 3478)})
        CHECK(w.events.set_servers({&wrong, 1}).error() == Errc::invalid_argument);
    auto options = quick();
    options.interval = Duration();
    CHECK(w.events.set_servers({&good, 1}, options).error() == Errc::invalid_argument);
    options.interval = options.rto - ms(1);
    CHECK(w.events.set_servers({&good, 1}, options).error() == Errc::invalid_argument);
    options = quick();
    options.rto = Duration();
    CHECK(w.events.set_servers({&good, 1}, options).error() == Errc::invalid_argument);
    options = quick();
    options.after_change = ms(-1);
    CHECK(w.events.set_servers({&good, 1}, options).error() == Errc::invalid_argument);
    REQUIRE(w.sees(one));
}
