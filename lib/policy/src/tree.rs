//! YAML as it was written: each value with its line, and scalars as text. A mapping into types would stop at the first mistake;
//! from this all of them can be told.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

use crate::policy::Mistake;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u64,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing was written, or `null`.
    Nothing,
    Word(String),
    List(Vec<Node>),
    /// In the order of the file, keys that occur twice included.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Of the key; its value may begin on a later one.
    pub line: u64,
    pub node: Node,
}

/// What a file says in all, with each alias written out: a few lines of aliases can stand for gigabytes. Ten times what a policy
/// for a hundred services has.
const MOST_NODES: usize = 50_000;
const MOST_TEXT: usize = 4 * 1024 * 1024;

/// `Err`: it is no YAML, and where it ceases to be.
pub fn read(text: &str) -> Result<Node, Mistake> {
    let options = serde_saphyr::options! {
        // Off is a mode, and no "false".
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // Told with all the other mistakes.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! {
            max_nodes: MOST_NODES,
            max_total_scalar_bytes: MOST_TEXT,
        },
    };
    let read: Result<Option<Spanned<Value>>, _> = serde_saphyr::from_str_with_options(text, options);
    match read {
        Ok(Some(spanned)) => Ok(Node::of(spanned)),
        // An owner who comments everything out has written a document without a value.
        Ok(None) => Ok(Node { line: 1, value: Value::Nothing }),
        Err(error) => Err(Mistake {
            line: error.location().map_or(1, |location| location.line()),
            key: String::new(),
            message: format!("no valid YAML: {}", error.without_snippet()).replace(['\n', '\r'], " "),
        }),
    }
}

impl Node {
    fn of(spanned: Spanned<Value>) -> Self {
        Node { line: spanned.referenced.line(), value: spanned.value }
    }

    /// What it is, for a message about what it should be.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Nothing => "nothing",
            Value::Word(_) => "one value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Word(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Word(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Word(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Word(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Word(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(item) = sequence.next_element::<Option<Spanned<Value>>>()? {
            // Of an item without a value no line is known, and none is needed.
            nodes.push(item.map_or(Node { line: 0, value: Value::Nothing }, Node::of));
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            let node = map.next_value::<Option<Spanned<Value>>>()?;
            let node = node.map_or(Node { line, value: Value::Nothing }, Node::of);
            entries.push(Entry { key: key.value, line, node });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Value {
        match read(text).unwrap().value {
            Value::Map(entries) => entries[0].node.value.clone(),
            other => other,
        }
    }

    #[test]
    fn scalars_are_what_was_written() {
        for given in ["off", "on", "no", "true", "10", "010", "1_0", "02:00", "10s", "-1", "1.5", "0x10s"] {
            assert_eq!(word(&format!("a: {given}\n")), Value::Word(given.to_owned()), "{given}");
        }
        assert_eq!(word("a: 'null'\n"), Value::Word("null".to_owned()));
        assert_eq!(word("a: null\n"), Value::Nothing);
        assert_eq!(word("a:\n"), Value::Nothing);
        assert_eq!(word(""), Value::Nothing);
        assert_eq!(word("# nothing\n---\n"), Value::Nothing);
    }

    #[test]
    fn each_value_has_its_line() {
        let node = read("a:\n  1: x\n  off:\n    - y\n    -\n      z\n").unwrap();
        let Value::Map(top) = node.value else { panic!("{node:?}") };
        assert_eq!((top[0].key.as_str(), top[0].line), ("a", 1));
        let Value::Map(inner) = &top[0].node.value else { panic!("{top:?}") };
        assert_eq!((inner[0].key.as_str(), inner[0].line, inner[0].node.line), ("1", 2, 2));
        assert_eq!((inner[1].key.as_str(), inner[1].line), ("off", 3));
        let Value::List(items) = &inner[1].node.value else { panic!("{inner:?}") };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [4, 6]);
    }

    #[test]
    fn few_lines_that_stand_for_very_many_are_refused() {
        let tenfold = |at: usize| format!("a{at}: &a{at} [{}]\n", format!("*a{},", at - 1).repeat(10));
        let laughs = format!("a0: &a0 [x,x]\n{}", (1..20).map(tenfold).collect::<String>());
        let anchors: String = (0..5000).map(|at| format!("&a{at} 1,")).collect();
        let copies = format!("a: &x {}\nb: [{anchors}{}]\n", "y".repeat(500_000), "*x,".repeat(40_000));
        let many = "- a\n".repeat(MOST_NODES);
        let deep = "[".repeat(10_000);
        for (text, line) in [(laughs, 6), (copies, 2), (many, MOST_NODES as u64), (deep, 1)] {
            let started = std::time::Instant::now();
            let mistake = read(&text).unwrap_err();
            assert_eq!(mistake.line, line, "{mistake:?}");
            assert!(mistake.message.len() < 500, "{mistake:?}");
            assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        }
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        for (text, line) in [("a: [1\nb: 2", 2), ("a: b: c\n", 1), ("a:\n  - 1\n b: 2\n", 3)] {
            let mistake = read(text).unwrap_err();
            assert_eq!(mistake.line, line, "{text:?}: {mistake:?}");
            assert!(!mistake.message.contains('\n'), "{mistake:?}");
        }
    }
}
