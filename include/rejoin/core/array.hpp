// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <rejoin/core/error.hpp>
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

namespace detail {

/// The memory of an `Array`, the same code for every type of element.
class ArrayMemory {
public:
    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

protected:
    ArrayMemory() = default;
    ArrayMemory(ArrayMemory&& other) noexcept { swap(other); }
    ~ArrayMemory() { ::operator delete(data_); }
    void swap(ArrayMemory& other) {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
    }

    bool full() const { return size_ == capacity_; }
    std::size_t twice() const { return capacity_ == 0 ? 4 : std::size_t{capacity_} * 2; }
    /// Memory for `n` elements of `each` bytes; null when it is out.
    static void* allocate(std::size_t n, std::size_t each) {
        const std::size_t bytes = n * each;
        return n > UINT32_MAX || n > SIZE_MAX / 2 / each ? nullptr : ::operator new(bytes, std::nothrow);
    }
    void replace(void* with, std::size_t capacity) {
        ::operator delete(data_);
        data_ = with;
        capacity_ = static_cast<std::uint32_t>(capacity);
    }

    void* data_ = nullptr;
    std::uint32_t size_ = 0;
    std::uint32_t capacity_ = 0;
};

}  // namespace detail

/// A growing array that never throws: where memory runs out, `push` says so and nothing has changed. Move-only; `copy_from` copies.
template <class T>
class Array : public detail::ArrayMemory {
public:
    Array() = default;
    Array(Array&& other) = default;
    Array& operator=(Array&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Array() { clear(); }

    T* data() { return static_cast<T*>(data_); }
    const T* data() const { return static_cast<const T*>(data_); }
    T* begin() { return data(); }
    T* end() { return data() + size_; }
    const T* begin() const { return data(); }
    const T* end() const { return data() + size_; }
    T& operator[](std::size_t i) { return data()[i]; }
    const T& operator[](std::size_t i) const { return data()[i]; }
    T& back() { return data()[size_ - 1]; }

    /// Room for `n` elements in all; false when memory is out.
    [[gnu::cold]] bool reserve(std::size_t n) {
        if (n <= capacity_) return true;
        T* grown = static_cast<T*>(allocate(n, sizeof(T)));
        if (grown == nullptr) return false;
        if constexpr (std::is_trivially_copyable_v<T>) {
            if (size_ != 0) __builtin_memcpy(static_cast<void*>(grown), data_, size_ * sizeof(T));
        } else {
            for (std::size_t i = 0; i < size_; ++i) {
                ::new (static_cast<void*>(grown + i)) T(std::move((*this)[i]));
                (*this)[i].~T();
            }
        }
        replace(grown, n);
        return true;
    }

    /// Adds at the end; false when memory is out.
    bool push(T value) {
        if (full() && !reserve(twice())) return false;
        ::new (static_cast<void*>(end())) T(std::move(value));
        ++size_;
        return true;
    }

    /// Adds `n` elements at the end, of any value, for the caller to write; null when memory is out, or for none in an empty array.
    T* extend(std::size_t n) requires std::is_trivially_copyable_v<T> {
        const std::size_t need = size_ + n;
        if (need > capacity_ && !reserve(need > twice() ? need : twice())) return nullptr;
        size_ = static_cast<std::uint32_t>(need);
        return end() - n;
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
    void pop() { (*this)[--size_].~T(); }

    /// Removes element `i`, keeping the order of the rest.
    void erase(std::size_t i) {
        for (; i + 1 < size_; ++i) (*this)[i] = std::move((*this)[i + 1]);
        pop();
    }

    /// Removes every element and keeps the memory.
    void clear() { truncate(0); }

    /// Removes every element and gives the memory back.
    void reset() {
        clear();
        replace(nullptr, 0);
    }

    /// Becomes a copy of `other`; false, and empty, when memory is out.
    bool copy_from(const Array& other) {
        if (this == &other) return true;
        clear();
        if (!reserve(other.size_)) return false;
        for (const T& value : other) push(value);
        return true;
    }
};

}  // namespace rejoin::inline v0_1
