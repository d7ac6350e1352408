// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <new>
#include <rejoin/core/version.hpp>
#include <type_traits>
#include <utility>

namespace rejoin::inline v0_1 {

template <class Signature>
class Function;

/// A move-only callable. What it captures lives inside while it fits into three pointers, else on the heap; empty (made from nothing
/// or from a null function pointer), it is false and must not be called.
template <class R, class... Args>
class Function<R(Args...)> {
public:
    Function() = default;

    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Function> && std::is_invocable_r_v<R, std::remove_cvref_t<F>&, Args...>)
        Function(F&& f) {
        using Stored = std::decay_t<F>;
        if constexpr (std::is_pointer_v<std::remove_cvref_t<F>>)
            if (f == nullptr) return;
        if constexpr (sizeof(Stored) <= sizeof storage_ && alignof(Stored) <= alignof(void*) &&
                      std::is_nothrow_move_constructible_v<Stored>) {
            ::new (static_cast<void*>(storage_)) Stored(std::forward<F>(f));
            call_ = [](Function& self, Args... args) -> R {
                return static_cast<R>((*static_cast<Stored*>(self.inside()))(std::forward<Args>(args)...));
            };
            if constexpr (!std::is_trivially_copyable_v<Stored>)
                manage_ = [](Function& self, Function* to) {
                    auto& stored = *static_cast<Stored*>(self.inside());
                    if (to != nullptr) ::new (to->inside()) Stored(std::move(stored));
                    stored.~Stored();
                };
        } else {
            auto* stored = new (std::nothrow) Stored(std::forward<F>(f));
            if (stored == nullptr) return;  // stays empty, as its owner can see
            ::new (static_cast<void*>(storage_)) Stored*(stored);
            call_ = [](Function& self, Args... args) -> R {
                return static_cast<R>((**static_cast<Stored**>(self.inside()))(std::forward<Args>(args)...));
            };
            manage_ = [](Function& self, Function* to) {
                auto* held = *static_cast<Stored**>(self.inside());
                if (to != nullptr)
                    ::new (to->inside()) Stored*(held);
                else
                    delete held;
            };
        }
    }

    Function(Function&& other) noexcept { take(other); }
    Function& operator=(Function&& other) noexcept {
        if (this != &other) {
            reset();
            take(other);
        }
        return *this;
    }
    ~Function() { reset(); }

    explicit operator bool() const { return call_ != nullptr; }
    R operator()(Args... args) { return call_(*this, std::forward<Args>(args)...); }

private:
    void* inside() { return storage_; }
    void reset() {
        if (manage_ != nullptr) manage_(*this, nullptr);
        call_ = nullptr;
        manage_ = nullptr;
    }
    void take(Function& other) {
        call_ = std::exchange(other.call_, nullptr);
        manage_ = std::exchange(other.manage_, nullptr);
        if (manage_ != nullptr)
            manage_(other, this);
        else
            __builtin_memcpy(storage_, other.storage_, sizeof storage_);
    }

    R (*call_)(Function&, Args...) = nullptr;
    void (*manage_)(Function&, Function*) = nullptr;  // moves to the other, or destroys; null where copying the bytes is enough
    alignas(void*) std::byte storage_[3 * sizeof(void*)] = {};
};

template <class Signature>
class Delegate;

/// A member function and the object to call it on: two pointers, copyable, owns nothing.
template <class... Args>
class Delegate<void(Args...)> {
public:
    constexpr Delegate() = default;

    /// `Delegate<void(int)>::to<&Thing::changed>(thing)`
    template <auto Member, class T>
    static Delegate to(T* object) {
        Delegate d;
        d.object_ = object;
        d.call_ = [](void* self, Args... args) { (static_cast<T*>(self)->*Member)(std::forward<Args>(args)...); };
        return d;
    }

    explicit operator bool() const { return call_ != nullptr; }
    void operator()(Args... args) const { call_(object_, std::forward<Args>(args)...); }

private:
    void* object_ = nullptr;
    void (*call_)(void*, Args...) = nullptr;
};

}  // namespace rejoin::inline v0_1
