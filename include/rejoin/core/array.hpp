// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <rejoin/core/error.hpp>
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

/// A growing array that never throws: where memory runs out, `push` says so and nothing has changed. Move-only; `copy_from` copies.
template <class T>
class Array {
public:
    Array() = default;
    Array(Array&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), capacity_(std::exchange(other.capacity_, 0)) {}
    Array& operator=(Array&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }
    ~Array() { reset(); }

    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    T& back() { return data_[size_ - 1]; }

    /// Room for `n` elements in all; false when memory is out.
    bool reserve(std::size_t n) {
        if (n <= capacity_) return true;
        if (n > UINT32_MAX || n > SIZE_MAX / 2 / sizeof(T)) return false;
        T* grown = static_cast<T*>(::operator new(n * sizeof(T), std::nothrow));
        if (grown == nullptr) return false;
        for (std::size_t i = 0; i < size_; ++i) {
            ::new (static_cast<void*>(grown + i)) T(std::move(data_[i]));
            data_[i].~T();
        }
        ::operator delete(data_);
        data_ = grown;
        capacity_ = static_cast<std::uint32_t>(n);
        return true;
    }

    /// Adds at the end; false when memory is out.
    bool push(T value) {
        if (size_ == capacity_ && !reserve(capacity_ == 0 ? 4 : std::size_t{capacity_} * 2)) return false;
        ::new (static_cast<void*>(data_ + size_)) T(std::move(value));
        ++size_;
        return true;
    }

    /// Adds `n` elements at the end, of any value, for the caller to write; null when memory is out, or for none in an empty array.
    T* extend(std::size_t n) requires std::is_trivially_copyable_v<T> {
        const std::size_t need = size_ + n, twice = std::size_t{capacity_} * 2;
        if (need > capacity_ && !reserve(need > twice ? need : twice)) return nullptr;
        size_ = static_cast<std::uint32_t>(need);
        return data_ + need - n;
    }
    /// Adds copies of `n` elements at the end; false, and unchanged, when memory is out.
    bool append(const T* from, std::size_t n) requires std::is_trivially_copyable_v<T> {
        if (n == 0) return true;
        T* const to = extend(n);
        if (to != nullptr) __builtin_memcpy(to, from, n * sizeof(T));
        return to != nullptr;
    }
    /// Removes the last elements, so that `n` are left, of which there are at least as many.
    void truncate(std::size_t n) {
        while (size_ > n) pop();
    }
    void pop() { data_[--size_].~T(); }

    /// Removes element `i`, keeping the order of the rest.
    void erase(std::size_t i) {
        for (; i + 1 < size_; ++i) data_[i] = std::move(data_[i + 1]);
        pop();
    }

    /// Removes every element and keeps the memory.
    void clear() { truncate(0); }

    /// Removes every element and gives the memory back.
    void reset() {
        clear();
        ::operator delete(std::exchange(data_, nullptr));
        capacity_ = 0;
    }

    /// Becomes a copy of `other`; false, and empty, when memory is out.
    bool copy_from(const Array& other) {
        if (this == &other) return true;
        clear();
        if (!reserve(other.size_)) return false;
        for (const T& value : other) push(value);
        return true;
    }

private:
    T* data_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint32_t capacity_ = 0;
};

}  // namespace rejoin::inline v0_1
