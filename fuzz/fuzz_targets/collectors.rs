//! A file of a host says something else than it should. The input: which file of which tree (four bytes, the next key from
//! there on), whether the collector has seen the right one before (one byte), what is in the file.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_exporter::collect::{Kept, Reader};
use nexus_fuzz::tree::{Matter, Tree, matters, trees};
use nexus_fuzz::{render_and_check, scratch};

fn all() -> &'static (Vec<Tree>, Vec<Matter>) {
    static ALL: OnceLock<(Vec<Tree>, Vec<Matter>)> = OnceLock::new();
    ALL.get_or_init(|| {
        let trees = trees(&scratch().keep());
        let matters = matters(&trees);
        (trees, matters)
    })
}

fuzz_target!(init: all(), |input: &[u8]| -> Corpus {
    let Some((key, input)) = input.split_first_chunk() else { return Corpus::Reject };
    let Some((mode, content)) = input.split_first() else { return Corpus::Reject };
    let (trees, matters) = all();
    let key = u32::from_le_bytes(*key);
    let at = matters.partition_point(|matter| matter.key < key) % matters.len();
    let Matter { tree, collector, path, content: right, .. } = &matters[at];
    let (tree, mut reader, kept) = (&trees[*tree], Reader::default(), Kept::default());
    let path = tree.path(path);
    if mode & 1 == 1 {
        render_and_check(&tree.look(*collector, &kept, &mut reader));
    }
    std::fs::write(&path, content).expect("the copy can be changed");
    let wrong = tree.look(*collector, &kept, &mut reader);
    std::fs::write(&path, right).expect("the copy can be changed");
    render_and_check(&wrong);
    let snapshot = tree.look(*collector, &kept, &mut reader);
    render_and_check(&snapshot);
    Corpus::Keep
});
