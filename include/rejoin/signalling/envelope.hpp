// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/error.hpp>
#include <rejoin/session/sha256.hpp>

// What goes from peer to peer through a broker, big-endian:
//
//     0  version (1)           4  stream        24  number        48  length of the sender's name
//     1  kind                 12  time, ms      28  ..            49  the sender's name
//     2  flags                20  valid, ms     32  base              the payload
//     3  via                                    40  after             the seal: 32 bytes, where it is sealed
namespace rejoin::inline v0_1::signalling {

/// A copy of a message, or of an acknowledgement.
struct Envelope {
    enum class Kind : std::uint8_t { message = 1, acknowledgement = 2 };

    Kind kind = Kind::message;
    bool ordered = false;  ///< not before message `after`
    bool again = false;    ///< it has been sent before, and was not acknowledged
    bool sealed = false;
    std::uint8_t via = 0;      ///< the sender's number of the broker that this copy goes by
    std::uint64_t stream = 0;  ///< of the messages from this sender to this receiver; in an acknowledgement: that it is about
    std::int64_t time = 0;     ///< when this copy was sent, in milliseconds since 1970, by the sender's clock
    std::uint32_t valid = 0;   ///< for how many milliseconds
    std::uint64_t number = 0;  ///< of the message, from 1; in an acknowledgement: this one and all before are done
    std::uint64_t base = 0;    ///< all before this one are done, as the sender sees it; in an acknowledgement: greater in each that follows
    std::uint64_t after = 0;   ///< the ordered message before; in an acknowledgement: the newest that came
    TextView from;
    Bytes payload;

    static constexpr std::size_t header_size = 49, seal_size = sizeof(Digest), name_max = 128;
    std::size_t size() const { return header_size + from.size() + payload.size() + (sealed ? seal_size : 0); }
};

/// Bytes that are under the seal without being in the envelope.
[[gnu::cold]] inline Digest seal_of(Bytes envelope, TextView to, const Digest& key) {
    const std::byte size[] = {static_cast<std::byte>(to.size())};
    const Bytes pieces[] = {TextView("rejoin signalling 1").bytes(), size, to.bytes(), envelope};
    return hmac_sha256(key, pieces);
}

/// Writes `size()` bytes, sealed for `to` with `key` where it is to be.
inline void write(std::byte* to, const Envelope& e, TextView receiver, const Digest& key) {
    to[0] = std::byte{1};
    to[1] = static_cast<std::byte>(e.kind);
    to[2] = static_cast<std::byte>((e.ordered ? 1 : 0) | (e.again ? 2 : 0) | (e.sealed ? 4 : 0));
    to[3] = static_cast<std::byte>(e.via);
    store_big(to + 4, e.stream);
    store_big(to + 12, static_cast<std::uint64_t>(e.time));
    store_big(to + 20, e.valid);
    store_big(to + 24, e.number);
    store_big(to + 32, e.base);
    store_big(to + 40, e.after);
    to[48] = static_cast<std::byte>(e.from.size());
    copy(to + Envelope::header_size, e.from.bytes());
    std::byte* const payload = to + Envelope::header_size + e.from.size();
    copy(payload, e.payload);
    std::byte* const end = payload + e.payload.size();
    if (e.sealed) copy(end, seal_of({to, end}, receiver, key));
}

/// Reads an envelope, whose views are into `bytes`. The seal is not looked at. `malformed`; `version_mismatch`.
inline Result<Envelope> read_envelope(Bytes bytes) {
    if (bytes.size() < Envelope::header_size) return Errc::malformed;
    if (bytes[0] != std::byte{1}) return Errc::version_mismatch;
    const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
    const std::byte* const from = bytes.data();
    Envelope e;
    e.kind = static_cast<Envelope::Kind>(at(1));
    e.ordered = (at(2) & 1) != 0;
    e.again = (at(2) & 2) != 0;
    e.sealed = (at(2) & 4) != 0;
    e.via = static_cast<std::uint8_t>(at(3));
    e.stream = load_big<std::uint64_t>(from + 4);
    e.time = static_cast<std::int64_t>(load_big<std::uint64_t>(from + 12));
    e.valid = load_big<std::uint32_t>(from + 20);
    e.number = load_big<std::uint64_t>(from + 24);
    e.base = load_big<std::uint64_t>(from + 32);
    e.after = load_big<std::uint64_t>(from + 40);
    const std::size_t name = at(48), fixed = Envelope::header_size + name + (e.sealed ? Envelope::seal_size : 0);
    const bool known = e.kind == Envelope::Kind::message || e.kind == Envelope::Kind::acknowledgement;
    if (!known || at(2) > 7 || name == 0 || name > Envelope::name_max || bytes.size() < fixed || e.time < 0) return Errc::malformed;
    if (e.kind == Envelope::Kind::message && (e.number == 0 || e.base == 0 || e.base > e.number || e.after >= e.number))
        return Errc::malformed;
    e.from = {reinterpret_cast<const char*>(from + Envelope::header_size), name};
    e.payload = bytes.subspan(Envelope::header_size + name, bytes.size() - fixed);
    return e;
}

/// Whether a sealed envelope was sealed with `key` for `to`.
inline bool genuine(Bytes bytes, TextView to, const Digest& key) {
    const std::size_t size = bytes.size() - Envelope::seal_size;
    Digest said;
    copy(said.bytes, bytes.subspan(size));
    return equal_in_constant_time(said, seal_of(bytes.first(size), to, key));
}

/// What an acknowledgement has as its payload: `via`, by which the newest message came first; how many copies have come by each of the
/// sender's brokers; and which messages behind the one up to which all are done are done too, a bit each.
struct Receipt {
    static constexpr std::size_t brokers_max = 32;
    std::uint8_t via = 0;
    std::uint8_t brokers = 0;  ///< of `copies`, the others being 0
    std::uint32_t copies[brokers_max] = {};
    Bytes done;

    std::size_t size() const { return 2 + 4 * std::size_t{brokers} + done.size(); }
    void write(std::byte* to) const {
        *to++ = static_cast<std::byte>(via);
        *to++ = static_cast<std::byte>(brokers);
        for (std::size_t i = 0; i < brokers; ++i, to += 4) store_big(to, copies[i]);
        copy(to, done);
    }
    static bool read(Bytes bytes, Receipt& receipt) {
        if (bytes.size() < 2) return false;
        receipt.via = std::to_integer<std::uint8_t>(bytes[0]);
        receipt.brokers = std::to_integer<std::uint8_t>(bytes[1]);
        const std::size_t fixed = 2 + 4 * std::size_t{receipt.brokers};
        if (receipt.via >= brokers_max || receipt.brokers > brokers_max || bytes.size() < fixed) return false;
        for (std::size_t i = 0; i < receipt.brokers; ++i) receipt.copies[i] = load_big<std::uint32_t>(bytes.data() + 2 + 4 * i);
        receipt.done = bytes.subspan(fixed);
        return true;
    }
};

}  // namespace rejoin::inline v0_1::signalling
