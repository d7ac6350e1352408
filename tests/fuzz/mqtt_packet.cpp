// SPDX-License-Identifier: BSL-1.0
// Any bytes as what an MQTT server sends, in either version: however they are split, the same packets come out of them, and what is read
// can be written and reads the same.
#include <cstdlib>
#include <rejoin/mqtt/decode.hpp>
#include <rejoin/mqtt/encode.hpp>

using namespace rejoin;
using namespace rejoin::mqtt;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}
bool same(Bytes a, Bytes b) { return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0); }

// What has been read, in a number.
struct Seen {
    std::uint64_t mixed = 0;
    std::uint32_t packets = 0;
    void mix(std::uint64_t value) { mixed = (mixed ^ value) * 0x9e3779b97f4a7c15 + 1; }
    void mix(Bytes bytes) {
        mix(bytes.size());
        for (std::byte b : bytes) mix(std::to_integer<std::uint64_t>(b));
    }
    void see(const Packet& p) {
        ++packets;
        mix(static_cast<std::uint64_t>(p.type));
        mix(static_cast<std::uint64_t>(p.qos) | std::uint64_t{p.dup} << 8 | std::uint64_t{p.retain} << 9 |
            std::uint64_t{p.session_present} << 10);
        mix(static_cast<std::uint64_t>(p.reason) | std::uint64_t{p.id} << 8);
        mix(p.topic.bytes());
        mix(p.payload);
        mix(p.codes);
        p.properties.each([&](Property id, const PropertyValue& value) {
            mix(static_cast<std::uint64_t>(id));
            mix(value.number);
            mix(value.bytes);
            mix(value.second);
            return true;
        });
    }
};

void write_again(Version version, const Packet& p) {
    if (p.type != PacketType::publish) return;
    Publish publish;
    publish.topic = p.topic;
    publish.payload = p.payload;
    publish.qos = p.qos;
    publish.dup = p.dup;
    publish.retain = p.retain;
    publish.id = p.id;
    publish.properties = p.properties.bytes();
    Array<std::byte> room;
    std::byte* const to = room.extend(size_of(version, publish));
    expect(write(to, version, publish) == to + room.size());
    Decoder decoder(version, 1 << 20);
    const std::byte connack[] = {std::byte{0x20}, version == Version::v5 ? std::byte{3} : std::byte{2}, {}, {}, {}};
    Bytes from(connack, version == Version::v5 ? 5 : 4);
    Packet back;
    expect(*decoder.next(from, back));
    from = Bytes(room.data(), room.size());
    const auto again = decoder.next(from, back);
    expect(again && *again && from.empty());
    expect(same(back.payload, p.payload) && back.topic == p.topic && back.id == p.id &&
           same(back.properties.bytes(), p.properties.bytes()));
}

Violation read(Version version, Bytes all, std::size_t step, Seen& seen) {
    Decoder decoder(version, 4096);
    for (std::size_t at = 0; at < all.size(); at += step) {
        Bytes piece = all.subspan(at, all.size() - at < step ? all.size() - at : step);
        Packet packet;
        for (;;) {
            const auto result = decoder.next(piece, packet);
            if (!result) return decoder.violation();
            if (!*result) break;
            seen.see(packet);
            write_again(version, packet);
        }
        expect(piece.empty());
    }
    static_cast<void>(decoder.end());
    return decoder.violation();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const Version version = (data[0] & 1) != 0 ? Version::v5 : Version::v3_1_1;
    const Bytes all(reinterpret_cast<const std::byte*>(data + 1), size - 1);
    Seen whole, pieces;
    const Violation of_whole = read(version, all, all.size(), whole);
    const Violation of_pieces = read(version, all, 1 + (data[0] >> 1) % 8, pieces);
    expect(of_whole == of_pieces && whole.mixed == pieces.mixed && whole.packets == pieces.packets);
    return 0;
}
