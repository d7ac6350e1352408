// SPDX-License-Identifier: BSL-1.0
#include "catch.hpp"

#include <memory>
#include <rejoin/handoff/channel.hpp>
#include <string>
#include <vector>
#if !defined(_WIN32)
#include <sys/wait.h>
#endif

#include "os/system.hpp"
#include "os/until.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using handoff::Channel;
using handoff::Parcel;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }

// A conversation to be moved: one end in a parcel, the other here.
struct Moving {
    Moving() { REQUIRE(LocalSocket::stream_pair(parcel.socket, far_end)); }
    Parcel parcel;
    Socket far_end;
};
std::string heard(Socket& socket) {
    std::byte room[100];
    const auto n = socket.receive(room);
    if (!n) return n.error() == Errc::would_block ? "" : "reset";
    return *n == 0 ? "end" : std::string(reinterpret_cast<const char*>(room), *n);
}
struct Outcomes {
    Channel::Done done() {
        return [this](Error error, Parcel&& parcel) {
            errors.push_back(error);
            parcels.push_back(std::move(parcel));
        };
    }
    std::vector<Error> errors;
    std::vector<Parcel> parcels;
};
// Options for a machine that may be busy.
Channel::Options patient() {
    Channel::Options options;
    options.deadline = Duration::seconds(60);
    return options;
}
// One end of a channel, and what it hears.
struct Side {
    Side(Loop& loop, LocalSocket::End&& socket, const Channel::Options& options = patient()) : channel(loop, options) {
        channel.on_parcel([this](Parcel&& parcel) { parcels.push_back(std::move(parcel)); });
        channel.on_close([this](Error why) { closed.push_back(why); });
        channel.on_drained([this] { ++drained; });
        REQUIRE(channel.start(std::move(socket)));
    }
    Channel channel;
    std::vector<Parcel> parcels;
    std::vector<Error> closed;
    int drained = 0;
};
}  // namespace

TEST_CASE("a parcel arrives whole, and has one owner") {
    const int before = open_descriptors();
    {
        Loop loop;
        LocalSocket::End one, other;
        REQUIRE(LocalSocket::pair(one, other));
        Side from(loop, std::move(one)), to(loop, std::move(other));
        Moving moving;
        for (char c : std::string_view("for you")) REQUIRE(moving.parcel.note.push(c));
        for (std::byte b : test::pattern(100'000)) REQUIRE(moving.parcel.unread.push(b));
        Outcomes outcomes;
        REQUIRE(moving.far_end.send(TextView("on its way").bytes()));
        REQUIRE(from.channel.offer(std::move(moving.parcel), outcomes.done()));
        CHECK(from.channel.offered() == 1);
        CHECK(outcomes.errors.empty());
        REQUIRE(until(loop, [&] { return !to.parcels.empty() && !outcomes.errors.empty(); }));
        CHECK(outcomes.errors[0] == Error());
        CHECK_FALSE(outcomes.parcels[0].socket);
        CHECK(from.channel.offered() == 0);
        Parcel& got = to.parcels[0];
        CHECK(text({got.note.data(), got.note.size()}) == "for you");
        CHECK(test::Buffer(got.unread.begin(), got.unread.end()) == test::pattern(100'000));
        CHECK(heard(got.socket) == "on its way");
        REQUIRE(got.socket.send(TextView("here").bytes()));
        CHECK(heard(moving.far_end) == "here");
        got.socket.close();
        CHECK(heard(moving.far_end) == "end");  // nobody else holds it
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("every kind of socket moves, both ways over one channel") {
    Loop loop;
    LocalSocket::End one, other;
    REQUIRE(LocalSocket::pair(one, other));
    Side from(loop, std::move(one)), to(loop, std::move(other));
    Outcomes outcomes;
    const auto push = [&](Side& side, Socket&& socket) {
        Parcel parcel;
        parcel.socket = std::move(socket);
        REQUIRE(side.channel.offer(std::move(parcel), outcomes.done()));
    };
    auto listener = Socket::tcp(Family::v4), udp = Socket::udp(Family::v6), back = Socket::udp(Family::v4);
    REQUIRE(listener);
    REQUIRE(listener->bind(IpAddress::v4(127, 0, 0, 1), 0));
    REQUIRE(listener->listen(5));
    const Endpoint at = listener->local_endpoint();
    REQUIRE(udp);
    push(from, std::move(*listener));
    push(from, std::move(*udp));
    push(to, std::move(*back));
    REQUIRE(until(loop, [&] { return outcomes.errors.size() == 3 && to.parcels.size() == 2 && from.parcels.size() == 1; }));
    CHECK(to.parcels[0].kind == SocketKind::listener);
    CHECK(to.parcels[1].kind == SocketKind::datagram);
    CHECK(to.parcels[0].socket.local_endpoint() == at);
    auto caller = Socket::tcp(Family::v4);
    REQUIRE(caller);
    static_cast<void>(caller->connect(at.ip(), at.port()));
    REQUIRE(until(loop, [&] { return static_cast<bool>(to.parcels[0].socket.accept()); }));
}

TEST_CASE("so many at once, and no more until there is room") {
    Loop loop;
    LocalSocket::End one, other;
    REQUIRE(LocalSocket::pair(one, other));
    Channel::Options options = patient();
    options.offers = 4;
    Side from(loop, std::move(one), options), to(loop, std::move(other), options);
    Outcomes outcomes;
    std::vector<std::unique_ptr<Moving>> all;
    std::size_t offered = 0;
    const auto go = [&] {
        while (offered < 100) {
            if (offered == all.size()) all.push_back(std::make_unique<Moving>());
            const auto result = from.channel.offer(std::move(all[offered]->parcel), outcomes.done());
            if (!result) {
                REQUIRE(result.error() == Errc::would_block);
                REQUIRE(all[offered]->parcel.socket);  // untouched
                return;
            }
            ++offered;
        }
    };
    from.channel.on_drained(go);
    go();
    CHECK(offered == 4);
    REQUIRE(until(loop, [&] { return outcomes.errors.size() == 100 && to.parcels.size() == 100; }));
    for (std::size_t i = 0; i < 100; ++i) {  // in order
        REQUIRE(outcomes.errors[i] == Error());
        REQUIRE(to.parcels[i].socket.send(TextView("x").bytes()));
        REQUIRE(heard(all[i]->far_end) == "x");
    }
}

TEST_CASE("what is declined comes back") {
    Loop loop;
    LocalSocket::End one, other;
    REQUIRE(LocalSocket::pair(one, other));
    Side from(loop, std::move(one)), to(loop, std::move(other));
    to.channel.admit([](const Parcel& parcel) { return parcel.note.size() > 0; });
    Moving refused, taken;
    REQUIRE(taken.parcel.note.push('x'));
    Outcomes outcomes;
    REQUIRE(from.channel.offer(std::move(refused.parcel), outcomes.done()));
    REQUIRE(from.channel.offer(std::move(taken.parcel), outcomes.done()));
    REQUIRE(until(loop, [&] { return outcomes.errors.size() == 2 && to.parcels.size() == 1; }));
    CHECK(outcomes.errors[0] == Errc::cancelled);
    CHECK(outcomes.errors[1] == Error());
    REQUIRE(outcomes.parcels[0].socket.send(TextView("mine again").bytes()));
    CHECK(heard(refused.far_end) == "mine again");

    to.channel.on_parcel({});
    Moving unwanted;
    REQUIRE(from.channel.offer(std::move(unwanted.parcel), outcomes.done()));
    REQUIRE(until(loop, [&] { return outcomes.errors.size() == 3; }));
    CHECK(outcomes.errors[2] == Errc::cancelled);
}

#if !defined(_WIN32)
namespace {

constexpr Duration ms(int n) { return Duration::milliseconds(n); }

// A channel whose other end is played by the test.
struct Played {
    explicit Played(Channel::Options options = patient()) {
        Socket ours;
        REQUIRE(UnixSocket::pair(ours, peer));
        side = std::make_unique<Side>(loop, std::move(ours), options);
    }
    void say(std::string_view line, const Socket* with = nullptr) {
        const auto n = UnixSocket::send(peer, TextView(line).bytes(), with);
        REQUIRE(n);
        REQUIRE(*n == line.size());
    }
    std::string next_line() {
        std::string line;
        REQUIRE(until(loop, [&] {
            std::byte b[1];
            while (auto received = UnixSocket::receive(peer, b)) {
                if (received->socket) got.push_back(std::move(received->socket));
                if (b[0] == std::byte{'\n'}) return true;
                line += static_cast<char>(b[0]);
            }
            return false;
        }));
        return line;
    }
    Error closed() {
        REQUIRE(until(loop, [&] { return !side->closed.empty(); }));
        CHECK(side->closed.size() == 1);
        CHECK_FALSE(side->channel.open());
        return side->closed[0];
    }
    Loop loop;
    Socket peer;
    std::vector<Socket> got;
    std::unique_ptr<Side> side;
};

constexpr char accepted[] = "{\"cmd\":\"NODE_HANDLE_ACK\"}", declined[] = "{\"cmd\":\"NODE_HANDLE_NACK\"}";
std::string offer(int id) {
    return R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"rejoin":"offer","id":)" + std::to_string(id) + "}}\n";
}
std::string commit(int id) { return R"({"rejoin":"commit","id":)" + std::to_string(id) + "}\n"; }
std::string withdraw(int id) { return R"({"rejoin":"withdraw","id":)" + std::to_string(id) + "}\n"; }

}  // namespace

TEST_CASE("what cannot be offered stays with its owner") {
    Played played;
    Outcomes outcomes;
    Parcel nothing;
    CHECK(played.side->channel.offer(std::move(nothing), outcomes.done()).error() == Errc::invalid_argument);
    Parcel file;
    file.socket = Socket(::open("/", O_RDONLY));
    CHECK(played.side->channel.offer(std::move(file), outcomes.done()).error() == Errc::invalid_argument);
    Moving large;
    REQUIRE(large.parcel.unread.extend(4 * 1024 * 1024) != nullptr);
    CHECK(played.side->channel.offer(std::move(large.parcel), outcomes.done()).error() == Errc::too_large);
    CHECK(large.parcel.socket);
    Moving late;
    Channel unborn(played.loop);
    CHECK(unborn.offer(std::move(late.parcel), outcomes.done()).error() == Errc::invalid_state);
    CHECK(played.side->channel.start(Socket()).error() == Errc::invalid_state);
    CHECK(unborn.start(Socket()).error() == Error::system(EBADF));
    Channel::Options bad;
    bad.offers = 0;
    Channel senseless(played.loop, bad);
    CHECK(senseless.start(Socket()).error() == Errc::invalid_argument);
    CHECK_FALSE(played.side->channel.withdraw(99));
    CHECK(outcomes.errors.empty());
}

TEST_CASE("a receiver that does not answer is given up in time, and has nothing") {
    Channel::Options options;
    options.deadline = ms(20);
    Played played(options);
    Moving moving;
    Outcomes outcomes;
    REQUIRE(played.side->channel.offer(std::move(moving.parcel), outcomes.done()));
    REQUIRE(until(played.loop, [&] { return !outcomes.errors.empty(); }));
    CHECK(outcomes.errors[0] == Errc::timed_out);
    REQUIRE(outcomes.parcels[0].socket.send(TextView("mine").bytes()));
    CHECK(heard(moving.far_end) == "mine");
    CHECK(played.next_line() + "\n" == offer(1));
    CHECK(played.next_line() + "\n" == withdraw(1));
    CHECK(played.side->channel.offered() == 1);  // its answer is still to come
    // The answer that comes after all commits nothing, and is not taken for the next one's.
    Moving next;
    REQUIRE(played.side->channel.offer(std::move(next.parcel), outcomes.done()));
    played.say(std::string(accepted) + "\n");
    CHECK(played.next_line() + "\n" == offer(2));
    played.say(std::string(accepted) + "\n");
    CHECK(played.next_line() + "\n" == commit(2));
    REQUIRE(until(played.loop, [&] { return outcomes.errors.size() == 2; }));
    CHECK(outcomes.errors[1] == Error());
    CHECK(played.side->channel.offered() == 0);
}

TEST_CASE("a withdrawal and an answer that cross leave the socket here") {
    for (const char* answer : {accepted, declined}) {
        Played played;
        Moving moving;
        Outcomes outcomes;
        const auto id = played.side->channel.offer(std::move(moving.parcel), outcomes.done());
        REQUIRE(id);
        played.say(std::string(answer) + "\n");
        REQUIRE(played.side->channel.withdraw(*id));
        CHECK_FALSE(played.side->channel.withdraw(*id));
        REQUIRE(until(played.loop, [&] { return !outcomes.errors.empty() && played.side->channel.offered() == 0; }));
        CHECK(outcomes.errors[0] == Errc::cancelled);
        CHECK(outcomes.parcels[0].socket);
        CHECK(played.next_line() + "\n" == offer(1));
        CHECK(played.next_line() + "\n" == withdraw(1));
        CHECK(played.side->channel.open());
    }
}

TEST_CASE("a receiver that dies before the commit leaves everything here, and after it nothing") {
    for (bool answers : {false, true}) {
        Played played;
        Moving moving;
        Outcomes outcomes;
        REQUIRE(played.side->channel.offer(std::move(moving.parcel), outcomes.done()));
        CHECK(played.next_line() + "\n" == offer(1));
        if (answers) {
            played.say(std::string(accepted) + "\n");
            REQUIRE(until(played.loop, [&] { return !outcomes.errors.empty(); }));
        }
        played.got.clear();
        played.peer.close();
        CHECK(played.closed() == Errc::end_of_stream);
        REQUIRE(outcomes.errors.size() == 1);
        CHECK(outcomes.errors[0] == (answers ? Error() : Error(Errc::end_of_stream)));
        CHECK(static_cast<bool>(outcomes.parcels[0].socket) == !answers);
        CHECK(heard(moving.far_end) == (answers ? "end" : ""));
    }
}

TEST_CASE("a sender that dies leaves what it has offered to the receiver, unless it took it back") {
    for (bool taken_back : {false, true}) {
        Played played;
        Moving moving;
        played.say(offer(1), &moving.parcel.socket);
        moving.parcel.socket.close();
        if (taken_back) played.say(withdraw(1));
        played.peer.close();
        CHECK(played.closed() == Errc::end_of_stream);
        CHECK(played.side->parcels.size() == (taken_back ? 0 : 1));
        CHECK(heard(moving.far_end) == (taken_back ? "end" : ""));
    }
    // Half an offer is none.
    Played played;
    Moving moving;
    played.say(offer(1).substr(0, 30), &moving.parcel.socket);
    moving.parcel.socket.close();
    played.peer.close();
    CHECK(played.closed() == Errc::end_of_stream);
    CHECK(played.side->parcels.empty());
    CHECK(heard(moving.far_end) == "end");
}

TEST_CASE("an offer that is not rejoin's is the receiver's at once") {
    Played played;
    Moving moving;
    played.say("{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":{\"user\":7}}\n", &moving.parcel.socket);
    CHECK(played.next_line() == accepted);
    REQUIRE(played.side->parcels.size() == 1);
    const Parcel& got = played.side->parcels[0];
    CHECK(text({got.note.data(), got.note.size()}) == "{\"user\":7}");
    played.say("{\"hello\":\"world\"}\n");  // nobody minds
    settle(played.loop);
    CHECK(played.side->channel.open());
}

TEST_CASE("lines come in any pieces") {
    const std::string all = "{\"some\":\"thing\"}\n" + offer(1) + commit(1) + "{}\n";
    const std::size_t starts = 19;
    for (std::size_t piece : {1u, 2u, 7u, 50u, 1000u}) {
        CAPTURE(piece);
        Played played;
        Moving moving;
        for (std::size_t at = 0; at < all.size();) {
            std::size_t n = piece < all.size() - at ? piece : all.size() - at;
            const bool first = at == starts - 1 || (at < starts - 1 && at + n > starts - 1);
            if (at < starts - 1 && first) n = starts - 1 - at;  // the descriptor rides on the first byte of its line
            played.say(all.substr(at, n), at == starts - 1 ? &moving.parcel.socket : nullptr);
            at += n;
            settle(played.loop);
        }
        REQUIRE(until(played.loop, [&] { return !played.side->parcels.empty(); }));
        CHECK(played.side->parcels[0].socket);
        CHECK(played.side->channel.open());
    }
}

TEST_CASE("a hostile peer gets its channel closed, and nothing leaks") {
    const int before = open_descriptors();
    Moving moving;
    const Socket* const fd = &moving.parcel.socket;
    const auto closed_by = [&](auto say) {
        Played played;
        say(played);
        const Error why = played.closed();
        CHECK(played.side->parcels.empty());
        return why;
    };
    CHECK(closed_by([](Played& p) { p.say("garbage\n"); }) == Errc::malformed);
    CHECK(closed_by([](Played& p) { p.say("\n"); }) == Errc::malformed);
    CHECK(closed_by([](Played& p) { p.say(offer(1)); }) == Errc::malformed);                            // no descriptor
    CHECK(closed_by([&](Played& p) { p.say("{\"hello\":1}\n", fd); }) == Errc::malformed);              // one too many
    CHECK(closed_by([&](Played& p) { p.say(offer(1) + offer(2), fd); }) == Errc::malformed);            // one too few
    CHECK(closed_by([](Played& p) { p.say(commit(1)); }) == Errc::malformed);                           // of what was never offered
    CHECK(closed_by([](Played& p) { p.say(std::string(accepted) + "\n"); }) == Errc::malformed);        // of nothing
    CHECK(closed_by([&](Played& p) { p.say(offer(1), fd), p.say(offer(1), fd); }) == Errc::malformed);  // twice the same
    CHECK(closed_by([&](Played& p) { p.say(offer(1), fd), p.say("nonsense\n"), p.say(commit(1)); }) == Errc::malformed);
    CHECK(closed_by([&](Played& p) {
              p.say("{", fd), settle(p.loop);
              p.say("\"", fd), settle(p.loop);  // two descriptors before the line has ended
          }) == Errc::malformed);
    CHECK(closed_by([](Played& p) {
              Channel::Options small;
              small.message_limit = 256;
              Socket ours;
              REQUIRE(UnixSocket::pair(ours, p.peer));
              p.side = std::make_unique<Side>(p.loop, std::move(ours), small);
              p.say(std::string(257, 'x'));  // and it never ends
          }) == Errc::too_large);
    CHECK(closed_by([](Played& p) {
              Channel::Options small;
              small.message_limit = 256;
              Socket ours;
              REQUIRE(UnixSocket::pair(ours, p.peer));
              p.side = std::make_unique<Side>(p.loop, std::move(ours), small);
              p.say("{\"a\":\"" + std::string(250, 'x') + "\"}\n");
          }) == Errc::too_large);
    CHECK(heard(moving.far_end) == "");
    CHECK(open_descriptors() == before + 2);
}

TEST_CASE("a descriptor that is no socket is nobody's, and closes the channel") {
    for (bool foreign : {false, true}) {
        Played played;
        const int before = open_descriptors();
        {
            const Socket folder(::open("/", O_RDONLY));
            played.say(foreign ? R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":{}})"
                                 "\n"
                               : offer(1),
                       &folder);
        }
        CHECK(played.next_line() == accepted);
        if (!foreign) played.say(commit(1));
        CHECK(played.closed() == Errc::malformed);
        CHECK(played.side->parcels.empty());
        CHECK(open_descriptors() == before - 1);
    }
}

TEST_CASE("thousands of offers that nobody commits are held up to the limit") {
    Channel::Options options = patient();
    options.offers = 8;
    Played played(options);
    Moving moving;
    const int before = open_descriptors();
    int yes = 0, no = 0;
    for (int i = 1; i <= 2000; ++i) {
        played.say(offer(i), &moving.parcel.socket);
        (played.next_line() == accepted ? yes : no)++;
    }
    CHECK(yes == 8);
    CHECK(no == 1992);
    CHECK(open_descriptors() == before + 8);
    played.say(withdraw(3) + commit(4));
    played.say(offer(3000), &moving.parcel.socket);
    CHECK(played.next_line() == accepted);
    CHECK(played.side->parcels.size() == 1);
}

TEST_CASE("a channel that must be given up takes back what it can revoke") {
    Played played;
    Moving moving;
    Outcomes outcomes;
    REQUIRE(played.side->channel.offer(std::move(moving.parcel), outcomes.done()));
    CHECK(played.next_line() + "\n" == offer(1));
    played.say("garbage\n");
    CHECK(played.closed() == Errc::malformed);
    REQUIRE(outcomes.errors.size() == 1);
    CHECK(outcomes.errors[0] == Errc::malformed);
    CHECK(outcomes.parcels[0].socket);
    // The receiver has been told in a way that it cannot take for a death.
    std::byte room[10];
    const auto received = UnixSocket::receive(played.peer, room);
    REQUIRE(received);
    CHECK(std::string(reinterpret_cast<const char*>(room), received->bytes) == "\n!\n");
}

TEST_CASE("a channel that is blocked keeps its lines, and goes on") {
    Played played;
    const int small = 4096;
    Outcomes outcomes;
    REQUIRE(::setsockopt(played.peer.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    std::vector<std::unique_ptr<Moving>> all;
    for (int i = 0; i < 8; ++i) {
        all.push_back(std::make_unique<Moving>());
        REQUIRE(all.back()->parcel.unread.extend(200'000) != nullptr);
        std::memset(all.back()->parcel.unread.data(), 'x', 200'000);
        REQUIRE(played.side->channel.offer(std::move(all.back()->parcel), outcomes.done()));
    }
    // The last was not begun: it comes back at once, and nobody hears of it.
    REQUIRE(played.side->channel.withdraw(8));
    settle(played.loop);
    REQUIRE(outcomes.errors.size() == 1);
    CHECK(outcomes.errors[0] == Errc::cancelled);
    for (int i = 1; i <= 7; ++i) {
        CHECK(played.next_line().size() > 266'000);
        played.say(std::string(accepted) + "\n");
    }
    for (int i = 1; i <= 7; ++i) CHECK(played.next_line() + "\n" == commit(i));
    REQUIRE(until(played.loop, [&] { return outcomes.errors.size() == 8; }));
    CHECK(played.got.size() == 7);
}

TEST_CASE("a handler may destroy the channel") {
    SECTION("as a parcel comes") {
        Played played;
        Moving moving;
        played.side->channel.on_parcel([&](Parcel&&) { played.side.reset(); });
        played.say(offer(1), &moving.parcel.socket);
        CHECK(played.next_line() == accepted);
        played.say(commit(1) + offer(2));
        REQUIRE(until(played.loop, [&] { return played.side == nullptr; }));
    }
    SECTION("as the sender dies") {
        Played played;
        Moving moving;
        int parcels = 0;
        played.side->channel.on_parcel([&](Parcel&&) { ++parcels, played.side.reset(); });
        played.say(offer(1), &moving.parcel.socket);
        played.say(offer(2), &moving.parcel.socket);
        played.peer.close();
        REQUIRE(until(played.loop, [&] { return played.side == nullptr; }));
        CHECK(parcels == 1);
    }
    SECTION("as an outcome is told") {
        Played played;
        Moving one, two;
        REQUIRE(played.side->channel.offer(std::move(one.parcel), [&](Error, Parcel&&) { played.side.reset(); }));
        REQUIRE(played.side->channel.offer(std::move(two.parcel), [&](Error, Parcel&&) { FAIL("it is gone"); }));
        played.peer.close();
        REQUIRE(until(played.loop, [&] { return played.side == nullptr; }));
    }
    SECTION("as it closes") {
        Played played;
        played.side->channel.on_close([&](Error) { played.side.reset(); });
        played.say("garbage\n");
        REQUIRE(until(played.loop, [&] { return played.side == nullptr; }));
    }
}

TEST_CASE("what a handler has captured lives until it returns, though it destroys the channel or takes its own place") {
    std::string seen;
    const std::string held(100, 'x');
    SECTION("on_parcel destroys") {
        Played played;
        Moving moving;
        played.side->channel.on_parcel([&, held](Parcel&&) {
            played.side.reset();
            seen = held;
        });
        played.say(offer(1) + commit(1), &moving.parcel.socket);
        REQUIRE(until(played.loop, [&] { return !seen.empty(); }));
    }
    SECTION("on_close destroys") {
        Played played;
        played.side->channel.on_close([&, held](Error) {
            played.side.reset();
            seen = held;
        });
        played.say("garbage\n");
        REQUIRE(until(played.loop, [&] { return !seen.empty(); }));
    }
    SECTION("on_drained destroys") {
        Channel::Options one_offer = patient();
        one_offer.offers = 1;
        Played played(one_offer);
        Moving moving, more;
        REQUIRE(played.side->channel.offer(std::move(moving.parcel), {}));
        CHECK_FALSE(played.side->channel.offer(std::move(more.parcel), {}));
        played.side->channel.on_drained([&, held] {
            played.side.reset();
            seen = held;
        });
        played.say(accepted + std::string("\n"));
        REQUIRE(until(played.loop, [&] { return !seen.empty(); }));
    }
    SECTION("on_parcel takes its own place, or goes") {
        Played played;
        Moving one, two, three;
        int first = 0, second = 0;
        played.side->channel.on_parcel([&, held](Parcel&&) {
            ++first;
            played.side->channel.on_parcel([&](Parcel&&) {
                ++second;
                played.side->channel.on_parcel({});
            });
            seen = held;
        });
        played.say(offer(1) + commit(1), &one.parcel.socket);
        played.say(offer(2) + commit(2), &two.parcel.socket);
        played.say(offer(3), &three.parcel.socket);
        CHECK(played.next_line() == accepted);
        CHECK(played.next_line() == accepted);
        CHECK(played.next_line() == declined);
        CHECK(first == 1);
        CHECK(second == 1);
    }
    CHECK(seen == held);
}

TEST_CASE("one deals with the same user only, unless told otherwise") {
    Loop loop;
    Socket one, other;
    REQUIRE(UnixSocket::pair(one, other));
    Channel::Options nobody;
    nobody.trusts = [](const PeerCredentials&) { return false; };
    Channel channel(loop, nobody);
    CHECK(channel.start(std::move(one)).error() == Error::system(EPERM));
    CHECK_FALSE(channel.open());
    if (::geteuid() != 0) return;  // only root can become another

#if defined(__linux__)
    const std::string name = "@rejoin-channel-test-" + std::to_string(::getpid());
    auto listening = UnixSocket::listen(name, 5);
    REQUIRE(listening);
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setuid(65534) != 0) ::_exit(1);
        auto caller = UnixSocket::connect(name);
        std::byte room[1];
        while (caller && !caller->receive(room) && caller->receive(room).error() == Errc::would_block) ::usleep(1000);
        ::_exit(0);
    }
    std::unique_ptr<Socket> called;
    REQUIRE(until(loop, [&] {
        if (auto socket = listening->accept()) called = std::make_unique<Socket>(std::move(*socket));
        return called != nullptr;
    }));
    CHECK(UnixSocket::peer_credentials(*called)->user == 65534);
    Channel careful(loop);
    CHECK(careful.start(std::move(*called)).error() == Error::system(EPERM));
    called.reset();
    int status = 1;
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
#endif
}
#endif
