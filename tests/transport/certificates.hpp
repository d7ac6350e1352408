// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdlib>
#include <string>
#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace test {

/// A certificate of its own for localhost and 127.0.0.1, and its key, in files that go with this.
class Certificate {
public:
    Certificate() {
#if !defined(_WIN32)
        char folder[] = "/tmp/rejoin-certificate-XXXXXX";
        if (::mkdtemp(folder) == nullptr) return;
        folder_ = folder;
        there_ = std::system(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
                              "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout " +
                              key() + " -out " + chain() + " >" + folder_ + "/log 2>&1")
                                 .c_str()) == 0;
#endif
    }
    Certificate(const Certificate&) = delete;
    ~Certificate() {
#if !defined(_WIN32)
        for (const char* file : {"/key", "/chain", "/log"}) ::unlink((folder_ + file).c_str());
        ::rmdir(folder_.c_str());
#endif
    }
    /// Whether it could be made: there is the program `openssl`.
    bool there() const { return there_; }
    std::string chain() const { return folder_ + "/chain"; }
    std::string key() const { return folder_ + "/key"; }

private:
    std::string folder_;
    bool there_ = false;
};

}  // namespace test
