// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/windows_rules.hpp>
#include <rejoin/os/windows/winsock.hpp>

#if defined(_WIN32)
namespace rejoin::inline v0_1::firewall::windows {

namespace com {

// Those of netfw.h and oaidl.h that are called here, by their places in the tables; the places between are only counted. Declared here, so
// that nobody has to include OLE's headers, or to link its libraries.
struct Guid {
    std::uint32_t a;
    std::uint16_t b, c;
    std::uint8_t d[8];
};
inline constexpr Guid clsid_policy = {0xe2b3c97f, 0x6ae1, 0x41ac, {0x81, 0x7a, 0xf6, 0xf9, 0x21, 0x66, 0xd7, 0xdd}},
                      iid_policy = {0x98325047, 0xc671, 0x4174, {0x8d, 0x81, 0xde, 0xfc, 0xd3, 0xf0, 0x31, 0x86}},
                      clsid_rule = {0x2c5bc43e, 0x3369, 0x4c33, {0xab, 0x0c, 0xbe, 0x94, 0x69, 0x67, 0x7a, 0xf4}},
                      iid_rule = {0xaf230d27, 0xbaba, 0x4e42, {0xac, 0xed, 0xf5, 0x24, 0xf2, 0x2c, 0xfc, 0xe2}},
                      iid_enum_variant = {0x00020404, 0, 0, {0xc0, 0, 0, 0, 0, 0, 0, 0x46}};
using Result_ = long;  // HRESULT
struct Variant {
    std::uint16_t type, reserved[3];
    void* value;
    void* more;
};

// An object, and what its table has at a place.
struct Object {
    void** table;
};
template <class... Args>
Result_ call(Object* object, std::size_t place, Args... args) {
    return reinterpret_cast<Result_(STDMETHODCALLTYPE*)(Object*, Args...)>(object->table[place])(object, args...);
}
template <class T>
class Pointer {
public:
    Pointer() = default;
    Pointer(const Pointer&) = delete;
    ~Pointer() {
        if (object_ != nullptr) call(object_, 2);  // Release
    }
    Object** to() { return &object_; }
    Object* get() const { return object_; }

private:
    Object* object_ = nullptr;
};
// Places: those of IUnknown and IDispatch are the first seven.
namespace policy {
enum : std::size_t { current_profiles = 7, enabled = 8, block_all = 12, rules = 18, default_inbound = 23, modify_state = 28 };
}
namespace rules {
enum : std::size_t { add = 8, remove = 9, new_enum = 11 };
}
namespace rule {
enum : std::size_t {
    get_name = 7,
    put_name,
    get_description,
    put_description,
    get_application,
    put_application,
    get_service = 13,
    get_protocol = 15,
    put_protocol,
    get_ports,
    put_ports,
    get_local_addresses = 21,
    get_remote_addresses = 23,
    get_direction = 27,
    put_direction,
    get_interface_types = 31,
    get_enabled = 33,
    put_enabled,
    get_profiles = 37,
    put_profiles,
    get_action = 41,
    put_action
};
}

}  // namespace com

/// Windows Firewall over COM. Of this thread, which must not have chosen another apartment that lets nobody in.
class ComPolicy {
public:
    /// This program's file; empty where that is not known.
    Text<1023> program() const {
        wchar_t path[1024];
        char narrow[3 * 1024];
        const unsigned long size = ::GetModuleFileNameW(nullptr, path, 1024);
        if (size == 0 || size >= 1024) return {};
        const int n = ::WideCharToMultiByte(CP_UTF8, 0, path, -1, narrow, sizeof narrow, nullptr, nullptr);
        return n > 1 && n <= 1024 ? Text<1023>(TextView(narrow, static_cast<std::size_t>(n - 1))) : Text<1023>();
    }
    /// Reads it all, which needs no privilege. The error is the HRESULT.
    Error read(State& to) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy;
        if (const Error error = com.create(com::clsid_policy, com::iid_policy, policy.to())) return error;
        long active = 0;
        Error error = result(com::call(policy.get(), com::policy::current_profiles, &active));
        to.active = static_cast<std::uint32_t>(active);
        for (std::size_t i = 0; i < 3 && !error; ++i) {
            const int profile = 1 << i;
            short on = 0, blocks = 0;
            int action = 0;
            error = result(com::call(policy.get(), com::policy::enabled, profile, &on));
            if (!error) error = result(com::call(policy.get(), com::policy::block_all, profile, &blocks));
            if (!error) error = result(com::call(policy.get(), com::policy::default_inbound, profile, &action));
            to.on[i] = on != 0;
            to.blocks_all[i] = blocks != 0;
            to.allows_by_default[i] = action == 1;
        }
        if (error) return error;
        if (const Error why = result(com::call(policy.get(), com::policy::modify_state, &to.modify_state))) return why;
        com::Pointer<void> rules, unknown, all;
        error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (!error) error = result(com::call(rules.get(), com::rules::new_enum, unknown.to()));
        if (!error) error = result(com::call(unknown.get(), 0, &com::iid_enum_variant, all.to()));
        while (!error) {
            com::Variant one{};
            unsigned long got = 0;
            if (com::call(all.get(), 3, 1ul, &one, &got) != 0 || got == 0) break;  // IEnumVARIANT::Next
            if (one.value != nullptr && (one.type == 9 || one.type == 13)) {       // VT_DISPATCH, VT_UNKNOWN
                com::Pointer<void> rule;
                if (com::call(static_cast<com::Object*>(one.value), 0, &com::iid_rule, rule.to()) == 0)
                    error = add_known(com, rule.get(), to);
            }
            com.variant_clear(&one);
        }
        return error;
    }
    /// Adds a rule, which takes an administrator: EPERM, as ERROR_ACCESS_DENIED.
    Error add(const Rule& rule) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy, rules, made;
        Error error = com.create(com::clsid_policy, com::iid_policy, policy.to());
        if (!error) error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (!error) error = com.create(com::clsid_rule, com::iid_rule, made.to());
        if (error) return error;
        const auto text = [&](std::size_t place, TextView what) {
            wchar_t* const value = com.string(what);
            if (value == nullptr) return Error(Errc::out_of_memory);
            const Error why = result(com::call(made.get(), place, value));
            com.free_string(value);
            return why;
        };
        error = text(com::rule::put_name, tag_of(rule));
        if (!error && !rule.program.empty()) error = text(com::rule::put_application, rule.program);
        if (!error) error = result(com::call(made.get(), com::rule::put_protocol, static_cast<long>(rule.protocol)));
        if (!error) error = text(com::rule::put_ports, ports_of(rule));
        if (!error) error = result(com::call(made.get(), com::rule::put_direction, 1));
        if (!error) error = result(com::call(made.get(), com::rule::put_profiles, static_cast<long>(profiles_of(rule))));
        if (!error) error = result(com::call(made.get(), com::rule::put_action, 1));
        if (!error) error = result(com::call(made.get(), com::rule::put_enabled, static_cast<short>(-1)));
        return error ? error : result(com::call(rules.get(), com::rules::add, made.get()));
    }
    /// Takes away every rule of that name, as add would not have made a second.
    Error remove(const Rule& rule) {
        Com com;
        if (com.error) return com.error;
        com::Pointer<void> policy, rules;
        Error error = com.create(com::clsid_policy, com::iid_policy, policy.to());
        if (!error) error = result(com::call(policy.get(), com::policy::rules, rules.to()));
        if (error) return error;
        wchar_t* const name = com.string(tag_of(rule));
        if (name == nullptr) return Errc::out_of_memory;
        error = result(com::call(rules.get(), com::rules::remove, name));
        com.free_string(name);
        return error;
    }

private:
    static Error result(com::Result_ value) {
        if (value >= 0) return {};
        const auto bits = static_cast<std::uint32_t>(value);
        return Error::system(static_cast<int>((bits & 0xffff0000) == 0x80070000 ? bits & 0xffff : bits));  // of Win32, or COM's own
    }

    // COM, for one call.
    struct Com {
        Com() {
            HMODULE const ole = ::LoadLibraryW(L"ole32.dll"), automation = ::LoadLibraryW(L"oleaut32.dll");
            take(ole, "CoInitializeEx", initialize_);
            take(ole, "CoUninitialize", uninitialize_);
            take(ole, "CoCreateInstance", create_);
            take(automation, "SysAllocString", allocate_);
            take(automation, "SysFreeString", free_string);
            take(automation, "VariantClear", variant_clear);
            if (error) return;
            const com::Result_ began = initialize_(nullptr, 0);  // COINIT_MULTITHREADED
            began_ = began >= 0;
            if (!began_ && static_cast<std::uint32_t>(began) != 0x80010106)
                error = result(began);  // RPC_E_CHANGED_MODE: it is there already
        }
        Com(const Com&) = delete;
        ~Com() {
            if (began_) uninitialize_();
        }
        Error create(const com::Guid& what, const com::Guid& as, com::Object** to) const {
            return result(create_(&what, nullptr, 1, &as, to));  // CLSCTX_INPROC_SERVER
        }
        wchar_t* string(TextView text) const {
            wchar_t wide[1100] = {};
            const int n = ::MultiByteToWideChar(CP_UTF8, 0, text.data(), static_cast<int>(text.size()), wide, 1099);
            return n <= 0 && text.size() > 0 ? nullptr : allocate_(wide);
        }

        Error error;
        void(STDMETHODCALLTYPE* free_string)(wchar_t*) = nullptr;
        com::Result_(STDMETHODCALLTYPE* variant_clear)(com::Variant*) = nullptr;

    private:
        template <class F>
        void take(HMODULE from, const char* name, F& to) {
            if (from != nullptr) to = reinterpret_cast<F>(reinterpret_cast<void*>(::GetProcAddress(from, name)));
            if (to == nullptr) error = Errc::unsupported;
        }
        com::Result_(STDMETHODCALLTYPE* initialize_)(void*, unsigned long) = nullptr;
        void(STDMETHODCALLTYPE* uninitialize_)() = nullptr;
        com::Result_(STDMETHODCALLTYPE* create_)(const com::Guid*, void*, unsigned long, const com::Guid*, com::Object**) = nullptr;
        wchar_t*(STDMETHODCALLTYPE* allocate_)(const wchar_t*) = nullptr;
        bool began_ = false;
    };

    // False for what does not fit whole.
    template <std::size_t N>
    static bool text_of(Com& com, com::Object* rule, std::size_t place, Text<N>& to) {
        wchar_t* value = nullptr;
        if (com::call(rule, place, &value) < 0 || value == nullptr) return true;
        char narrow[N + 1];
        const int n = ::WideCharToMultiByte(CP_UTF8, 0, value, -1, narrow, static_cast<int>(sizeof narrow), nullptr, nullptr);
        if (n > 1) to = TextView(narrow, static_cast<std::size_t>(n - 1));
        com.free_string(value);
        return n > 0;
    }
    static Error add_known(Com& com, com::Object* rule, State& to) {
        int direction = 0, action = 0;
        short enabled = 0;
        long protocol = any_protocol, profiles = 0;
        if (com::call(rule, com::rule::get_direction, &direction) < 0 || direction != 1) return {};
        if (com::call(rule, com::rule::get_enabled, &enabled) < 0 || enabled == 0) return {};
        com::call(rule, com::rule::get_action, &action);
        com::call(rule, com::rule::get_protocol, &protocol);
        com::call(rule, com::rule::get_profiles, &profiles);
        KnownRule known;
        known.allows = action == 1;
        known.protocol = static_cast<std::int32_t>(protocol);
        known.profiles = static_cast<std::uint32_t>(profiles) & all_profiles;
        text_of(com, rule, com::rule::get_name, known.name);
        // What is too long to be known holds for something else than what is asked about, or for some of it: neither is counted on.
        known.narrow = !text_of(com, rule, com::rule::get_application, known.program);
        known.narrow = !text_of(com, rule, com::rule::get_ports, known.ports) || known.narrow;
        for (const std::size_t place :
             {com::rule::get_service, com::rule::get_local_addresses, com::rule::get_remote_addresses, com::rule::get_interface_types}) {
            Text<15> only;
            const bool whole = text_of(com, rule, place, only);
            known.narrow = known.narrow || !whole || !(only.empty() || only == TextView("*") || only == TextView("All"));
        }
        return to.rules.push(std::move(known)) ? Error() : Error(Errc::out_of_memory);
    }
};

}  // namespace rejoin::inline v0_1::firewall::windows
#endif
