// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/array.hpp>
#include <rejoin/mqtt/encode.hpp>

namespace rejoin::inline v0_1::mqtt {

/// What is to be written on one connection after another, gathered into one piece for each write.
class Output {
public:
    /// Once so much waits, nothing more is gathered.
    static constexpr std::size_t limit = 64 * 1024;

    explicit Output(Version version) : version_(version) {}

    /// Adds a packet; false when memory is out. Once the last word was said, nothing is added.
    template <class P>
    bool say(const P& packet) {
        if (finished_) return true;
        std::byte* const to = bytes_.extend(size_of(version_, packet));
        if (to != nullptr) write(to, version_, packet);
        return to != nullptr;
    }
    /// The same for one that is written already.
    bool add(Bytes packet) { return finished_ || bytes_.append(packet.data(), packet.size()); }
    /// Nothing comes behind what was said so far (MQTT-3.14.4-2).
    void finish() { finished_ = true; }
    bool finished() const { return finished_; }

    /// What waits; until anything is said.
    Bytes pending() {
        if (from_ == bytes_.size() || from_ >= limit) {
            const std::size_t left = bytes_.size() - from_;
            if (left > 0) std::memmove(bytes_.data(), bytes_.data() + from_, left);
            bytes_.truncate(left);
            from_ = 0;
        }
        return {bytes_.data() + from_, size()};
    }
    void wrote(std::size_t n) {
        from_ += n;
        written_ += n;
    }
    std::size_t size() const { return bytes_.size() - from_; }
    bool has_room() const { return size() < limit; }
    /// Over all connections: bytes that were written, and where what was said so far will end.
    std::uint64_t written() const { return written_; }
    std::uint64_t end() const { return written_ + size(); }

    /// For another connection: what was not written is dropped. `first` is said.
    bool restart(Bytes first) {
        bytes_.clear();
        from_ = 0;
        finished_ = false;
        return add(first);
    }

private:
    const Version version_;
    bool finished_ = false;
    Array<std::byte> bytes_;
    std::size_t from_ = 0;
    std::uint64_t written_ = 0;
};

}  // namespace rejoin::inline v0_1::mqtt
