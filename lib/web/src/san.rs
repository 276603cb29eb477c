//! The subject alternative names of a certificate (RFC 5280, section 4.2.1.6), all four kinds as text. webpki only says
//! whether a certificate is good for a name; here names are compared as they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Context tag 3, constructed: the extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// Those of a certificate in DER; none where it has none or can't be understood.
pub(crate) fn alternative_names(certificate: &[u8]) -> Vec<String> {
    extension(certificate).map(names).unwrap_or_default()
}

fn extension(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, signed, _) = element(certificate)?;
    let (_, extensions) = elements(signed).find(|(tag, _)| *tag == EXTENSIONS)?;
    let (_, extensions, _) = element(extensions)?;
    elements(extensions).find_map(|(_, extension)| {
        let mut parts = elements(extension);
        let is_it = parts.next()? == (OBJECT_IDENTIFIER, SUBJECT_ALTERNATIVE_NAME);
        // Whether it is critical may stand between.
        let (_, value) = parts.find(|(tag, _)| *tag == OCTET_STRING)?;
        let (_, names, _) = element(value)?;
        is_it.then_some(names)
    })
}

fn names(list: &[u8]) -> Vec<String> {
    let name = |(tag, value): (u8, &[u8])| match tag {
        EMAIL | DNS | URI => str::from_utf8(value).ok().map(str::to_owned),
        IP => {
            let address = <[u8; 4]>::try_from(value).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
            let address = address.or_else(|_| <[u8; 16]>::try_from(value).map(|bytes| Ipv6Addr::from(bytes).into()));
            Some(address.ok()?.to_canonical().to_string())
        }
        _ => None,
    };
    elements(list).filter_map(name).collect()
}

fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(der)?;
        der = rest;
        Some((tag, content))
    })
}

/// The first element: its tag, its content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // How many bytes the length has; more than three would be a certificate of 16 MiB.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn all_kinds_are_found() {
        let found = alternative_names(&certificate(vec![
            SanType::DnsName("pi.lan".try_into().unwrap()),
            SanType::Rfc822Name("me@example.org".try_into().unwrap()),
            SanType::URI("spiffe://home/prometheus".try_into().unwrap()),
            SanType::IpAddress([192, 168, 1, 2].into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ]));
        assert_eq!(found, ["pi.lan", "me@example.org", "spiffe://home/prometheus", "192.168.1.2", "::1"]);
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        assert!(alternative_names(&certificate(vec![])).is_empty());
        for bytes in [&[][..], &[0x30], &[0x30, 0x84, 1, 1, 1, 1], &[0x30, 0x80], &[0x30, 5, 0x30, 3, 0xa3, 1, 0]] {
            assert!(alternative_names(bytes).is_empty());
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..600, byte in any::<u8>()) {
            alternative_names(&bytes);
            let mut certificate = certificate(vec![SanType::IpAddress([1, 2, 3, 4].into())]);
            let at = at % certificate.len();
            certificate[at] = byte;
            alternative_names(&certificate);
            alternative_names(&certificate[..at]);
        }
    }
}
