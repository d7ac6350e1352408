// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

namespace rejoin::inline v0_1::session {

/// Every frame is one byte of type, three of payload length, and the payload; all numbers are big-endian. README.md of this folder
/// specifies them.
enum class FrameType : std::uint8_t {
    hello = 0x01,    ///< client: a new session
    welcome = 0x02,  ///< server: its identity and key
    resume = 0x03,   ///< client: go on with a session
    resumed = 0x04,  ///< server: from here, and proof
    confirm = 0x05,  ///< client: proof
    refused = 0x06,  ///< server: no, and why
    data = 0x10,     ///< the next bytes of the stream
    ack = 0x11,      ///< everything before this offset has reached the application
    ping = 0x12,     ///< answer with the same eight bytes
    pong = 0x13,
    fin = 0x14,      ///< the stream ends here; counts as one offset
    goodbye = 0x15,  ///< server: both streams have ended and arrived
    abort = 0x16,    ///< the session is over, delivered or not
};

inline constexpr std::size_t frame_header_size = 4;
inline constexpr std::size_t frame_length_max = 0xffffff;
/// The longest payload of a frame that is not `data`, once the handshake is over.
inline constexpr std::size_t control_length_max = 8;

struct FrameHeader {
    FrameType type;
    std::uint32_t length;
};

/// Reads a header of `frame_header_size` bytes.
inline FrameHeader read_frame_header(const std::byte* from) {
    const auto word = load_big<std::uint32_t>(from);
    return {static_cast<FrameType>(word >> 24), word & 0xffffff};
}

inline void write_frame_header(std::byte* to, FrameType type, std::size_t length) {
    store_big(to, static_cast<std::uint32_t>(type) << 24 | static_cast<std::uint32_t>(length));
}

/// Whether a frame of an established session may have this length: the one table of lengths.
inline bool frame_length_allowed(FrameHeader header) {
    switch (header.type) {
        case FrameType::data:
            return header.length > 0;
        case FrameType::ack:
        case FrameType::ping:
        case FrameType::pong:
            return header.length == 8;
        case FrameType::fin:
        case FrameType::goodbye:
            return header.length == 0;
        case FrameType::abort:
            return header.length == 1;
        default:
            return false;
    }
}

}  // namespace rejoin::inline v0_1::session
