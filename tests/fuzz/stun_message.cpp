// SPDX-License-Identifier: BSL-1.0
// Any bytes as a STUN message, and as what comes to a transaction that waits for its answer. Input: a byte, odd with the key "secret" and
// even without one, then the datagram. With the key nothing passes but what was made with it, which the seeds have.
#include <cstdlib>
#include <rejoin/stun/client.hpp>

using namespace rejoin;
using namespace rejoin::stun;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}
bool inside(Bytes datagram, const void* part, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(part);
    return size == 0 || (from >= datagram.data() && from + size <= datagram.data() + datagram.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const Bytes datagram{reinterpret_cast<const std::byte*>(data) + 1, size - 1};
    const Bytes key = data[0] % 2 != 0 ? TextView("secret").bytes() : Bytes();
    TransactionId id;
    for (std::size_t i = 0; i < sizeof id.bytes; ++i) id.bytes[i] = static_cast<std::byte>(i + 1);
    const Endpoint server("192.0.2.1", default_port), mapped("192.0.2.33", 40000);

    const auto message = decode(datagram, key);
    if (message) {
        expect(datagram.size() >= header_size && datagram.size() % 4 == 0);
        expect(inside(datagram, message->software.data(), message->software.size()));
        expect(inside(datagram, message->reason.data(), message->reason.size()));
        expect(inside(datagram, message->unknown_attributes.data(), message->unknown_attributes.size()));
        expect(message->type != MessageType::success || message->mapped.valid());
        expect(message->type != MessageType::error || (message->error_code >= 300 && message->error_code < 700));
        expect(message->authenticated == !key.empty());
        if (message->authenticated) {
            expect(message->id == id);
            if (message->type == MessageType::success) expect(message->mapped == mapped);
        }
    } else {
        expect(message.error() == Errc::malformed || message.error() == Errc::unsupported ||
               (message.error() == Errc::proof_invalid && !key.empty()));
    }

    Transaction transaction;
    transaction.start(id, server, TimePoint());
    expect(transaction.advance(TimePoint()));
    expect(!transaction.receive(Endpoint("192.0.2.2", default_port), datagram, key));
    if (transaction.receive(server, datagram, key)) {
        expect(message ? message->id == id : message.error() == Errc::unsupported);
        expect((transaction.state() == Transaction::State::answered) == (message && message->type == MessageType::success));
        expect(transaction.mapped().valid() == (transaction.state() == Transaction::State::answered));
        expect(!transaction.receive(server, datagram, key));
    } else {
        expect(transaction.state() == Transaction::State::running);
    }
    return 0;
}
