//! The web configuration file. One that can't be used is told in a sentence, without any line of the file in it.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_fuzz::scratch;
use nexus_web::Gate;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| scratch().keep().join("web.yml"))
}

fuzz_target!(|input: &[u8]| -> Corpus {
    // What it names is read, and may be a device that never ends or never answers.
    if input.windows(4).any(|bytes| bytes == b"/dev" || bytes == b"/pro") {
        return Corpus::Reject;
    }
    std::fs::write(file(), input).expect("the file can be written");
    match Gate::open(file(), &[]) {
        Ok(gate) => assert!(gate.is_ok()),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
    Corpus::Keep
});
