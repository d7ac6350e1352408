// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/session/session.hpp>

#include "bytes.hpp"
#include "catch.hpp"

namespace rejoin::inline v0_1::session {

/// Places a session at offsets that would take years to reach.
struct TestAccess {
    static void set_offsets(Session& s, std::uint64_t sent, std::uint64_t received) {
        s.acknowledged_ = s.sent_ = s.highest_sent_ = sent;
        s.received_ = s.acknowledgement_sent_ = received;
    }
};

}  // namespace rejoin::inline v0_1::session

namespace test {

using namespace rejoin;
using namespace rejoin::session;

inline TimePoint at(std::int64_t milliseconds) { return TimePoint() + Duration::milliseconds(1'000'000 + milliseconds); }
inline Duration ms(std::int64_t n) { return Duration::milliseconds(n); }

/// One end: a session, and what its application has heard.
struct End {
    explicit End(bool accepted, const session::Options& o = {}) : options(o) {
        session->set_options(options);
        session->set_identity({}, accepted);
    }
    End(const End&) = delete;
    ~End() { delete session; }

    /// Everything that is to be written, in writes of at most `limit` bytes.
    Buffer write(std::size_t limit = SIZE_MAX) {
        Buffer out;
        Bytes pieces[Session::pieces_max];
        while (const std::size_t n = session->gather(pieces)) {
            Buffer round;
            for (std::size_t i = 0; i < n; ++i) round = join(round, pieces[i]);
            if (round.size() > limit) round.resize(limit);
            out = join(out, round);
            session->wrote(round.size());
        }
        return out;
    }
    Error read(Bytes bytes, TimePoint now = at(0)) {
        bool gone = false;
        const Error error = session->receive(
            bytes, now,
            [this](Bytes part) {
                heard = join(heard, part);
                return true;
            },
            gone);
        REQUIRE_FALSE(gone);
        return error;
    }
    Error read_hex(std::string_view spaced, TimePoint now = at(0)) { return read(from_hex(spaced), now); }
    std::string write_hex() { return to_hex(write()); }
    Result<void> attach(std::uint64_t send_from = 0, std::uint64_t receive_from = 0, std::uint32_t window = 1 << 20) {
        return session->attach({send_from, receive_from, 0, window}, {}, {}, at(0));
    }

    const session::Options options;
    Session* session = new Session;
    Buffer heard;
};

/// Two ends, joined as the handshake joins them.
struct Pair {
    explicit Pair(const session::Options& options = {}) : client(false, options), server(true, options) { join_anew(); }

    void join_anew() { confirm(server.session->received()); }
    /// The second half of a handshake in which the server has said that it has everything before `told`.
    void confirm(std::uint64_t told) {
        ClientHandshake handshake;
        const std::uint64_t acknowledged = client.session->acknowledged();
        const std::uint64_t from = told > acknowledged ? told : acknowledged, received = client.session->received();
        const std::uint64_t epoch = client.session->next_epoch();
        const auto window = static_cast<std::uint32_t>(client.session->options().replay_limit);
        REQUIRE(client.session->attach({from, received, epoch, window}, {}, ms(10), at(0)));
        REQUIRE(server.session->attach({received, from, epoch, window}, {}, ms(10), at(0)));
    }
    void break_it() {
        client.session->detach();
        server.session->detach();
    }
    /// To and fro, acknowledgements included, until nobody has anything to say.
    void settle() {
        for (bool quiet = false; !quiet;) {
            quiet = true;
            for (auto [from, to] : {std::pair{&client, &server}, std::pair{&server, &client}}) {
                from->session->acknowledge_now();
                const Buffer said = from->write();
                quiet = quiet && said.empty();
                REQUIRE_FALSE(to->read(said));
            }
        }
    }

    End client, server;
};

}  // namespace test
