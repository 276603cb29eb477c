//! `os`: which operating system the host runs, from os-release (os-release(5)).

use std::io;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some("success is 0 where the host has no os-release file, as with node_exporter.");

/// Where it may be, below the host's root; the first that is there counts.
const FILES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// What is not set is empty, as the label then is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    pub build_id: String,
    pub id: String,
    pub id_like: String,
    pub image_id: String,
    pub image_version: String,
    pub name: String,
    pub pretty_name: String,
    pub support_end: String,
    pub variant: String,
    pub variant_id: String,
    pub version: String,
    pub version_codename: String,
    pub version_id: String,
}

pub type Found = OsRelease;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    for file in FILES {
        let path = roots.root(file);
        match reader.text(&path) {
            Ok(text) => return Ok(parse(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(source) => return Err(CollectError::Read { path, source }),
        }
    }
    Err(CollectError::Absent { what: "the host has no os-release file".to_owned() })
}

/// Lines that are not understood are left out.
fn parse(text: &str) -> OsRelease {
    let mut release = OsRelease::default();
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let field = match name {
            "BUILD_ID" => &mut release.build_id,
            "ID" => &mut release.id,
            "ID_LIKE" => &mut release.id_like,
            "IMAGE_ID" => &mut release.image_id,
            "IMAGE_VERSION" => &mut release.image_version,
            "NAME" => &mut release.name,
            "PRETTY_NAME" => &mut release.pretty_name,
            "SUPPORT_END" => &mut release.support_end,
            "VARIANT" => &mut release.variant,
            "VARIANT_ID" => &mut release.variant_id,
            "VERSION" => &mut release.version,
            "VERSION_CODENAME" => &mut release.version_codename,
            "VERSION_ID" => &mut release.version_id,
            _ => continue,
        };
        if let Some(value) = unquote(value) {
            *field = value;
        }
    }
    release
}

/// A value as a shell would assign it. `None` where quotes don't close or something follows them.
fn unquote(value: &str) -> Option<String> {
    let (quote, inner) = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => (Some(quote), value[1..].strip_suffix(quote)?),
        _ => (None, value),
    };
    if quote == Some('\'') {
        return (!inner.contains('\'')).then(|| inner.to_owned());
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => out.push(escaped),
                // In double quotes a backslash before anything else is one.
                other if quote.is_some() => out.extend(['\\', other]),
                other => out.push(other),
            },
            '"' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// The number that a version begins with: `12`, `22.04`.
fn number(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let major = digits(version);
    if major == 0 {
        return None;
    }
    let rest = version.get(major..)?.strip_prefix('.');
    let end = rest.map_or(major, |rest| major + 1 + digits(rest));
    version.get(..end)?.parse().ok()
}

/// When the support ends: the first second of that day.
fn support_end(day: &str) -> Option<i64> {
    let day: Date = day.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

const INFO: Family = Family {
    name: "node_os_info",
    kind: Kind::Gauge,
    help: "The host's operating system in labels, value is always 1.",
    labels: &[
        "build_id",
        "id",
        "id_like",
        "image_id",
        "image_version",
        "name",
        "pretty_name",
        "variant",
        "variant_id",
        "version",
        "version_codename",
        "version_id",
    ],
    source: "ROOTFS/etc/os-release or ROOTFS/usr/lib/os-release",
};
const SUPPORT_END: Family = Family {
    name: "node_os_support_end_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the support of the operating system ends, in seconds since epoch.",
    labels: &[],
    source: "os-release, SUPPORT_END; Debian and Raspberry Pi OS don't say",
};
const VERSION: Family = Family {
    name: "node_os_version",
    kind: Kind::Gauge,
    help: "Major and minor version of the operating system as one number.",
    labels: &["id", "id_like", "name"],
    source: "os-release, VERSION_ID",
};
pub const FAMILIES: &[Family] = &[INFO, SUPPORT_END, VERSION];

pub fn write(release: &OsRelease, out: &mut Exposition) {
    out.family(&INFO).sample(
        &[
            ("build_id", &release.build_id),
            ("id", &release.id),
            ("id_like", &release.id_like),
            ("image_id", &release.image_id),
            ("image_version", &release.image_version),
            ("name", &release.name),
            ("pretty_name", &release.pretty_name),
            ("variant", &release.variant),
            ("variant_id", &release.variant_id),
            ("version", &release.version),
            ("version_codename", &release.version_codename),
            ("version_id", &release.version_id),
        ],
        1u64,
    );
    if let Some(second) = support_end(&release.support_end) {
        out.family(&SUPPORT_END).single(second);
    }
    if let Some(version) = number(&release.version_id).filter(|version| *version > 0.0) {
        let labels = [("id", &*release.id), ("id_like", &*release.id_like), ("name", &*release.name)];
        out.family(&VERSION).sample(&labels, version);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_as_a_shell_would() {
        let check = |value: &str, expected: Option<&str>| assert_eq!(unquote(value).as_deref(), expected, "{value}");
        check("debian", Some("debian"));
        check("", Some(""));
        check("\"Debian GNU/Linux 12 (bookworm)\"", Some("Debian GNU/Linux 12 (bookworm)"));
        check("'a \"b\" \\ c'", Some("a \"b\" \\ c"));
        check(r#""a \"b\" \\ \$ \` \x""#, Some(r#"a "b" \ $ ` \x"#));
        check("\"open", None);
        check("\"", None);
        check("\"a\" b\"", None);
        check("\"a\\\"", None);
        check("'a'b'", None);
    }

    #[test]
    fn fields_by_name_and_the_rest_is_left_out() {
        let text = "# comment\nID=debian\n\nNAME=\"Debian GNU/Linux\"\nHOME_URL=\"x\"\nVERSION_ID=\"12\"\nVARIANT=\"open\nnonsense\n";
        let expected = OsRelease {
            id: "debian".into(),
            name: "Debian GNU/Linux".into(),
            version_id: "12".into(),
            ..OsRelease::default()
        };
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_version_is_its_leading_number() {
        let check = |version: &str, expected: Option<f64>| assert_eq!(number(version), expected, "{version}");
        check("12", Some(12.0));
        check("22.04", Some(22.04));
        check("22.04.3", Some(22.04));
        check("3.", Some(3.0));
        check("9-beta", Some(9.0));
        check("rolling", None);
        check("", None);
        check(".5", None);
    }

    #[test]
    fn the_end_of_support_is_a_day() {
        assert_eq!(support_end("2026-06-10"), Some(1_781_049_600));
        assert_eq!(support_end("soon"), None);
        assert_eq!(support_end(""), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "(NAME|VERSION_ID)=[\"'\\\\$a-z0-9.ä]{0,12}") {
            let release = parse(&format!("{text}\n{line}\n"));
            number(&release.version_id);
            support_end(&text);
        }
    }
}
