//! What can be wrong with keys.

/// Why a key cannot be used, and what to give instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret is too short.
    #[error("the secret has {0} bytes; give at least 32 random bytes")]
    ShortSecret(usize),
    /// The secret is a PEM file. With a public key as secret, everybody could sign tokens.
    #[error("the secret is a PEM file; give a public key as such, or random bytes as secret")]
    PemSecret,
    /// There is no public key in it.
    #[error("there is no public key in it; give a PEM file that begins with BEGIN PUBLIC KEY")]
    NoPublicKey,
    /// It is a private key.
    #[error("it holds a private key; give the public key (openssl pkey -in private.pem -pubout)")]
    PrivateKey,
    /// It is a certificate.
    #[error(
        "it holds a certificate; give the public key (openssl x509 -in cert.pem -noout -pubkey)"
    )]
    Certificate,
    /// It is in the form that only RSA keys have.
    #[error(
        "it holds an RSA key in PKCS#1 form; give it as BEGIN PUBLIC KEY \
         (openssl rsa -RSAPublicKey_in -in key.pem -pubout)"
    )]
    Pkcs1,
    /// It has more than one public key.
    #[error("it holds several public keys; give one, or several as a JWK set")]
    SeveralKeys,
    /// It cannot be parsed.
    #[error("the key cannot be parsed")]
    Malformed,
    /// It is of another kind.
    #[error("the key is of a kind that is not supported; give RSA, EC on P-256 or Ed25519")]
    Unsupported,
    /// An RSA key of another size.
    #[error("the RSA key has {0} bits; give one of 2048 to 8192 bits")]
    RsaSize(usize),
    /// A private key in a form that is not supported.
    #[error("the private key is not in PKCS#8 form; convert it (openssl pkcs8 -topk8 -nocrypt)")]
    NotPkcs8,
    /// There is no private key to sign with.
    #[error("there is no private key in it; give a PEM file that begins with BEGIN PRIVATE KEY")]
    NoPrivateKey,
    /// Something else in the process chose the cryptography of jsonwebtoken.
    #[error("another cryptography provider for tokens is installed in this process")]
    OtherProvider,
}
