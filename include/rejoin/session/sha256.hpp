// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <rejoin/core/bytes.hpp>

namespace rejoin::inline v0_1 {

/// 32 bytes: a digest, a proof or a key.
struct Digest {
    std::byte bytes[32] = {};
    operator Bytes() const { return bytes; }
};

/// SHA-256 (FIPS 180-4 §6.2), incremental.
class Sha256 {
public:
    void update(Bytes bytes) {
        length_ += bytes.size();
        while (!bytes.empty()) {
            const std::size_t room = sizeof block_ - filled_;
            const Bytes part = bytes.first(bytes.size() < room ? bytes.size() : room);
            copy(block_ + filled_, part);
            filled_ += part.size();
            bytes = bytes.subspan(part.size());
            if (filled_ == sizeof block_) compress();
        }
    }

    /// The digest of everything so far; the object is spent.
    Digest finish() {
        const std::uint64_t bits = length_ * 8;
        block_[filled_++] = std::byte{0x80};
        if (filled_ > 56) {
            std::memset(block_ + filled_, 0, sizeof block_ - filled_);
            compress();
        }
        std::memset(block_ + filled_, 0, 56 - filled_);
        store_big(block_ + 56, bits);
        compress();
        Digest digest;
        for (std::size_t i = 0; i < 8; ++i) store_big(digest.bytes + 4 * i, state_[i]);
        return digest;
    }

private:
    void compress() {
        static constexpr std::uint32_t k[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
            0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
            0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
            0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
            0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
            0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
        std::uint32_t w[64];
        for (std::size_t i = 0; i < 16; ++i) w[i] = load_big<std::uint32_t>(block_ + 4 * i);
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
            const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        std::uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3], e = state_[4], f = state_[5], g = state_[6],
                      h = state_[7];
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
            const std::uint32_t t2 = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state_[0] += a, state_[1] += b, state_[2] += c, state_[3] += d, state_[4] += e, state_[5] += f, state_[6] += g, state_[7] += h;
        filled_ = 0;
    }

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint64_t length_ = 0;
    std::size_t filled_ = 0;
    std::byte block_[64];
};

/// HMAC-SHA-256 (RFC 2104) of the pieces in order.
[[gnu::cold]] inline Digest hmac_sha256(Bytes key, std::span<const Bytes> pieces) {
    std::byte pad[64] = {};
    if (key.size() > sizeof pad) {
        Sha256 hash;
        hash.update(key);
        copy(pad, hash.finish());
    } else {
        copy(pad, key);
    }
    for (std::byte& b : pad) b ^= std::byte{0x36};
    Sha256 inner;
    inner.update(pad);
    for (Bytes piece : pieces) inner.update(piece);
    for (std::byte& b : pad) b ^= std::byte{0x36 ^ 0x5c};
    Sha256 outer;
    outer.update(pad);
    outer.update(inner.finish());
    return outer.finish();
}

/// Whether two proofs are the same, in a time that does not depend on where they differ.
inline bool equal_in_constant_time(const Digest& a, const Digest& b) {
    unsigned char difference = 0;
    for (std::size_t i = 0; i < sizeof a.bytes; ++i)
        difference = static_cast<unsigned char>(difference | std::to_integer<unsigned char>(a.bytes[i] ^ b.bytes[i]));
    return *static_cast<volatile unsigned char*>(&difference) == 0;
}

}  // namespace rejoin::inline v0_1
