// SPDX-License-Identifier: BSL-1.0
#include "support.hpp"

namespace {

using Client = Pipe<Scripted, Resumable<Tcp>, Persistent>;
using Server = Listener<Resumable<Tcp>, NoEvents, Persistent>;
using Kind = Event::Kind;

std::vector<Kind> kinds(const std::vector<Event>& events) {
    std::vector<Kind> all;
    for (const Event& event : events) all.push_back(event.kind);
    return all;
}

}  // namespace

TEST_CASE("A pipe tells what it does, event by event, and says at any time what it is doing") {
    Loop loop;
    Scripted& script = Scripted::of(loop);
    script.set(network(true));
    Server server(loop, quick_listener<Server>());
    REQUIRE(server.listen({"127.0.0.1", 0}));
    Middle middle(loop, server.local_endpoint());
    Client pipe(loop, quick<Client>());
    std::vector<Event> events;
    pipe.on_event([&](const Event& event) { events.push_back(event); });
    using Doing = Explanation::Doing;
    CHECK(pipe.explain().doing == Doing::nothing);
    CHECK(std::string(describe(pipe.explain()).c_str()) == "idle");
    REQUIRE(pipe.connect(middle.endpoint()));
    REQUIRE(until(loop, [&] { return events.size() == 4; }));
    CHECK(kinds(events) == std::vector{Kind::state, Kind::attempt, Kind::joined, Kind::state});
    CHECK(events[1].peer == IpAddress::v4(127, 0, 0, 1));
    CHECK(events[1].port == middle.endpoint().port());
    CHECK(events[2].local == IpAddress::v4(127, 0, 0, 1));
    CHECK(events[3].state == PipeState::connected);
    for (std::size_t i = 1; i < events.size(); ++i) CHECK(events[i].at >= events[i - 1].at);
    CHECK(pipe.explain().doing == Doing::talking);
    CHECK(std::string(describe(pipe.explain()).c_str()) == "talking from 127.0.0.1 to 127.0.0.1");

    SECTION("a change of the network, and a standby that wins") {
        events.clear();
        script.set(network(true, {"192.0.2.1"}));
        REQUIRE(until(loop, [&] { return events.size() == 3; }));
        CHECK(kinds(events) == std::vector{Kind::standby, Kind::attempt, Kind::joined});
        CHECK(events[0].cause == Cause::network);
        CHECK(pipe.statistics().standbys == 1);
        CHECK(pipe.statistics().interruptions == 0);
        CHECK(pipe.statistics().attempts == 2);
    }
    SECTION("a break, attempts that fail, and the end of it") {
        events.clear();
        middle.retarget(Mute().endpoint());
        middle.cut();
        REQUIRE(until(loop, [&] { return pipe.statistics().attempts > 3; }));
        REQUIRE(events.size() > 5);
        CHECK(kinds({events.begin(), events.begin() + 4}) == std::vector{Kind::broken, Kind::state, Kind::attempt, Kind::failed});
        CHECK((events[0].failure.kind == FailureKind::reset || events[0].failure.kind == FailureKind::ended));  // Wine tells no resets
        CHECK(events[1].state == PipeState::interrupted);
        const Explanation e = pipe.explain();
        CHECK((e.doing == Doing::pausing || e.doing == Doing::trying));
        CHECK(e.failure.kind != FailureKind::none);
        middle.retarget(server.local_endpoint());
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::connected; }));
        CHECK(pipe.statistics().interruptions == 1);
        CHECK(pipe.statistics().without_connection > Duration());
        CHECK(pipe.statistics().longest_without_connection == ms(static_cast<int>(pipe.statistics().without_connection.milliseconds())));
        CHECK_FALSE(pipe.explain().failure);
        events.clear();
        pipe.abort();
        REQUIRE(until(loop, [&] { return !events.empty(); }));
        CHECK(events.back().state == PipeState::closed);
        CHECK(events.back().failure.kind == FailureKind::cancelled);
    }
    SECTION("no network") {
        script.set(network(false));
        middle.retarget(Mute().endpoint());
        middle.cut();
        REQUIRE(until(loop, [&] { return pipe.state() == PipeState::interrupted; }));
        CHECK_FALSE(pipe.explain().online);
    }
    SECTION("a handler of events may destroy the pipe, and take itself away") {
        auto other = std::make_unique<Client>(loop, quick<Client>());
        other->on_event([&](const Event&) { other.reset(); });
        REQUIRE(other->connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return other == nullptr; }));
        Client third(loop, quick<Client>());
        int told = 0;
        HandlerId id = 0;
        id = third.on_event([&](const Event&) {
            ++told;
            CHECK(third.remove_handler(id));
        });
        REQUIRE(third.connect(middle.endpoint()));
        REQUIRE(until(loop, [&] { return third.state() == PipeState::connected; }));
        settle(loop);
        CHECK(told == 1);
    }
}

TEST_CASE("A recorder keeps the last events, and makes a report of them") {
    Recorder<3> recorder;
    CHECK(recorder.size() == 0);
    for (int i = 0; i < 5; ++i) {
        Event event;
        event.kind = Kind::waiting;
        event.at = TimePoint::from_nanoseconds(i * 1'500'000'000LL);
        event.wait = Duration::milliseconds(i * 1000 + 5);
        recorder.add(event);
        CHECK(recorder.size() == static_cast<std::size_t>(i < 3 ? i + 1 : 3));
    }
    CHECK(recorder.total() == 5);
    CHECK(std::string(recorder.line(0).c_str()) == "0.000 s  waiting for 2.005 s");
    CHECK(std::string(recorder.line(2).c_str()) == "3.000 s  waiting for 4.005 s");
}

TEST_CASE("Every event and every explanation has its sentence") {
    std::vector<std::string> seen;
    for (int kind = 0; kind <= static_cast<int>(Kind::narrowed); ++kind) {
        Event event;
        event.kind = static_cast<Kind>(kind);
        event.state = PipeState::interrupted;
        event.cause = Cause::loss;
        event.failure = {FailureKind::refused, Stage::connecting, {}};
        event.peer = event.local = *IpAddress::parse("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff");
        event.port = 65535;
        event.interface_index = 3;
        seen.push_back(describe(event).c_str());
    }
    CHECK(seen[1] == "trying [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535 by interface 3");
    CHECK(seen[5] == "racing another connection: much is lost on the way");
    for (int doing = 0; doing <= static_cast<int>(Explanation::Doing::finishing); ++doing) {
        Explanation e;
        e.doing = static_cast<Explanation::Doing>(doing);
        e.without = Duration::milliseconds(61'002);
        e.failure = {FailureKind::refused, Stage::connecting, {}};
        seen.push_back(describe(e).c_str());
        CHECK(seen.back().find(", without a connection for 61.002 s; last: connection refused") != std::string::npos);
    }
    std::sort(seen.begin(), seen.end());
    CHECK(std::unique(seen.begin(), seen.end()) == seen.end());
    CHECK_FALSE(seen[0].empty());
}
