//! TLS by rustls with ring: from what the web configuration says to what a connection is served with.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::config::WebConfigError;
use crate::files::Files;
use crate::san::alternative_names;

/// Sessions that can be taken up again without a full handshake: a few clients, which stay connected anyway.
const MOST_SESSIONS: usize = 32;

/// Go's names of the cipher suites that it does not call insecure, with ours.
pub(crate) const SUITES: &[(&str, Option<SupportedCipherSuite>)] = &[
    ("TLS_AES_128_GCM_SHA256", Some(cipher_suite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Some(cipher_suite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
];

/// The curves of the format, with ours.
pub(crate) const CURVES: &[(&str, Option<&'static dyn SupportedKxGroup>)] = &[
    ("X25519", Some(kx_group::X25519)),
    ("CurveP256", Some(kx_group::SECP256R1)),
    ("CurveP384", Some(kx_group::SECP384R1)),
    ("CurveP521", None),
];

#[derive(Debug)]
pub(crate) struct TlsSettings {
    pub certificate: Pem,
    pub key: Pem,
    pub client_auth: ClientAuth,
    /// A client's certificate must have one of these names.
    pub client_allowed_sans: Option<Vec<String>>,
    pub versions: Versions,
    pub cipher_suites: CipherSuites,
    pub curves: Curves,
}

/// Where a certificate or key is.
#[derive(Clone)]
pub(crate) enum Pem {
    Inline(String),
    File(PathBuf),
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pem::Inline(_) => f.write_str("[inline]"),
            Pem::File(path) => path.fmt(f),
        }
    }
}

/// What is asked of clients.
#[derive(Clone, Debug)]
pub(crate) enum ClientAuth {
    None,
    /// A certificate, whoever signed it.
    Any {
        required: bool,
    },
    /// A certificate that chains to one of `ca`.
    Verified {
        required: bool,
        ca: Pem,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    Tls12,
    Tls13,
    Both,
}

/// For TLS 1.2; empty: all.
#[derive(Debug)]
pub(crate) struct CipherSuites {
    pub chosen: Vec<SupportedCipherSuite>,
    /// Whether their order counts, and not the client's.
    pub server_prefers: bool,
}

/// In the order of preference; empty: all.
pub(crate) type Curves = Vec<&'static dyn SupportedKxGroup>;

/// Reads certificates and keys through `files`. `path` is the configuration's, for what is written in it.
pub(crate) fn server_config(
    settings: &TlsSettings,
    path: &std::path::Path,
    files: &mut Files,
) -> Result<Arc<ServerConfig>, WebConfigError> {
    let material = |pem: &Pem, message: String| {
        let path = match pem {
            Pem::Inline(_) => path.to_owned(),
            Pem::File(path) => path.clone(),
        };
        WebConfigError::Material { path, message }
    };
    let mut read = |pem: &Pem, what: &'static str| match pem {
        Pem::Inline(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => files.read(path).map_err(|source| WebConfigError::Read { path: path.clone(), what, source }),
    };
    let certificates = |pem: &Pem, bytes: &[u8]| {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(material(pem, "no certificate in PEM form".to_owned())),
        }
    };

    let chain = certificates(&settings.certificate, &read(&settings.certificate, "the certificate (cert_file)")?)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key, "the key (key_file)")?)
        .map_err(|_| material(&settings.key, "no private key in PEM form, or one with a passphrase".to_owned()))?;

    let provider = Arc::new(provider(settings));
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Option<Arc<dyn ClientCertVerifier>> = match &settings.client_auth {
        ClientAuth::None => None,
        ClientAuth::Any { required } => Some(Arc::new(AnyClient { required: *required, algorithms })),
        ClientAuth::Verified { required, ca } => {
            let mut roots = RootCertStore::empty();
            for certificate in
                certificates(ca, &read(ca, "the certificates of clients' authorities (client_ca_file)")?)?
            {
                roots
                    .add(certificate)
                    .map_err(|error| material(ca, format!("a certificate that can't be used: {error}")))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let builder = if *required { builder } else { builder.allow_unauthenticated() };
            Some(builder.build().map_err(|error| material(ca, error.to_string()))?)
        }
    };
    let verifier = match (verifier, &settings.client_allowed_sans) {
        (Some(inner), Some(names)) => Some(Arc::new(NamedClient { inner, names: names.clone() }) as Arc<_>),
        (verifier, _) => verifier,
    };

    let versions: &[&SupportedProtocolVersion] = match settings.versions {
        Versions::Tls12 => &[&TLS12],
        Versions::Tls13 => &[&TLS13],
        Versions::Both => &[&TLS12, &TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| WebConfigError::Material { path: path.to_owned(), message: error.to_string() })?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => material(&settings.key, "not the key of the certificate".to_owned()),
        error => material(&settings.certificate, format!("can't be used: {error}")),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(MOST_SESSIONS);
    config.ignore_client_order = settings.cipher_suites.server_prefers || !has_aes();
    Ok(Arc::new(config))
}

fn provider(settings: &TlsSettings) -> CryptoProvider {
    let default = default_provider();
    let (new, old): (Vec<_>, Vec<_>) = default.cipher_suites.iter().copied().partition(|suite| suite.tls13().is_some());
    let chosen: Vec<_> =
        settings.cipher_suites.chosen.iter().copied().filter(|suite| suite.tls13().is_none()).collect();
    let mut cipher_suites = [new, if settings.cipher_suites.chosen.is_empty() { old } else { chosen }].concat();
    if !has_aes() && !settings.cipher_suites.server_prefers {
        // Stable: otherwise in their order.
        cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("CHACHA20"));
    }
    let kx_groups = if settings.curves.is_empty() { default.kx_groups.clone() } else { settings.curves.clone() };
    CryptoProvider { cipher_suites, kx_groups, ..default }
}

/// Whether the processor has instructions for AES. A Raspberry Pi before the 5 has none, and ChaCha20 costs it a fraction.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Asks for a certificate and takes any: who is not checked against an authority only proves to have the key.
#[derive(Debug)]
struct AnyClient {
    required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What `inner` takes, if it has one of `names`.
#[derive(Debug)]
struct NamedClient {
    inner: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for NamedClient {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if alternative_names(end_entity).iter().any(|name| self.names.contains(name)) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
