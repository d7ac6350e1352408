// SPDX-License-Identifier: BSL-1.0
#include <rejoin/core/random.hpp>

#include <cstdlib>

#include "ends.hpp"

using namespace rejoin;
using namespace rejoin::session;
using test::at;
using test::Buffer;
using test::bytes;
using test::End;
using test::from_hex;
using test::hex;
using test::ms;
using test::Pair;
using test::pattern;
using test::to_hex;

static_assert(sizeof(Session) <= 360);  // ten thousand of them are to be nothing

namespace {

std::size_t allocations = 0;

session::Options with_limit(std::size_t limit) {
    session::Options options;
    options.replay_limit = limit;
    return options;
}
std::string data(std::string_view text) {
    std::byte header[4];
    write_frame_header(header, FrameType::data, text.size());
    return to_hex(header) + to_hex(bytes(text));
}
std::string number(const char* type, std::uint64_t n) {
    std::byte raw[8];
    store_big(raw, n);
    return hex(std::string(type) + "000008") + to_hex(raw);
}
std::string ack(std::uint64_t n) { return number("11", n); }
constexpr char fin[] = "14000000", goodbye[] = "15000000";

}  // namespace

// Everything that the session allocates with new; the replay buffer is the rest, and is charged to its budget. Not inlined: GCC would
// take the one half of a pair for a mistake where it has inlined only the other.
[[gnu::noinline]] void* operator new(std::size_t n) {
    ++allocations;
    return std::malloc(n);
}
[[gnu::noinline]] void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    ++allocations;
    return std::malloc(n);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE("bytes go over, are acknowledged and forgotten") {
    Pair pair;
    REQUIRE(pair.client.session->send(bytes("hello")));
    REQUIRE(pair.client.session->unacknowledged() == 5);
    REQUIRE(pair.client.session->sent() == 5);
    const Buffer said = pair.client.write();
    REQUIRE(to_hex(said) == data("hello"));
    REQUIRE_FALSE(pair.server.read(said));
    REQUIRE(pair.server.heard == bytes("hello"));
    REQUIRE(pair.server.session->received() == 5);

    REQUIRE(pair.server.write().empty());  // the acknowledgement waits for company,
    REQUIRE(pair.server.session->acknowledgement_due());
    REQUIRE(pair.server.session->deadline(at(0)) == at(25));  // but not for long
    pair.server.session->acknowledge_now();
    const Buffer answer = pair.server.write();
    REQUIRE(to_hex(answer) == ack(5));
    REQUIRE_FALSE(pair.server.session->acknowledgement_due());
    REQUIRE_FALSE(pair.client.read(answer));
    REQUIRE(pair.client.session->unacknowledged() == 0);
    REQUIRE(pair.client.session->acknowledged() == 5);
    REQUIRE(pair.client.session->replayed() == 0);
}

TEST_CASE("an acknowledgement rides on data, and comes at once for a quarter of the peer's window") {
    Pair pair;
    pair.client.session->send(bytes("ping"));
    pair.server.read(pair.client.write());
    pair.server.session->send(bytes("pong"));
    REQUIRE(pair.server.write_hex() == ack(4) + data("pong"));
    REQUIRE(pair.server.write().empty());

    for (auto [window, every] : {std::pair{4096u, 1024u}, {1u << 16, 1u << 14}, {1u << 18, 1u << 16}, {1u << 30, 1u << 16}}) {
        End end(true);
        end.attach(0, 0, window);
        const Buffer frame = test::join(from_hex("10100000"), pattern(every - 1));
        end.read(frame);
        REQUIRE(end.write().empty());
        end.read(pattern(1));
        REQUIRE(end.write_hex() == ack(every));
    }
    End end(true);  // a window of nothing, which no handshake allows, does not make it talk for ever
    end.attach(0, 0, 0);
    REQUIRE(end.write().empty());
    end.read_hex(data("x"));
    REQUIRE(end.write_hex() == ack(1));
}

TEST_CASE("what the handshake left over goes first") {
    End end(false);
    end.session->send(bytes("data"));
    const Buffer confirm = pattern(frame_header_size + confirm_size);
    REQUIRE(end.session->attach({0, 0, 0, 4096}, confirm, {}, at(0)));
    REQUIRE(to_hex(end.write(7)) == to_hex(confirm) + data("data"));
    const Buffer longer = pattern(frame_header_size + confirm_size + 1);
    REQUIRE(end.session->attach({4, 0, 0, 4096}, longer, {}, at(0)).error() == Errc::malformed);
}

TEST_CASE("however writes are cut, the same comes out") {
    // ACK, PONG, PING, DATA that lies in two pieces, then FIN.
    const auto prepare = [](End& end) {
        end.attach();
        end.session->send(pattern(200));
        end.write();
        end.read_hex(ack(150) + data("heard") + number("12", 0x1122334455667788));
        end.session->send(pattern(150, 200));
        end.session->finish();
        end.session->probe(at(1));
    };
    End whole(false);
    prepare(whole);
    Bytes pieces[Session::pieces_max];
    REQUIRE(whole.session->gather(pieces) == 3);
    const Buffer expected = whole.write();
    REQUIRE(to_hex(expected) == ack(5) + number("13", 0x1122334455667788) + number("12", static_cast<std::uint64_t>(at(1).nanoseconds())) +
                                    hex("10000096") + to_hex(pattern(150, 200)) + fin);
    for (std::size_t cut = 1; cut < expected.size(); ++cut) {
        End end(false);
        prepare(end);
        REQUIRE(end.write(cut) == expected);
        End once(false);
        prepare(once);
        const std::size_t n = once.session->gather(pieces);
        Buffer first;
        for (std::size_t i = 0; i < n; ++i) first = test::join(first, pieces[i]);
        const std::size_t taken = cut < first.size() ? cut : first.size();
        first.resize(taken);
        once.session->wrote(taken);
        once.session->wrote(0);
        REQUIRE(once.session->at_frame_boundary() == (taken == expected.size() - 4));
        REQUIRE(test::join(first, once.write()) == expected);
    }
}

TEST_CASE("however reads are cut, the same arrives") {
    const Buffer input = from_hex(data("first") + number("12", 42) + ack(3) + data("second") + number("13", 7) + ack(5) + data("x") + fin);
    const auto check = [&](const auto& feed) {
        End end(true);
        end.attach();
        end.session->send(bytes("12345"));
        end.write();
        feed(end);
        REQUIRE(end.heard == bytes("firstsecondx"));
        REQUIRE(end.session->peer_finished());
        REQUIRE(end.session->received() == 13);
        REQUIRE(end.session->unacknowledged() == 0);
        REQUIRE(end.write_hex() == ack(13) + number("13", 42));
    };
    for (std::size_t a = 0; a <= input.size(); ++a)
        for (std::size_t b = a; b <= input.size(); ++b)
            check([&](End& end) {
                REQUIRE_FALSE(end.read(Bytes(input).first(a)));
                REQUIRE_FALSE(end.read(Bytes(input).subspan(a, b - a)));
                REQUIRE_FALSE(end.read(Bytes(input).subspan(b)));
            });
    check([&](End& end) {
        for (std::byte b : input) REQUIRE_FALSE(end.read({&b, 1}));
    });
}

TEST_CASE("much data goes in frames that let others pass") {
    Pair pair(with_limit(1 << 20));
    const Buffer much = pattern(700'000);
    REQUIRE(pair.client.session->send(much));
    Bytes pieces[Session::pieces_max];
    std::size_t most = 0, n = 0;
    Buffer said;
    while ((n = pair.client.session->gather(pieces)) != 0) {
        std::size_t size = 0;
        for (std::size_t i = 0; i < n; ++i) {
            size += pieces[i].size();
            said = test::join(said, pieces[i]);
        }
        most = size > most ? size : most;
        pair.client.session->wrote(size);
    }
    REQUIRE(most == 256 * 1024 + 4);
    REQUIRE_FALSE(pair.server.read(said));
    REQUIRE(pair.server.heard == much);
}

TEST_CASE("a break anywhere in a frame loses and repeats nothing") {
    const Buffer first = pattern(300), second = pattern(200, 300);
    for (std::size_t cut = 0; cut <= first.size() + 4; ++cut) {
        Pair pair;
        pair.client.session->send(first);
        Buffer said = pair.client.write();
        said.resize(cut);
        pair.server.read(said);
        pair.break_it();
        REQUIRE(pair.client.write().empty());
        pair.client.session->send(second);  // between connections
        pair.join_anew();
        pair.settle();
        REQUIRE(pair.server.heard == test::join(first, second));
        REQUIRE(pair.client.session->unacknowledged() == 0);
        const std::size_t arrived = cut < 4 ? 0 : cut - 4;
        REQUIRE(pair.client.session->replayed() == 300 - arrived);
    }
}

TEST_CASE("a frame that was half written is forgotten with its connection") {
    for (std::size_t cut = 0; cut <= 304; ++cut) {
        Pair pair;
        pair.client.session->send(pattern(300));
        Bytes pieces[Session::pieces_max];
        pair.client.session->gather(pieces);
        pair.client.session->wrote(cut);
        pair.break_it();
        pair.join_anew();
        pair.settle();
        REQUIRE(pair.server.heard == pattern(300));
        REQUIRE(pair.client.session->replayed() == (cut < 4 ? 0 : cut - 4));
    }
}

TEST_CASE("bytes that are sent again are counted when they are, and FIN is none") {
    Pair pair;
    pair.client.session->send(pattern(100));
    pair.client.session->finish();
    pair.client.write();
    for (int i = 0; i < 3; ++i) {  // three connections over which nothing gets
        pair.break_it();
        pair.join_anew();
    }
    REQUIRE(pair.client.session->replayed() == 0);
    pair.client.write(50);
    REQUIRE(pair.client.session->replayed() == 100);
}

TEST_CASE("what arrived over the old connection after the server was asked is skipped") {
    for (std::size_t late = 0; late <= 130; ++late) {
        Pair pair;
        pair.client.session->send(pattern(100));
        const bool finished = late % 2 == 1;
        Buffer said = pair.client.write();
        pair.client.session->send(pattern(26, 100));
        if (finished) pair.client.session->finish();
        said = test::join(said, pair.client.write());
        const std::size_t told = late % 3;  // so much had arrived when it was asked
        REQUIRE_FALSE(pair.server.read(Bytes(said).first(told == 0 ? 0 : told + 4)));
        const std::size_t more = std::min(said.size(), late + 8 + 4);
        REQUIRE_FALSE(pair.server.read(Bytes(said).subspan(told == 0 ? 0 : told + 4, more - (told == 0 ? 0 : told + 4))));
        const bool acknowledged = late % 5 == 0;  // and perhaps the client heard of it
        if (acknowledged) {
            pair.server.session->acknowledge_now();
            REQUIRE_FALSE(pair.client.read(pair.server.write()));
        }
        pair.confirm(told);
        pair.server.session->acknowledge_now();
        // An acknowledgement never says more than this connection has brought.
        REQUIRE(pair.server.write().empty());
        pair.settle();
        REQUIRE(pair.server.heard == pattern(126));
        REQUIRE(pair.client.session->unacknowledged() == 0);
        REQUIRE(pair.server.session->peer_finished() == finished);
        REQUIRE(pair.client.session->acknowledged() == (finished ? 127 : 126));
    }
}

TEST_CASE("an acknowledgement while bytes are skipped is of the new connection") {
    End end(true);
    end.attach();
    end.read_hex(data("0123456789"));
    REQUIRE(end.attach(0, 4));  // the client knows of 4
    REQUIRE(end.session->received() == 10);
    REQUIRE_FALSE(end.session->acknowledgement_due());
    end.read_hex(data("45"));
    end.session->acknowledge_now();
    REQUIRE(end.write_hex() == ack(6));
    end.read_hex(data("6789ab"));
    end.session->acknowledge_now();
    REQUIRE(end.write_hex() == ack(12));
    REQUIRE(end.heard == bytes("0123456789ab"));
}

TEST_CASE("what is skipped has to be what came before") {
    End end(true);
    end.attach();
    end.read_hex(data("0123") + fin);
    SECTION("FIN again") {
        REQUIRE(end.attach(0, 2));
        REQUIRE_FALSE(end.read_hex(data("23") + fin));
        REQUIRE(end.heard == bytes("0123"));
    }
    SECTION("FIN too early") {
        REQUIRE(end.attach(0, 2));
        REQUIRE(end.read_hex(data("2") + fin) == Errc::malformed);
    }
    SECTION("data where FIN was") {
        REQUIRE(end.attach(0, 2));
        REQUIRE(end.read_hex(data("234")) == Errc::malformed);
        REQUIRE(end.heard == bytes("0123"));
    }
    SECTION("FIN where data was") {
        End other(true);
        other.attach();
        other.read_hex(data("0123"));
        other.attach(0, 3);
        REQUIRE(other.read_hex(fin) == Errc::malformed);
    }
}

TEST_CASE("both ends finish, the server says goodbye, and both have ended") {
    Pair pair;
    pair.client.session->send(bytes("last words"));
    pair.client.session->finish();
    REQUIRE(pair.client.session->finishing());
    REQUIRE(pair.client.session->send(bytes("too late")).error() == Errc::invalid_state);
    const Buffer said = pair.client.write();
    REQUIRE(to_hex(said) == data("last words") + fin);
    REQUIRE_FALSE(pair.server.read(said));
    REQUIRE(pair.server.session->peer_finished());
    REQUIRE_FALSE(pair.server.session->ended());
    REQUIRE(pair.server.session->received() == 11);
    REQUIRE(pair.server.write_hex() == ack(11));  // at once
    REQUIRE_FALSE(pair.client.read_hex(ack(11)));
    REQUIRE(pair.client.session->acknowledged() == 11);
    REQUIRE_FALSE(pair.client.session->complete());

    // The other direction goes on for as long as it likes.
    pair.server.session->send(bytes("and mine"));
    REQUIRE_FALSE(pair.client.read(pair.server.write()));
    REQUIRE(pair.client.heard == bytes("and mine"));
    pair.server.session->finish();
    REQUIRE_FALSE(pair.client.read(pair.server.write()));
    REQUIRE(pair.client.session->peer_finished());
    REQUIRE(pair.client.session->complete());
    REQUIRE_FALSE(pair.client.session->ended());
    REQUIRE(pair.client.write_hex() == ack(9));
    REQUIRE_FALSE(pair.server.read_hex(ack(9)));
    REQUIRE(pair.server.session->ended());
    REQUIRE(pair.server.write_hex() == goodbye);
    REQUIRE(pair.server.write().empty());  // once
    REQUIRE_FALSE(pair.client.read_hex(goodbye));
    REQUIRE(pair.client.session->ended());
    REQUIRE(pair.client.write().empty());
}

TEST_CASE("the end survives a break after any of its frames") {
    for (int lost = 0; lost < 6; ++lost) {
        Pair pair;
        pair.client.session->send(bytes("c"));
        pair.server.session->send(bytes("s"));
        pair.client.session->finish();
        pair.server.session->finish();
        // Six exchanges at most; the one with number `lost` does not arrive, and the connection breaks.
        for (int i = 0; i < 6; ++i) {
            End& from = i % 2 == 0 ? pair.client : pair.server;
            End& to = i % 2 == 0 ? pair.server : pair.client;
            from.session->acknowledge_now();
            const Buffer said = from.write();
            if (i == lost) {
                pair.break_it();
                break;
            }
            REQUIRE_FALSE(to.read(said));
        }
        if (!pair.client.session->ended()) {
            pair.join_anew();
            pair.settle();
        }
        INFO(lost);
        REQUIRE(pair.client.heard == bytes("s"));
        REQUIRE(pair.server.heard == bytes("c"));
        REQUIRE(pair.client.session->ended());
        REQUIRE(pair.server.session->ended());
    }
}

TEST_CASE("goodbye may come while the client sends again what the server has long had") {
    Pair pair;
    pair.client.session->send(pattern(1000));
    pair.client.session->finish();
    pair.server.session->finish();
    REQUIRE_FALSE(pair.client.read(pair.server.write()));
    const Buffer said = pair.client.write();
    REQUIRE_FALSE(pair.server.read(said));  // all of it, ACK of FIN included
    REQUIRE(pair.server.session->ended());
    pair.confirm(0);  // the server was asked before that
    Bytes pieces[Session::pieces_max];
    REQUIRE(pair.client.session->gather(pieces) > 0);
    pair.client.session->wrote(10);
    REQUIRE(pair.server.write_hex() == goodbye);
    REQUIRE_FALSE(pair.client.read_hex(goodbye));
    REQUIRE(pair.client.session->ended());
    REQUIRE(pair.client.session->unacknowledged() == 0);
    REQUIRE(pair.client.session->gather(pieces) == 0);
    REQUIRE_FALSE(pair.client.session->at_frame_boundary());
}

TEST_CASE("what the protocol does not allow is malformed") {
    struct Row {
        const char* what;
        bool accepted;
        std::string frames;
        bool sent_fin = false;
    };
    const Row rows[] = {
        {"an empty data frame", true, "10000000"},
        {"an acknowledgement of what was not sent", true, ack(6)},
        {"the same, from far away", true, ack(~std::uint64_t{})},
        {"data behind the end", true, std::string(fin) + data("x")},
        {"a second end", true, std::string(fin) + fin},
        {"goodbye, to a server", true, std::string(fin) + goodbye, true},
        {"goodbye before the server's end", false, goodbye, true},
        {"goodbye before our end", false, std::string(fin) + goodbye},
        {"a handshake's frame", true, "05000001 00"},
        {"an unknown type", true, "17000000"},
        {"an acknowledgement of the wrong size", true, "11000007"},
        {"a ping of the wrong size", true, "12000009"},
        {"an end with a payload", true, "14000001"},
    };
    for (const Row& row : rows)
        for (bool split : {false, true}) {
            End end(row.accepted);
            end.attach();
            end.session->send(bytes("12345"));
            if (row.sent_fin) end.session->finish();
            end.write();
            const Buffer input = from_hex(row.frames);
            Error error;
            if (split) {
                for (std::size_t i = 0; i < input.size() && !error; ++i) error = end.read({&input[i], 1});
            } else {
                error = end.read(input);
            }
            INFO(row.what);
            REQUIRE(error == Errc::malformed);
            REQUIRE(end.heard.empty());
            REQUIRE(end.session->unacknowledged() == 5);
            REQUIRE_FALSE(end.session->ended());
        }
}

TEST_CASE("an acknowledgement of what was sent on another connection only is malformed") {
    End end(false);
    end.attach();
    end.session->send(pattern(10));
    end.write();
    REQUIRE(end.attach(4, 0));
    REQUIRE(end.read_hex(ack(5)) == Errc::malformed);
    REQUIRE(end.session->unacknowledged() == 6);
    REQUIRE_FALSE(end.read_hex(ack(4)));
    REQUIRE(to_hex(end.write()) == hex("10000006") + to_hex(pattern(6, 4)));
    REQUIRE_FALSE(end.read_hex(ack(10)));
}

TEST_CASE("goodbye with something unsent behind it is malformed") {
    End end(false);
    end.attach();
    end.session->send(bytes("12345"));
    end.session->finish();
    Bytes pieces[Session::pieces_max];
    end.session->gather(pieces);
    end.session->wrote(6);
    REQUIRE(end.read_hex(std::string(fin) + goodbye) == Errc::malformed);
    REQUIRE(end.session->unacknowledged() == 5);
}

TEST_CASE("what follows goodbye is nothing") {
    End end(false);
    end.attach();
    end.session->finish();
    end.write();
    REQUIRE_FALSE(end.read_hex(std::string(fin) + goodbye + data("x") + "ffffffff"));
    REQUIRE(end.session->ended());
    REQUIRE(end.heard.empty());
}

TEST_CASE("an abort ends the session") {
    End end(false);
    end.attach();
    REQUIRE(end.read(Session::abort_frame) == Errc::session_aborted);
    REQUIRE(to_hex(Session::abort_frame) == "1600000100");
}

TEST_CASE("claims that cannot be are refused, and change nothing") {
    Pair pair;
    pair.client.session->send(pattern(10));
    pair.server.session->send(pattern(7));
    pair.settle();
    pair.client.session->send(pattern(5, 10));
    Bytes pieces[Session::pieces_max];
    pair.client.session->gather(pieces);
    pair.client.session->wrote(4 + 2);  // sent: 12 of 15, acknowledged 10
    const auto claim = [&](std::uint64_t send_from, std::uint64_t receive_from) { return pair.client.attach(send_from, receive_from); };
    REQUIRE(claim(9, 7).error() == Errc::malformed);
    REQUIRE(claim(13, 7).error() == Errc::malformed);
    REQUIRE(claim(0, 7).error() == Errc::malformed);
    REQUIRE(claim(~std::uint64_t{}, 7).error() == Errc::malformed);
    REQUIRE(claim(std::uint64_t{1} << 63, 7).error() == Errc::malformed);
    REQUIRE(claim(10, 8).error() == Errc::malformed);
    REQUIRE(claim(10, ~std::uint64_t{}).error() == Errc::malformed);
    REQUIRE(pair.client.session->unacknowledged() == 5);
    REQUIRE(to_hex(pair.client.write()) == to_hex(pattern(3, 12)));  // the connection in use goes on in mid-frame
    REQUIRE(claim(12, 7));
    REQUIRE(to_hex(pair.client.write()) == hex("10000003") + to_hex(pattern(3, 12)));

    // An end that was acknowledged stays so.
    End finished(false);
    finished.attach();
    finished.session->finish();
    finished.write();
    finished.read_hex(ack(1));
    REQUIRE(finished.attach(0, 0).error() == Errc::malformed);
    REQUIRE(finished.attach(2, 0).error() == Errc::malformed);
    REQUIRE(finished.attach(1, 0));
}

TEST_CASE("a send is taken whole or refused whole") {
    const session::Options options = with_limit(4096);
    Pair pair(options);
    Session& session = *pair.client.session;
    REQUIRE(session.send_limit() == 4096);
    REQUIRE(session.send_space() == 4096);
    REQUIRE(session.send({}));
    REQUIRE(session.send(pattern(4097)).error() == Errc::too_large);
    REQUIRE_FALSE(session.take_drained());
    REQUIRE(session.send(pattern(4000)));
    REQUIRE(session.send(pattern(97)).error() == Errc::would_block);
    REQUIRE(session.unacknowledged() == 4000);
    REQUIRE(session.send(pattern(96)));
    REQUIRE(session.send_space() == 0);
    REQUIRE_FALSE(session.take_drained());
    pair.client.write();
    REQUIRE_FALSE(pair.client.read_hex(ack(2047)));
    REQUIRE_FALSE(session.take_drained());
    REQUIRE_FALSE(pair.client.read_hex(ack(2048)));
    REQUIRE(session.take_drained());
    REQUIRE_FALSE(session.take_drained());          // once
    REQUIRE_FALSE(pair.client.read_hex(ack(100)));  // an old one says nothing new
    REQUIRE(session.acknowledged() == 2048);
}

TEST_CASE("budgets bound the memory of all sessions, and of one peer's") {
    Budget all{10'000, nullptr, 0}, peer{6'000, &all, 0}, other{6'000, &all, 0};
    const session::Options options = with_limit(1 << 20);
    {
        End a(true, options), b(true, options), c(true, options);
        a.session->set_budget(&peer);
        b.session->set_budget(&peer);
        c.session->set_budget(&other);
        REQUIRE(a.session->send(pattern(4000)));  // in 4096 bytes
        REQUIRE(peer.used == 4096);
        REQUIRE(all.used == 4096);
        REQUIRE(b.session->send(pattern(1025)).error() == Errc::would_block);  // 2048
        REQUIRE(b.session->unacknowledged() == 0);
        REQUIRE(b.session->send(pattern(1024)));
        REQUIRE(peer.used == 4096 + 1024);
        REQUIRE(c.session->send(pattern(4096)));
        REQUIRE(all.used == 4096 + 1024 + 4096);
        REQUIRE(c.session->send({}));
        REQUIRE(a.session->send(pattern(97)).error() == Errc::would_block);
        REQUIRE(a.session->send(pattern(96)));
        REQUIRE(peer.used + other.used == all.used);

        // What is acknowledged leaves the memory in use for a moment, and then gives it back; without a connection, at once.
        a.attach();
        a.write();
        REQUIRE_FALSE(a.read_hex(ack(4096), at(100)));
        REQUIRE(peer.used == 4096 + 1024);
        REQUIRE(a.session->deadline(at(100)) == at(600));
        REQUIRE(a.session->on_time(at(599)) == Session::Liveness::fine);
        REQUIRE(peer.used == 4096 + 1024);
        REQUIRE(a.session->on_time(at(600)) == Session::Liveness::fine);
        REQUIRE(peer.used == 1024);
        REQUIRE(a.session->deadline(at(600)) > at(600));
        c.attach();
        c.write();
        REQUIRE_FALSE(c.read_hex(ack(4095)));
        c.session->detach();
        REQUIRE(other.used == 4096);  // one byte is still kept
        c.attach(4095);
        REQUIRE_FALSE(c.read_hex(ack(4095)));
        c.write();
        REQUIRE_FALSE(c.read_hex(ack(4096)));
        c.session->detach();
        REQUIRE(other.used == 0);
    }
    REQUIRE(all.used == 0);
    REQUIRE(peer.used == 0);
}

TEST_CASE("frames cost no memory") {
    Budget budget;
    Pair pair;
    pair.client.session->set_budget(&budget);
    const Buffer piece = pattern(500);
    std::byte wire[2000];
    const auto exchange = [&](Session& from, Session& to) {
        Bytes pieces[Session::pieces_max];
        std::size_t size = 0;
        const std::size_t n = from.gather(pieces);
        for (std::size_t i = 0; i < n; ++i) {
            copy(wire + size, pieces[i]);
            size += pieces[i].size();
        }
        from.wrote(size);
        bool gone = false;
        return !to.receive(
                   {wire, size}, at(0), [](Bytes) { return true; }, gone) &&
               !gone;
    };
    std::size_t warm = 0, used = 0;
    bool good = true;
    for (int i = 0; i < 2000; ++i) {
        if (i == 10) warm = allocations, used = budget.used;
        good = good && pair.client.session->send(piece);
        pair.client.session->probe(at(i));
        good = good && exchange(*pair.client.session, *pair.server.session);
        pair.server.session->acknowledge_now();
        good = good && exchange(*pair.server.session, *pair.client.session);
    }
    REQUIRE(allocations == warm);
    REQUIRE(good);
    REQUIRE(budget.used == used);
    REQUIRE(used == 512);
    REQUIRE(pair.server.session->received() == 2000 * 500);
}

TEST_CASE("liveness: when a probe is due, and what its silence means") {
    session::Options options;
    options.liveness_interval = ms(5000);
    options.suspect_after = ms(1000);
    options.dead_after = ms(3000);
    using L = Session::Liveness;
    const std::string ping = number("12", static_cast<std::uint64_t>(at(5000).nanoseconds()));

    SECTION("the client probes a quiet connection, and one that is not quiet too") {
        End end(false, options);
        end.attach();
        REQUIRE(end.session->deadline(at(0)) == at(5000));
        REQUIRE(end.session->on_time(at(4999)) == L::fine);
        REQUIRE(end.write().empty());
        REQUIRE_FALSE(end.read_hex(data("x"), at(4000)));
        end.session->acknowledge_now();
        end.write();
        REQUIRE(end.session->deadline(at(4999)) == at(5000));
        REQUIRE(end.session->on_time(at(5000)) == L::fine);
        REQUIRE(end.session->probe_unanswered());
        REQUIRE(end.session->probed_at() == at(5000));
        REQUIRE(end.write_hex() == ping);

        SECTION("unanswered") {
            REQUIRE(end.session->deadline(at(5000)) == at(6000));
            REQUIRE(end.session->on_time(at(5999)) == L::fine);
            REQUIRE(end.session->on_time(at(6000)) == L::suspect);
            REQUIRE(end.session->deadline(at(6000)) == at(8000));
            REQUIRE(end.session->on_time(at(7999)) == L::suspect);
            REQUIRE(end.session->on_time(at(8000)) == L::dead);
            REQUIRE(end.write().empty());
        }
        SECTION("answered, which is measured") {
            REQUIRE_FALSE(end.read_hex(number("13", static_cast<std::uint64_t>(at(5000).nanoseconds())), at(5040)));
            REQUIRE(end.session->round_trip() == ms(40));
            REQUIRE_FALSE(end.session->probe_unanswered());
            REQUIRE(end.session->on_time(at(9000)) == L::fine);
            REQUIRE(end.session->deadline(at(9000)) == at(10'000));
        }
        SECTION("anything at all is an answer, and only the right one is measured") {
            REQUIRE_FALSE(end.read_hex(number("13", 5), at(5040)));
            REQUIRE(end.session->round_trip() == Duration());
            REQUIRE_FALSE(end.session->probe_unanswered());
        }
        SECTION("half a frame is an answer") {
            REQUIRE_FALSE(end.read_hex("1000", at(5500)));
            REQUIRE(end.session->on_time(at(9000)) == L::fine);
        }
        SECTION("excused, because the peer's kernel answers") {
            REQUIRE(end.session->on_time(at(6000)) == L::suspect);
            end.session->excuse(at(6000));
            REQUIRE(end.write_hex() == number("12", static_cast<std::uint64_t>(at(6000).nanoseconds())));
            REQUIRE(end.session->deadline(at(6000)) == at(7000));
            REQUIRE(end.session->on_time(at(6999)) == L::fine);
            REQUIRE_FALSE(end.session->overdue(at(7999)));
            REQUIRE(end.session->overdue(at(8000)));
            REQUIRE(end.session->on_time(at(9000)) == L::dead);
            REQUIRE_FALSE(end.read_hex("10", at(9000)));
            REQUIRE_FALSE(end.session->overdue(at(20'000)));
        }
        SECTION("a new connection starts over") {
            REQUIRE(end.session->on_time(at(8000)) == L::dead);
            REQUIRE(end.session->attach({0, 1, 0, 4096}, {}, {}, at(8000)));
            REQUIRE(end.session->on_time(at(8000)) == L::fine);
            REQUIRE(end.session->deadline(at(8000)) == at(13'000));
        }
    }
    SECTION("the server, which hears the client's probes, waits twice as long, from when it last heard") {
        End end(true, options);
        end.attach();
        REQUIRE_FALSE(end.read_hex("10", at(700)));
        REQUIRE(end.session->deadline(at(700)) == at(10'700));
        REQUIRE(end.session->on_time(at(10'699)) == L::fine);
        REQUIRE_FALSE(end.session->probe_unanswered());
        REQUIRE(end.session->on_time(at(10'700)) == L::fine);
        REQUIRE(end.session->probe_unanswered());
    }
    SECTION("data that is not acknowledged is followed by a probe soon") {
        for (bool accepted : {false, true}) {
            End end(accepted, options);
            end.attach();
            end.session->send(bytes("x"));
            REQUIRE(end.session->deadline(at(0)) > at(500));  // not sent yet
            end.write();
            REQUIRE(end.session->deadline(at(0)) == at(500));
            REQUIRE(end.session->on_time(at(500)) == L::fine);
            REQUIRE(end.session->probe_unanswered());
            REQUIRE_FALSE(end.read_hex(ack(1), at(600)));
            REQUIRE(end.session->deadline(at(600)) == at(1100));  // to give memory back
            REQUIRE(end.session->on_time(at(1100)) == L::fine);
            REQUIRE(end.session->deadline(at(1100)) >= at(5500));
        }
    }
    SECTION("an end that was acknowledged is nothing to wait for") {
        End end(false, options);
        end.attach();
        end.session->finish();
        end.write();
        REQUIRE(end.session->deadline(at(0)) == at(500));
        REQUIRE_FALSE(end.read_hex(ack(1)));
        REQUIRE(end.session->deadline(at(0)) == at(5000));
    }
    SECTION("patience grows with the round trip") {
        End end(false, options);
        REQUIRE(end.session->attach({0, 0, 0, 4096}, {}, ms(800), at(0)));
        REQUIRE(end.session->round_trip() == ms(800));
        end.session->probe(at(0));
        REQUIRE(end.session->on_time(at(3199)) == L::fine);
        REQUIRE(end.session->on_time(at(3200)) == L::dead);
        REQUIRE(end.session->deadline(at(0)) == at(3200));
        REQUIRE_FALSE(end.read_hex(number("13", static_cast<std::uint64_t>(at(0).nanoseconds())), at(1600)));
        REQUIRE(end.session->round_trip() == ms(900));  // an eighth of the way (RFC 6298)
    }
    SECTION("a probe on demand") {
        End end(true, options);
        end.session->probe(at(5));  // without a connection there is nothing to probe
        REQUIRE_FALSE(end.session->probe_unanswered());
        REQUIRE(end.session->on_time(at(60'000)) == L::fine);
        REQUIRE(end.session->deadline(at(5)) == TimePoint::never());
        end.attach();
        end.session->probe(at(10));
        end.session->probe(at(20));  // one at a time
        REQUIRE(end.session->probed_at() == at(10));
        REQUIRE(end.write_hex() == number("12", static_cast<std::uint64_t>(at(10).nanoseconds())));
    }
    SECTION("dead before suspect, when the options say so") {
        options.dead_after = ms(200);
        End end(false, options);
        end.attach();
        end.session->probe(at(0));
        REQUIRE(end.session->deadline(at(0)) == at(200));
        REQUIRE(end.session->on_time(at(200)) == L::dead);
    }
    SECTION("time that stands still or goes back does no harm") {
        End end(false, options);
        end.attach();
        end.session->probe(at(0));
        REQUIRE(end.session->on_time(at(-5000)) == L::fine);
        REQUIRE_FALSE(end.read_hex(number("13", static_cast<std::uint64_t>(at(0).nanoseconds())), at(-10)));
        REQUIRE(end.session->round_trip() > Duration());
        REQUIRE(end.session->round_trip() < ms(1));
        REQUIRE(end.session->on_time(TimePoint::never()) == L::fine);
    }
}

TEST_CASE("a ping is answered with its own bytes, the last of several") {
    End end(true);
    end.attach();
    REQUIRE_FALSE(end.read_hex(number("12", 1) + number("12", 0xffeeddccbbaa9988)));
    REQUIRE(end.write_hex() == number("13", 0xffeeddccbbaa9988));
    REQUIRE(end.write().empty());
}

TEST_CASE("offsets far out") {
    for (std::uint64_t base : {(std::uint64_t{1} << 32) - 50, (std::uint64_t{1} << 63) - 50, ~std::uint64_t{} - 1000}) {
        Pair pair;
        TestAccess::set_offsets(*pair.client.session, base, base - 7);
        TestAccess::set_offsets(*pair.server.session, base - 7, base);
        pair.join_anew();
        pair.client.session->send(pattern(300));
        Buffer said = pair.client.write();
        said.resize(104);
        REQUIRE_FALSE(pair.server.read(said));
        pair.server.session->send(pattern(200, 9));
        REQUIRE_FALSE(pair.client.read(pair.server.write()));
        REQUIRE(pair.client.session->acknowledged() == base + 100);
        REQUIRE(pair.client.attach(base + 99, base).error() == Errc::malformed);
        REQUIRE(pair.client.attach(base + 301, base).error() == Errc::malformed);
        REQUIRE(pair.client.attach(50, base).error() == Errc::malformed);
        pair.break_it();
        pair.join_anew();
        pair.client.session->finish();
        pair.server.session->finish();
        pair.settle();
        REQUIRE(pair.server.heard == pattern(300));
        REQUIRE(pair.client.heard == pattern(200, 9));
        REQUIRE(pair.client.session->ended());
        REQUIRE(pair.server.session->ended());
        REQUIRE(pair.server.session->received() == base + 301);
        REQUIRE(pair.client.session->received() == base - 7 + 201);
    }
}

TEST_CASE("a handler may destroy the session, or take its connection away") {
    End end(true);
    end.attach();
    const Buffer input = from_hex(data("one") + data("two") + "ffffffff");
    SECTION("destroy") {
        bool gone = false;
        int calls = 0;
        const Error error = end.session->receive(
            input, at(0),
            [&](Bytes) {
                ++calls;
                delete std::exchange(end.session, nullptr);
                return false;
            },
            gone);
        REQUIRE(gone);
        REQUIRE(calls == 1);
        REQUIRE_FALSE(error);
    }
    SECTION("detach, or another connection") {
        const bool again = GENERATE(false, true);
        bool gone = false;
        Buffer heard;
        const Error error = end.session->receive(
            input, at(0),
            [&](Bytes part) {
                heard = test::join(heard, part);
                end.session->detach();
                if (again) REQUIRE(end.attach(0, 3));
                return true;
            },
            gone);
        REQUIRE_FALSE(gone);
        REQUIRE_FALSE(error);  // the rest is of a connection that is none any more
        REQUIRE(heard == bytes("one"));
        REQUIRE(end.session->attached() == again);
        if (again) REQUIRE_FALSE(end.read_hex(data("two")));
        REQUIRE(end.heard == (again ? bytes("two") : Buffer()));
    }
    SECTION("send and write") {
        bool gone = false;
        Buffer said;
        const Error error = end.session->receive(
            Bytes(input).first(14), at(0),
            [&](Bytes part) {
                REQUIRE(end.session->send(part));
                said = test::join(said, end.write());
                return true;
            },
            gone);
        REQUIRE_FALSE(error);
        REQUIRE(to_hex(said) == ack(3) + data("one") + ack(6) + data("two"));
    }
}

TEST_CASE("who it is, and which connection") {
    Session session;
    REQUIRE_FALSE(session.established());
    Identity identity;
    identity.id.bytes[3] = std::byte{9};
    session.set_identity(identity, false);
    REQUIRE(session.established());
    REQUIRE(session.identity().id == identity.id);
    REQUIRE(session.next_epoch() == 1);
    REQUIRE(session.next_epoch() == 2);
    const session::Options options;
    session.set_options(options);
    REQUIRE(&session.options() == &options);
    REQUIRE(session.epoch() == 0);
    REQUIRE(session.attach({0, 0, 2, 4096}, {}, {}, at(0)));
    REQUIRE(session.epoch() == 2);
    REQUIRE(session.attach({0, 0, 1, 4096}, {}, {}, at(0)));
    REQUIRE(session.epoch() == 2);  // never back
}

TEST_CASE("options have bounds") {
    REQUIRE(session::Options().valid());
    const auto with = [](auto member, auto value) {
        session::Options options;
        options.*member = value;
        return options.valid();
    };
    REQUIRE(with(&session::Options::replay_limit, std::size_t{4096}));
    REQUIRE(with(&session::Options::replay_limit, std::size_t{1} << 30));
    REQUIRE_FALSE(with(&session::Options::replay_limit, std::size_t{4095}));
    REQUIRE_FALSE(with(&session::Options::replay_limit, (std::size_t{1} << 30) + 1));
    for (auto member : {&session::Options::liveness_interval, &session::Options::suspect_after, &session::Options::dead_after,
                        &session::Options::keep_detached}) {
        REQUIRE_FALSE(with(member, Duration()));
        REQUIRE_FALSE(with(member, ms(-1)));
        REQUIRE(with(member, Duration::unlimited()));
    }
}

TEST_CASE("random bytes never get more delivered than they are") {
    for (std::uint64_t seed = 0; seed < 2000; ++seed) {
        Random random(seed);
        End end(seed % 2 == 0);
        end.attach();
        Buffer input(200);
        for (std::byte& b : input) b = static_cast<std::byte>(random.below(3) == 0 ? 0x10 + random.below(7) : random.below(9));
        static_cast<void>(end.read(input));
        REQUIRE(end.heard.size() <= input.size());
        REQUIRE(end.session->received() - (end.session->peer_finished() ? 1 : 0) == end.heard.size());
    }
}
