// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/bytes.hpp>
#include <rejoin/os/windows/winsock.hpp>

#if defined(_WIN32)
#include <bcrypt.h>
#if defined(_MSC_VER)
#pragma comment(lib, "bcrypt")
#endif

namespace rejoin::inline v0_1 {

/// Fills `to` with bytes fit for keys, from BCryptGenRandom. The error's code is an NTSTATUS.
inline Result<void> entropy(MutableBytes to) {
    while (!to.empty()) {
        const ULONG size = to.size() > INT32_MAX ? INT32_MAX : static_cast<ULONG>(to.size());
        const NTSTATUS status = ::BCryptGenRandom(nullptr, reinterpret_cast<PUCHAR>(to.data()), size, BCRYPT_USE_SYSTEM_PREFERRED_RNG);
        if (status < 0) return Error::system(static_cast<int>(status));
        to = to.subspan(size);
    }
    return {};
}

}  // namespace rejoin::inline v0_1
#endif
