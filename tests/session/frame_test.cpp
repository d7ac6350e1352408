// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/frame.hpp>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin::session;

TEST_CASE("a frame's header is a type and 24 bits of length, big-endian") {
    std::byte header[frame_header_size];
    write_frame_header(header, FrameType::data, 0x012345);
    REQUIRE(test::to_hex(header) == "10012345");
    for (unsigned type = 0; type < 256; ++type)
        for (std::size_t length : {0u, 1u, 0x80u, 0xffffu, 0x10000u, 0xffffffu}) {
            write_frame_header(header, static_cast<FrameType>(type), length);
            const FrameHeader read = read_frame_header(header);
            REQUIRE(static_cast<unsigned>(read.type) == type);
            REQUIRE(read.length == length);
        }
}

TEST_CASE("every type of frame has its lengths, and no other") {
    for (unsigned type = 0; type < 256; ++type) {
        // The whole of 24 bits for what an established session knows, the edges for the rest.
        const bool known = type >= 0x10 && type <= 0x16;
        std::size_t allowed = 0;
        for (std::uint32_t length = 0; length <= frame_length_max; length += known || length < 300 ? 1 : 4093)
            if (frame_length_allowed({static_cast<FrameType>(type), length})) ++allowed;
        const auto only = [&](std::uint32_t length) {
            return allowed == 1 && frame_length_allowed({static_cast<FrameType>(type), length});
        };
        switch (type) {
            case 0x10:
                REQUIRE(allowed == frame_length_max);
                REQUIRE_FALSE(frame_length_allowed({FrameType::data, 0}));
                break;
            case 0x11:
            case 0x12:
            case 0x13:
                REQUIRE(only(8));
                break;
            case 0x14:
            case 0x15:
                REQUIRE(only(0));
                break;
            case 0x16:
                REQUIRE(only(1));
                break;
            default:
                REQUIRE(allowed == 0);
        }
        if (known && type != 0x10) REQUIRE_FALSE(frame_length_allowed({static_cast<FrameType>(type), control_length_max + 1}));
    }
}
