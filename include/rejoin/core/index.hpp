// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/random.hpp>

namespace rejoin::inline v0_1 {

/// A number for a text, the same everywhere: FNV-1a (Fowler, Noll, Vo), spread by SplitMix64. Not against those who choose the text.
inline std::uint64_t hash_of(TextView text, std::uint64_t seed = 0) {
    std::uint64_t h = 0xcbf29ce484222325 ^ seed;
    for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return Random(h).next();
}

/// A hash index of objects that it does not own: open addressing with linear probing, at most three quarters full. `T` has
/// `std::uint64_t hash() const`, already well mixed, and `bool is(const Key&) const`.
template <class T, class Key>
class Index {
public:
    Index() = default;
    Index(const Index&) = delete;
    ~Index() { std::free(slots_); }

    std::size_t size() const { return size_; }

    T* find(std::uint64_t hash, const Key& key) const {
        if (slots_ == nullptr) return nullptr;
        for (std::size_t at = hash & mask_; slots_[at] != nullptr; at = (at + 1) & mask_)
            if (slots_[at]->is(key)) return slots_[at];
        return nullptr;
    }

    /// Adds an object whose key is not in it; false when memory is out.
    bool insert(T* object) {
        if ((size_ + 1) * 4 > capacity() * 3 && !grow()) return false;
        place(object);
        ++size_;
        return true;
    }

    /// Removes an object that is in it.
    void erase(T* object) {
        std::size_t hole = object->hash() & mask_;
        while (slots_[hole] != object) hole = (hole + 1) & mask_;
        // What follows without a gap moves back when its own place is not behind the hole.
        for (std::size_t at = (hole + 1) & mask_; slots_[at] != nullptr; at = (at + 1) & mask_)
            if (((at - (slots_[at]->hash() & mask_)) & mask_) >= ((at - hole) & mask_)) {
                slots_[hole] = slots_[at];
                hole = at;
            }
        slots_[hole] = nullptr;
        --size_;
    }

private:
    std::size_t capacity() const { return slots_ == nullptr ? 0 : mask_ + 1; }
    void place(T* object) {
        std::size_t at = object->hash() & mask_;
        while (slots_[at] != nullptr) at = (at + 1) & mask_;
        slots_[at] = object;
    }
    bool grow() {
        const std::size_t old_capacity = capacity();
        const std::size_t wanted = old_capacity == 0 ? 16 : old_capacity * 2;
        auto** grown = static_cast<T**>(std::calloc(wanted, sizeof(T*)));
        if (grown == nullptr) return false;
        T** old = slots_;
        slots_ = grown;
        mask_ = wanted - 1;
        for (std::size_t i = 0; i < old_capacity; ++i)
            if (old[i] != nullptr) place(old[i]);
        std::free(old);
        return true;
    }

    T** slots_ = nullptr;
    std::size_t mask_ = 0;
    std::size_t size_ = 0;
};

}  // namespace rejoin::inline v0_1
