// SPDX-License-Identifier: BSL-1.0
// Any bytes as what a peer says in an established session. Input: a byte of what the session is like, then pieces: a byte that says how
// long the piece is and what happens before it, and the piece. The seeds are made by tests/session/foreign_peer.py --seeds.
#include <cstdlib>
#include <rejoin/session/session.hpp>
#include <vector>

using namespace rejoin;
using namespace rejoin::session;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}
std::byte byte_at(std::uint64_t offset) { return static_cast<std::byte>(offset * 7 + (offset >> 8)); }

struct Run {
    Run(bool accepted, unsigned queued, bool finish) {
        session.set_options(options);
        session.set_budget(&budget);
        session.set_identity({}, accepted);
        std::vector<std::byte> bytes(queued * 100);
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(i);
        expect(static_cast<bool>(session.send(bytes)));
        if (finish) session.finish();
        connect(0);
    }

    // A connection of which the peer says, truthfully, that it has what it acknowledged, and that it knows of all but `again` of its own.
    void connect(std::uint64_t again) {
        position = session.acknowledged();
        const std::uint64_t known = session.received() < again ? 0 : session.received() - again;
        expect(static_cast<bool>(session.attach({position, known, 0, window}, {}, {}, now)));
        written.clear();
    }
    // What the session writes is frames, with the bytes that belong there, and acknowledges nothing that it has not delivered.
    void write(std::size_t limit) {
        Bytes pieces[Session::pieces_max];
        while (const std::size_t n = session.gather(pieces)) {
            std::size_t taken = 0;
            for (std::size_t i = 0; i < n && taken < limit; ++i) {
                expect(!pieces[i].empty());
                const Bytes part = pieces[i].first(pieces[i].size() < limit - taken ? pieces[i].size() : limit - taken);
                written.insert(written.end(), part.begin(), part.end());
                taken += part.size();
            }
            session.wrote(taken);
        }
        std::size_t at = 0;
        while (written.size() - at >= frame_header_size) {
            const FrameHeader header = read_frame_header(&written[at]);
            expect(frame_length_allowed(header));
            if (written.size() - at < frame_header_size + header.length) break;
            const std::byte* payload = &written[at] + frame_header_size;
            if (header.type == FrameType::data)
                for (std::size_t i = 0; i < header.length; ++i) expect(payload[i] == byte_at(position++));
            if (header.type == FrameType::fin) expect(position++ == session.sent());
            if (header.type == FrameType::ack) expect(load_big<std::uint64_t>(payload) <= session.received());
            expect(header.type <= FrameType::goodbye && header.type >= FrameType::data);
            at += frame_header_size + header.length;
            expect(position <= session.acknowledged() + window + 1);
        }
        written.erase(written.begin(), written.begin() + static_cast<std::ptrdiff_t>(at));
    }
    bool read(Bytes bytes) {
        fed += bytes.size();
        bool gone = false;
        const Error error = session.receive(
            bytes, now,
            [&](Bytes part) {
                expect(!part.empty() && !session.peer_finished() && session.held() == 0);
                delivered += part.size();
                if (part[0] == std::byte{0xdd}) session.detach();
                if (part[0] == std::byte{0xee}) session.hold(true);
                return true;
            },
            gone);
        expect(!gone);
        expect(!error || error == Errc::malformed || error == Errc::session_aborted);
        return !error;
    }
    // The application takes what waits.
    void take() {
        std::byte room[10];
        session.hold(false);
        while (const std::size_t n = session.take_held(room)) {
            expect(!session.peer_finished());
            delivered += n;
            session.held_delivered();
        }
    }
    void check() {
        expect(delivered + session.held() <= fed);
        expect(session.received() == delivered + (session.peer_finished() ? 1 : 0));
        expect(session.acknowledged() <= session.sent() + 1);
        expect(session.acknowledged() + session.unacknowledged() - (session.acknowledged() > session.sent() ? 1 : 0) == session.sent());
        expect(!session.ended() || (session.peer_finished() && session.finishing() && session.unacknowledged() == 0));
        expect(budget.used <= 4096 + 256 + 2 * fed);
    }

    static constexpr std::uint32_t window = 1000;
    const session::Options options;
    Budget budget;
    Session session;
    TimePoint now = TimePoint() + Duration::seconds(1000);
    std::vector<std::byte> written;  // and not looked at yet
    std::uint64_t position = 0;      // of the stream that is written
    std::size_t fed = 0, delivered = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    Run run((data[0] & 1) != 0, data[0] >> 3 & 31, (data[0] & 2) != 0);
    if ((data[0] & 4) != 0) run.write(SIZE_MAX);
    Bytes rest{reinterpret_cast<const std::byte*>(data) + 1, size - 1};
    while (!rest.empty() && !run.session.ended()) {
        const auto what = std::to_integer<unsigned>(rest[0]);
        rest = rest.subspan(1);
        const Bytes piece = rest.first(rest.size() < what % 32 ? rest.size() : what % 32);
        rest = rest.subspan(piece.size());
        switch (what / 32) {
            case 1:
                run.now = run.now + Duration::milliseconds(700);
                run.session.on_time(run.now);
                break;
            case 2:
                run.write(1 + what % 7);
                break;
            case 3:
                run.session.acknowledge_now();
                run.write(SIZE_MAX);
                break;
            case 4:
                run.session.probe(run.now);
                break;
            case 5:
                run.session.detach();
                break;
            case 6:
                run.session.hold(true);
                break;
            case 7:
                run.take();
                break;
            default:
                break;
        }
        if (!run.session.attached()) run.connect(what % 5);
        const bool good = run.read(piece);
        run.check();
        // A connection that was of no use leaves a session that goes on over the next.
        if (!good) run.connect(0);
    }
    run.write(SIZE_MAX);
    run.check();
    return 0;
}
