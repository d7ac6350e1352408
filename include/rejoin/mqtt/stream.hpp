// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

// Streams of bytes over messages: what goes from one name to another, big-endian.
//
//     0  type                    2  id of the stream      18  length of the sender's name
//     1  1: from who opened it  10  position              19  the sender's name, the payload
namespace rejoin::inline v0_1::mqtt {

/// One message of a stream. Messages of one stream arrive in the order in which they were sent, each once, or the stream is over.
struct StreamMessage {
    enum class Type : std::uint8_t {
        open = 1,  ///< wants a stream
        opened,    ///< has it
        data,      ///< `payload`, which begins at `position`
        taken,     ///< everything up to `position` was taken: there is room for `window` bytes behind it
        end,       ///< no more follows `position`
        reset,     ///< the stream is over, or is not known
    };
    Type type = Type::reset;
    bool from_opener = false;
    std::uint64_t id = 0;
    std::uint64_t position = 0;
    TextView from;
    Bytes payload;

    static constexpr std::size_t header_size = 19, name_max = 128;
    /// Bytes that may be on their way, or wait at the receiver, each way.
    static constexpr std::uint64_t window = 256 * 1024;

    std::size_t size() const { return header_size + from.size() + payload.size(); }
    void write(std::byte* to) const {
        to[0] = static_cast<std::byte>(type);
        to[1] = static_cast<std::byte>(from_opener ? 1 : 0);
        store_big(to + 2, id);
        store_big(to + 10, position);
        to[18] = static_cast<std::byte>(from.size());
        copy(to + header_size, from.bytes());
        copy(to + header_size + from.size(), payload);
    }
    /// `malformed` for what is no such message.
    static Result<StreamMessage> read(Bytes bytes) {
        if (bytes.size() < header_size || bytes[1] > std::byte{1}) return Errc::malformed;
        const auto type = std::to_integer<unsigned>(bytes[0]);
        if (type < static_cast<unsigned>(Type::open) || type > static_cast<unsigned>(Type::reset)) return Errc::malformed;
        StreamMessage message;
        message.type = static_cast<Type>(type);
        message.from_opener = bytes[1] == std::byte{1};
        message.id = load_big<std::uint64_t>(bytes.data() + 2);
        message.position = load_big<std::uint64_t>(bytes.data() + 10);
        const auto name = std::to_integer<std::size_t>(bytes[18]);
        if (name == 0 || name > name_max || bytes.size() - header_size < name) return Errc::malformed;
        message.from = {reinterpret_cast<const char*>(bytes.data()) + header_size, name};
        message.payload = bytes.subspan(header_size + name);
        if (message.payload.empty() == (message.type == Type::data) || (message.type == Type::open && !message.from_opener))
            return Errc::malformed;
        return message;
    }
};

}  // namespace rejoin::inline v0_1::mqtt
