// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <rejoin/transport/tls.hpp>

// The engine of OpenSSL (3.0 or later, or 1.1.1) for `Tls`: for those who have it. No other header includes this one; to be linked with
// -lssl -lcrypto.
namespace rejoin::inline v0_1 {

/// TLS 1.2 or later by OpenSSL: `Tls<Tcp, OpenSsl>`. A server is proven by the name, or the number, that was asked for.
class OpenSsl {
public:
    /// What the connections of one loop share. To be set up before the first is opened: what is changed later holds for those that come.
    /// Servers are trusted that the system trusts, and nobody is asked for a certificate of their own.
    class Context {
    public:
        explicit Context(Loop&) : client_(made(TLS_client_method())), server_(made(TLS_server_method())) {
            if (client_ == nullptr) return;
            SSL_CTX_set_verify(client_, SSL_VERIFY_PEER, nullptr);
            SSL_CTX_set_default_verify_paths(client_);
        }
        Context(const Context&) = delete;
        ~Context() {
            SSL_CTX_free(client_);
            SSL_CTX_free(server_);
        }
        /// The one of this loop, made when first asked for. Lives as long as the loop.
        static Context& of(Loop& loop) { return loop.service<Context>(); }

        /// Also trusts servers that are proven by these certificates (PEM). `invalid_argument` for a file that cannot be read as that.
        Result<void> trust(const char* file) {
            return said(client_ != nullptr && SSL_CTX_load_verify_locations(client_, file, nullptr) == 1);
        }
        /// Who this program is, as a server and to servers that ask: a chain of certificates and its key (PEM). `invalid_argument` for
        /// files that cannot be read as that, and for a key of another certificate.
        Result<void> identify(const char* chain, const char* key) {
            for (SSL_CTX* context : {client_, server_})
                if (context == nullptr || SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
                    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(context) != 1)
                    return said(false);
            return {};
        }
        /// OpenSSL's own, for whatever else is to be set; null where memory is out.
        SSL_CTX* client() const { return client_; }
        SSL_CTX* server() const { return server_; }

    private:
        static SSL_CTX* made(const SSL_METHOD* method) {
            SSL_CTX* const context = SSL_CTX_new(method);
            if (context == nullptr) return nullptr;
            SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
            SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
            return context;
        }
        static Result<void> said(bool ok) {
            ERR_clear_error();
            return ok ? Result<void>() : Errc::invalid_argument;
        }

        SSL_CTX* client_;
        SSL_CTX* server_;
    };

    OpenSsl() = default;
    OpenSsl(const OpenSsl&) = delete;
    ~OpenSsl() { SSL_free(ssl_); }

    Error start(Context& context, bool server, const char* name) {
        SSL_CTX* const shared = server ? context.server() : context.client();
        ssl_ = shared == nullptr ? nullptr : SSL_new(shared);
        if (ssl_ == nullptr) return Errc::out_of_memory;
        in_ = BIO_new(BIO_s_mem());
        out_ = BIO_new(BIO_s_mem());
        SSL_set_bio(ssl_, in_, out_);  // which are its own now
        if (in_ == nullptr || out_ == nullptr) return Errc::out_of_memory;
        BIO_set_mem_eof_return(in_, -1);  // empty is not over
        if (server) {
            SSL_set_accept_state(ssl_);
            return {};
        }
        SSL_set_connect_state(ssl_);
        const bool number = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), name) == 1;
        if (!number && (SSL_set1_host(ssl_, name) != 1 || SSL_set_tlsext_host_name(ssl_, name) != 1)) return Errc::invalid_argument;
        return shake();
    }
    Error receive(Bytes bytes) {
        if (BIO_write(in_, bytes.data(), static_cast<int>(bytes.size())) != static_cast<int>(bytes.size())) return Errc::out_of_memory;
        return established() ? Error() : shake();
    }
    bool established() const { return SSL_is_init_finished(ssl_) == 1; }
    Result<std::size_t> read(MutableBytes room) {
        ERR_clear_error();
        std::size_t size = 0;
        const int result = SSL_read_ex(ssl_, room.data(), room.size(), &size);
        if (result == 1) return size;
        if (SSL_get_error(ssl_, result) == SSL_ERROR_ZERO_RETURN) return Errc::end_of_stream;
        const Error error = failure(result);
        return error ? error : Error(Errc::would_block);
    }
    Error write(Bytes bytes) {
        ERR_clear_error();
        std::size_t size = 0;
        const int result = SSL_write_ex(ssl_, bytes.data(), bytes.size(), &size);
        return result == 1 ? Error() : failure(result);
    }
    Error end() {
        ERR_clear_error();
        if (established()) SSL_shutdown(ssl_);
        return {};
    }
    Bytes pending() const {
        char* data = nullptr;
        const long size = BIO_get_mem_data(out_, &data);
        return {reinterpret_cast<const std::byte*>(data), size > 0 ? static_cast<std::size_t>(size) : 0};
    }
    void sent(std::size_t n) {
        char dropped[4096];
        while (n > 0) {
            const int read = BIO_read(out_, dropped, static_cast<int>(n < sizeof dropped ? n : sizeof dropped));
            if (read <= 0) return;
            n -= static_cast<std::size_t>(read);
        }
    }
    /// OpenSSL's own, for whatever else there is to know, such as the peer's certificate.
    SSL* native() const { return ssl_; }

private:
    Error shake() {
        ERR_clear_error();
        const int result = SSL_do_handshake(ssl_);
        return result == 1 ? Error() : failure(result);
    }
    // None where it only waits for more.
    Error failure(int result) const {
        const int why = SSL_get_error(ssl_, result);
        if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return {};
        // What the peer says of a certificate comes as one of the alerts from 42 to 49, or 116 (RFC 8446, 6).
        const int alert = ERR_GET_REASON(ERR_peek_error()) - SSL_AD_REASON_OFFSET;
        const bool about_us = (alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_ACCESS_DENIED) || alert == 116;
        ERR_clear_error();
        return SSL_get_verify_result(ssl_) != X509_V_OK || about_us ? Errc::proof_invalid : Errc::malformed;
    }

    SSL* ssl_ = nullptr;
    BIO* in_ = nullptr;
    BIO* out_ = nullptr;
};

}  // namespace rejoin::inline v0_1
