// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <rejoin/core/array.hpp>
#include <rejoin/core/bytes.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// A queue of bytes in one block that doubles as it must. Holds no memory until the first byte comes, and none after `release`.
class Ring {
public:
    Ring() = default;
    Ring(Ring&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)),
          head_(std::exchange(other.head_, 0)),
          size_(std::exchange(other.size_, 0)) {}
    Ring& operator=(Ring&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
        std::swap(head_, other.head_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Ring() { std::free(data_); }

    std::size_t size() const { return size_; }
    std::size_t capacity() const { return capacity_; }
    bool empty() const { return size_ == 0; }
    /// How large the block is when it has to hold `size` bytes; 0 for more than there can be.
    std::size_t capacity_for(std::size_t size) const {
        std::size_t capacity = capacity_ == 0 ? 256 : capacity_;
        for (; capacity < size; capacity *= 2)
            if (capacity > SIZE_MAX / 4) return 0;
        return capacity;
    }

    /// Room for `n` bytes more; false, and unchanged, when memory is out.
    bool reserve(std::size_t n) { return n <= capacity_ - size_ || grow(size_ + n); }
    /// Copies `bytes` to the end; false, and unchanged, when memory is out.
    bool append(Bytes bytes) {
        if (head_ + size_ + bytes.size() > capacity_) return append_in_two(bytes);
        copy(data_ + head_ + size_, bytes);
        size_ += bytes.size();
        return true;
    }

    /// Removes the first `n` bytes, of which there are at least as many.
    void drop(std::size_t n) {
        size_ -= n;
        head_ = size_ == 0 ? 0 : (head_ + n) & (capacity_ - 1);  // an empty ring starts over, so that small use stays in one piece
    }

    /// The bytes from `at` on, as far as they lie in one piece: at most `limit`. Call again with `at` moved on for the rest.
    Bytes peek(std::size_t at, std::size_t limit) const {
        if (at >= size_) return {};
        const std::size_t from = (head_ + at) & (capacity_ - 1);
        std::size_t n = size_ - at;
        if (n > capacity_ - from) n = capacity_ - from;
        return {data_ + from, n < limit ? n : limit};
    }

    /// Adds a copy of it all to `to`; false when memory is out.
    bool copy_to(Array<std::byte>& to) const {
        const Bytes first = peek(0, size_), rest = peek(first.size(), size_);
        return to.append(first.data(), first.size()) && to.append(rest.data(), rest.size());
    }

    /// Gives the memory back, with whatever was in it.
    void release() {
        std::free(std::exchange(data_, nullptr));
        capacity_ = head_ = size_ = 0;
    }

private:
    bool append_in_two(Bytes bytes) {
        if (!reserve(bytes.size())) return false;
        const std::size_t tail = (head_ + size_) & (capacity_ - 1);
        const std::size_t first = bytes.size() < capacity_ - tail ? bytes.size() : capacity_ - tail;
        copy(data_ + tail, bytes.first(first));
        copy(data_, bytes.subspan(first));
        size_ += bytes.size();
        return true;
    }
    bool grow(std::size_t need) {
        const std::size_t capacity = capacity_for(need);
        auto* grown = capacity == 0 ? nullptr : static_cast<std::byte*>(std::malloc(capacity));
        if (grown == nullptr) return false;
        const Bytes first = peek(0, size_);
        copy(grown, first);
        copy(grown + first.size(), peek(first.size(), size_));
        std::free(data_);
        data_ = grown;
        capacity_ = capacity;
        head_ = 0;
        return true;
    }

    std::byte* data_ = nullptr;
    std::size_t capacity_ = 0;  // a power of two, or 0
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

}  // namespace rejoin::inline v0_1
