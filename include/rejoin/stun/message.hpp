// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>
#include <rejoin/session/sha256.hpp>

// STUN messages (RFC 8489): the Binding method, to bytes and from bytes. Pure; nothing is allocated, and what is decoded looks into the
// datagram that it came in.
namespace rejoin::inline v0_1::stun {

/// The port that STUN has over UDP (RFC 8489 §18.6).
inline constexpr std::uint16_t default_port = 3478;

inline constexpr std::size_t header_size = 20;
inline constexpr std::uint32_t magic_cookie = 0x2112a442;        // RFC 8489 §5
inline constexpr std::uint32_t fingerprint_xor = 0x5354554e;     // §14.7
inline constexpr std::size_t attribute_header_size = 4;          // §14
inline constexpr std::uint16_t comprehension_optional = 0x8000;  // an attribute of this number or more may be left alone

/// Attribute types (RFC 8489 §18.3).
enum class Attribute : std::uint16_t {
    mapped_address = 0x0001,
    source_address = 0x0004,  // this and the next two are of RFC 3489: some servers still add them, unasked
    changed_address = 0x0005,
    username = 0x0006,
    message_integrity = 0x0008,
    error_code = 0x0009,
    unknown_attributes = 0x000a,
    reflected_from = 0x000b,
    realm = 0x0014,
    nonce = 0x0015,
    message_integrity_sha256 = 0x001c,
    password_algorithm = 0x001d,
    userhash = 0x001e,
    xor_mapped_address = 0x0020,
    software = 0x8022,
    alternate_server = 0x8023,
    fingerprint = 0x8028,
};

/// What a message is: method and class of RFC 8489 §5, for the one method there is here.
enum class MessageType : std::uint16_t { request = 0x0001, indication = 0x0011, success = 0x0101, error = 0x0111 };

/// Names one transaction. Chosen at random for each, from entropy: whoever cannot see the request cannot guess it (RFC 8489 §5).
struct TransactionId {
    std::byte bytes[12] = {};
    friend bool operator==(const TransactionId&, const TransactionId&) = default;
};

/// A decoded message. Its views hold as long as the datagram.
struct Message {
    MessageType type = MessageType::request;
    TransactionId id;
    Endpoint mapped;  ///< where the sender of the request seemed to be: XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS; every success has it
    Endpoint alternate_server;     ///< ALTERNATE-SERVER; not `valid` when there is none
    std::uint16_t error_code = 0;  ///< 300 to 699, in an error
    TextView reason;               ///< ERROR-CODE's phrase, as the peer wrote it
    TextView software;             ///< SOFTWARE, as the peer wrote it
    Bytes unknown_attributes;      ///< UNKNOWN-ATTRIBUTES: two bytes each, in network order
    bool authenticated = false;    ///< MESSAGE-INTEGRITY-SHA256 was there, and made with the key
    bool fingerprint = false;      ///< FINGERPRINT was there, and right
};

namespace detail {

// CRC-32 of ITU V.42, bit by bit: messages are short and rare, and a table would cost every program 1 KiB.
inline std::uint32_t crc32(Bytes bytes) {
    std::uint32_t crc = ~std::uint32_t{0};
    for (std::byte b : bytes) {
        crc ^= std::to_integer<std::uint32_t>(b);
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

// RFC 8489 §14.6: over what stands before the attribute, with a length in the header that ends behind it.
inline Digest integrity(Bytes before, Bytes key) {
    std::byte length[2];
    store_big(length, static_cast<std::uint16_t>(before.size() - header_size + attribute_header_size + sizeof(Digest)));
    const Bytes pieces[] = {before.first(2), length, before.subspan(4)};
    return hmac_sha256(key, pieces);
}
inline std::uint32_t fingerprint(Bytes before) { return crc32(before) ^ fingerprint_xor; }

// §14.1 and §14.2. False when it is no address, or one that nobody can have.
inline bool read_address(Bytes value, Bytes mask, Endpoint& to) {
    if (value.size() < 4) return false;
    IpAddress ip;
    ip.family = value[1] == std::byte{1} ? Family::v4 : value[1] == std::byte{2} ? Family::v6 : Family::none;
    if (ip.family == Family::none || value.size() != 4 + ip.size()) return false;
    auto port = load_big<std::uint16_t>(&value[2]);
    for (std::size_t i = 0; i < ip.size(); ++i) ip.bytes[i] = std::to_integer<std::uint8_t>(value[4 + i]);
    if (!mask.empty()) {
        port = static_cast<std::uint16_t>(port ^ load_big<std::uint16_t>(&mask[0]));
        for (std::size_t i = 0; i < ip.size(); ++i) ip.bytes[i] ^= std::to_integer<std::uint8_t>(mask[i]);
    }
    if (ip.is_unspecified() || port == 0) return false;
    to = Endpoint(ip, port);
    return true;
}

inline TextView text(Bytes value) { return {reinterpret_cast<const char*>(value.data()), value.size()}; }

}  // namespace detail

/// One datagram as a message. With a `key`, MESSAGE-INTEGRITY-SHA256 is demanded and checked; without one it is passed over, and so is
/// the older MESSAGE-INTEGRITY (SHA-1) always. FINGERPRINT is checked where it is there. Of an attribute that stands there twice the
/// first counts (RFC 8489 §14), and what stands behind an integrity attribute counts for nothing, FINGERPRINT apart (§14.5, §14.6).
///
/// `malformed`: no STUN message, another method than Binding, a length that does not fit, an address or error code that cannot be, a
/// FINGERPRINT that is wrong or not the last, a success without an address, or an error without a code. `proof_invalid`: a key was
/// given, and the message was not made with it. `unsupported`: it has an attribute that has to be understood (§14) and is not.
inline Result<Message> decode(Bytes datagram, Bytes key = {}) {
    if (datagram.size() < header_size || datagram.size() % 4 != 0) return Errc::malformed;
    Message message;
    message.type = static_cast<MessageType>(load_big<std::uint16_t>(&datagram[0]));
    if (message.type != MessageType::request && message.type != MessageType::indication && message.type != MessageType::success &&
        message.type != MessageType::error)
        return Errc::malformed;
    if (load_big<std::uint16_t>(&datagram[2]) != datagram.size() - header_size) return Errc::malformed;
    if (load_big<std::uint32_t>(&datagram[4]) != magic_cookie) return Errc::malformed;
    copy(message.id.bytes, datagram.subspan(8, sizeof message.id.bytes));

    const Bytes mask = datagram.subspan(4, 16);  // the cookie and the transaction id
    Endpoint plain_mapped;
    bool unsupported = false, behind = false, behind_sha1 = false;
    for (Bytes rest = datagram.subspan(header_size); !rest.empty();) {
        const Bytes before = datagram.first(datagram.size() - rest.size());
        const auto type = static_cast<Attribute>(load_big<std::uint16_t>(&rest[0]));
        const std::size_t size = load_big<std::uint16_t>(&rest[2]), padded = (size + 3) / 4 * 4;
        if (padded > rest.size() - attribute_header_size) return Errc::malformed;
        const Bytes value = rest.subspan(attribute_header_size, size);
        rest = rest.subspan(attribute_header_size + padded);

        if (type == Attribute::fingerprint) {
            if (size != 4 || !rest.empty() || load_big<std::uint32_t>(&value[0]) != detail::fingerprint(before)) return Errc::malformed;
            message.fingerprint = true;
            continue;
        }
        if (behind || (behind_sha1 && type != Attribute::message_integrity_sha256)) continue;
        bool right = true;
        switch (type) {
            case Attribute::xor_mapped_address:
                if (!message.mapped.valid()) right = detail::read_address(value, mask, message.mapped);
                break;
            case Attribute::mapped_address:
                if (!plain_mapped.valid()) right = detail::read_address(value, {}, plain_mapped);
                break;
            case Attribute::alternate_server:
                if (!message.alternate_server.valid()) right = detail::read_address(value, {}, message.alternate_server);
                break;
            case Attribute::error_code:
                if (message.error_code != 0) break;
                right = size >= 4 && value[3] < std::byte{100};
                if (!right) break;
                message.error_code = static_cast<std::uint16_t>(std::to_integer<unsigned>(value[2] & std::byte{7}) * 100 +
                                                                std::to_integer<unsigned>(value[3]));
                message.reason = detail::text(value.subspan(4));
                right = message.error_code >= 300 && message.error_code < 700;
                break;
            case Attribute::unknown_attributes:
                if (message.unknown_attributes.data() == nullptr) message.unknown_attributes = value;
                right = message.unknown_attributes.size() % 2 == 0;
                break;
            case Attribute::software:
                if (message.software.data() == nullptr) message.software = detail::text(value);
                break;
            case Attribute::message_integrity:
                behind_sha1 = true;
                break;
            case Attribute::message_integrity_sha256: {
                behind = true;
                Digest proof;  // whole: truncation is for usages that say so (§14.6), and this one does not
                right = size == sizeof proof.bytes;
                if (!right || key.empty()) break;
                copy(proof.bytes, value);
                message.authenticated = equal_in_constant_time(proof, detail::integrity(before, key));
                break;
            }
            case Attribute::source_address:
            case Attribute::changed_address:
            case Attribute::reflected_from:
            case Attribute::username:
            case Attribute::realm:
            case Attribute::nonce:
            case Attribute::password_algorithm:
            case Attribute::userhash:
                break;
            default:
                unsupported = unsupported || static_cast<std::uint16_t>(type) < comprehension_optional;
        }
        if (!right) return Errc::malformed;
    }
    if (!key.empty() && !message.authenticated) return Errc::proof_invalid;
    if (unsupported) return Errc::unsupported;
    if (!message.mapped.valid()) message.mapped = plain_mapped;
    if (message.type == MessageType::success && !message.mapped.valid()) return Errc::malformed;
    if (message.type == MessageType::error && message.error_code == 0) return Errc::malformed;
    return message;
}

/// What a Binding request says beside its transaction id.
struct RequestOptions {
    TextView software = {};   ///< SOFTWARE: who asks; none when empty
    TextView username = {};   ///< USERNAME, which a server wants to see with a key (RFC 8489 §9.1.2); none when empty
    Bytes key = {};           ///< makes MESSAGE-INTEGRITY-SHA256; none when empty
    bool fingerprint = true;  ///< FINGERPRINT, which tells STUN from what else may come to the port (§7)
};

/// An encoded request, in the object itself. 512 bytes go through any network unfragmented (RFC 8489 §6.1 would allow 548).
class Request {
public:
    operator Bytes() const { return {bytes_, size_}; }

private:
    friend Result<Request> encode_request(const TransactionId&, const RequestOptions&);
    // Adds an attribute of that many bytes with its padding, and returns where they go; null when it does not fit.
    std::byte* add(Attribute type, std::size_t size) {
        const std::size_t padded = (size + 3) / 4 * 4;
        if (size > sizeof bytes_ || attribute_header_size + padded > sizeof bytes_ - size_) return nullptr;
        std::byte* at = bytes_ + size_;
        store_big(at, static_cast<std::uint16_t>(type));
        store_big(at + 2, static_cast<std::uint16_t>(size));
        size_ += attribute_header_size + padded;
        store_big(bytes_ + 2, static_cast<std::uint16_t>(size_ - header_size));
        return at + attribute_header_size;
    }
    std::size_t size_ = header_size;
    std::byte bytes_[512] = {};
};

/// A Binding request (RFC 8489 §6.1). `too_large`: it would not fit into 512 bytes.
inline Result<Request> encode_request(const TransactionId& id, const RequestOptions& options = {}) {
    Request request;
    store_big(request.bytes_, static_cast<std::uint16_t>(MessageType::request));
    store_big(request.bytes_ + 4, magic_cookie);
    copy(request.bytes_ + 8, id.bytes);
    for (const auto& [type, text] : {std::pair(Attribute::software, options.software), std::pair(Attribute::username, options.username)}) {
        if (text.size() == 0) continue;
        std::byte* to = request.add(type, text.size());
        if (to == nullptr) return Errc::too_large;
        copy(to, text.bytes());
    }
    if (!options.key.empty()) {
        const Digest proof = detail::integrity(request, options.key);
        std::byte* to = request.add(Attribute::message_integrity_sha256, sizeof proof.bytes);
        if (to == nullptr) return Errc::too_large;
        copy(to, proof);
    }
    if (options.fingerprint) {
        const Bytes before = request;
        std::byte* to = request.add(Attribute::fingerprint, 4);  // which is counted by the length that it covers
        if (to == nullptr) return Errc::too_large;
        store_big(to, detail::fingerprint(before));
    }
    return request;
}

}  // namespace rejoin::inline v0_1::stun
