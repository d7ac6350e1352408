// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <rejoin.hpp>
#include <vector>

/// A stream that says of itself where it is: word i is made from i by a multiplication that can be undone. So the end that receives it
/// can tell lost bytes from repeated, reordered and altered ones.
namespace stream {

inline constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;  // odd: it has an inverse
inline constexpr std::uint64_t inverse = [] {
    std::uint64_t x = factor;
    for (int i = 0; i < 5; ++i) x *= 2 - factor * x;  // Newton's iteration doubles the bits that are right
    return x;
}();
static_assert(factor * inverse == 1);

/// How far one end is, and its running hash (FNV-1a, a word at a time) of all that went by.
struct Count {
    std::uint64_t words = 0;
    std::uint64_t hash = 0xcbf29ce484222325;

    void add(std::uint64_t word) {
        ++words;
        hash = (hash ^ word) * 0x100000001b3;
    }
    std::uint64_t bytes() const { return words * 8; }
    friend bool operator==(const Count&, const Count&) = default;
};

/// The sending end: sends for as long as the pipe takes it.
class Sender {
public:
    explicit Sender(std::uint64_t key) : key_(key) {}

    template <class Pipe>
    void pump(Pipe& pipe) {
        for (;;) {
            if (piece_.empty()) {
                piece_.resize(sizeof(std::uint64_t) * (1 + random_.below(2048)));
                ahead_ = count_;
                for (std::size_t at = 0; at < piece_.size(); at += 8) {
                    const std::uint64_t word = (ahead_.words ^ key_) * factor;
                    rejoin::store_big(piece_.data() + at, word);
                    ahead_.add(word);
                }
            }
            if (!pipe.send(piece_)) return;  // whole or not at all: the same piece goes next time
            count_ = ahead_;
            piece_.clear();
        }
    }
    const Count& count() const { return count_; }

private:
    std::uint64_t key_;
    rejoin::Random random_{key_};
    std::vector<std::byte> piece_;
    Count count_, ahead_;
};

/// The receiving end: checks every byte.
class Receiver {
public:
    explicit Receiver(std::uint64_t key) : key_(key) {}

    void take(rejoin::Bytes bytes) {
        for (; have_ > 0 && !bytes.empty(); bytes = bytes.subspan(1)) add(bytes[0]);
        for (; bytes.size() >= 8; bytes = bytes.subspan(8)) check(rejoin::load_big<std::uint64_t>(bytes.data()));
        for (; !bytes.empty(); bytes = bytes.subspan(1)) add(bytes[0]);
    }
    const Count& count() const { return count_; }

    std::uint64_t lost = 0, repeated = 0, reordered = 0, altered = 0;  // bytes

private:
    void add(std::byte byte) {
        split_[have_++] = byte;
        if (have_ < 8) return;
        have_ = 0;
        check(rejoin::load_big<std::uint64_t>(split_));
    }
    void check(std::uint64_t word) {
        count_.add(word);
        const std::uint64_t at = (word * inverse) ^ key_;
        if (at == next_) {
            ++next_;
        } else if (at > next_ && at - next_ < (1u << 30)) {
            lost += (at - next_) * 8;
            next_ = at + 1;
        } else if (at > next_) {
            altered += 8;
            ++next_;
        } else if (lost > 0) {  // it was missing and comes late
            lost -= 8;
            reordered += 8;
        } else {
            repeated += 8;
        }
    }

    std::uint64_t key_;
    std::uint64_t next_ = 0;
    Count count_;
    std::byte split_[8];
    unsigned have_ = 0;
};

}  // namespace stream
