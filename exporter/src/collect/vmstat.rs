//! `vmstat`: counters of the memory management, by the kernel's names.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind, is_field};
use crate::filter::{Chosen, Filter};

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub value: u64,
}

/// Sorted by name, each once.
pub type Found = Vec<Field>;

/// Which fields are wanted.
#[derive(Debug, Default)]
pub struct Kept {
    chosen: Chosen,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let text = reader.require(&roots.proc("vmstat"))?;
    Ok(parse(text, &settings.vmstat_fields, &mut kept.chosen))
}

/// A name and its value a line. Lines that are not understood are left out.
fn parse(text: &str, fields: &Filter, chosen: &mut Chosen) -> Vec<Field> {
    let mut found: Vec<Field> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some((name, value)) = line.split_once(' ')
            && chosen.is_wanted(at, name, |name| is_field(name) && fields.takes(name))
            && let Ok(value) = value.trim().parse()
        {
            found.push(Field { name: name.to_owned(), value });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.dedup_by(|later, first| later.name == first.name);
    found
}

const FIELD: Family = Family {
    name: "node_vmstat_<field>",
    kind: Kind::Untyped,
    help: "Statistic of the host's memory management, by the kernel's name.",
    labels: &[],
    source: "/proc/vmstat; which fields --collector.vmstat.fields says",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[FIELD];

pub fn write(fields: &[Field], out: &mut Exposition) {
    for Field { name, value } in fields {
        out.named_family(&format!("node_vmstat_{name}"), FIELD.kind, FIELD.help).single(*value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_that_are_wanted() {
        let mut chosen = Chosen::default();
        let mut check = |text: &str, expected: &[(&str, u64)]| {
            let found = parse(text, &Filter::new("^(oom_kill|pgpg|bad)", "").unwrap(), &mut chosen);
            let found: Vec<(&str, u64)> = found.iter().map(|field| (field.name.as_str(), field.value)).collect();
            assert_eq!(found, expected, "{text}");
        };
        let text = "nr_free_pages 130000\npgpgin 81\noom_kill 18446744073709551615\n";
        check(text, &[("oom_kill", u64::MAX), ("pgpgin", 81)]);
        check(text, &[("oom_kill", u64::MAX), ("pgpgin", 81)]);
        check("pgpgin x\nbad-name 5\nodd\npgpgout 6\npgpgout 7\n", &[("pgpgout", 6)]);
        check("", &[]);
    }

    proptest! {
        #[test]
        fn never_panics_and_names_are_valid(text in any::<String>(), line in "[a-z_-]{0,9} [0-9x]{0,22}") {
            let found = parse(&format!("{text}\n{line}\n"), &Filter::default(), &mut Chosen::default());
            prop_assert!(found.iter().all(|field| is_field(&field.name)));
        }
    }
}
