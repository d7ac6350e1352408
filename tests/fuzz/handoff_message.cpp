// SPDX-License-Identifier: BSL-1.0
// Any bytes as lines of a handoff channel: what is read can be written and reads the same, and no state is taken that a session could not
// have.
#include <cstdlib>
#include <rejoin/handoff/message.hpp>

using namespace rejoin;
using namespace rejoin::handoff;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}
Bytes all(const Array<std::byte>& a) { return {a.data(), a.size()}; }
bool same(Bytes a, Bytes b) { return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0); }
TextView all(const Array<char>& a) { return {a.data(), a.size()}; }

void line(TextView text) {
    Luggage luggage;
    const auto message = read_message(text, luggage);
    if (!message) {
        expect(message.error() == Errc::malformed);
        return;
    }
    expect(luggage.unread.size() <= text.size() && luggage.session.replay.size() <= text.size() && luggage.note.size() <= text.size());
    if (luggage.resumable) {
        session::Options options;
        session::Session session;
        session.set_options(options);
        if (session.restore(luggage.session, TimePoint())) {
            session::State state;
            expect(static_cast<bool>(session.save(state)));
            expect(same(all(state.replay), all(luggage.session.replay)) && state.received == luggage.session.received);
            Bytes pieces[session::Session::pieces_max];
            for (int i = 0; i < 8; ++i) {
                std::size_t total = 0;
                const std::size_t n = session.gather(pieces);
                for (std::size_t k = 0; k < n; ++k) total += pieces[k].size();
                if (total == 0) break;
                session.wrote(total);
            }
            bool gone = false;
            static_cast<void>(session.receive(
                text.bytes(), TimePoint(), [](Bytes) { return true; }, gone));
        }
    }
    if (message->type != Message::Type::offer || !message->ours) return;
    Array<char> again;
    expect(write_offer(again, message->id, message->kind, false, luggage));
    Luggage second;
    const auto back = read_message({again.data(), again.size() - 1}, second);
    expect(back && back->type == message->type && back->id == message->id && back->kind == message->kind);
    expect(all(second.note) == all(luggage.note) && same(all(second.unread), all(luggage.unread)) && second.peer == luggage.peer);
    expect(second.resumable == luggage.resumable && same(all(second.session.held), all(luggage.session.held)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const char* text = reinterpret_cast<const char*>(data);
    std::size_t from = 0;
    for (std::size_t i = 0; i <= size; ++i)
        if (i == size || text[i] == '\n') {
            line({text + from, i - from});
            from = i + 1;
        }
    return 0;
}
