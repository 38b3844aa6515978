//! The file as a tree of plain values, each key once.
//!
//! The YAML reader lets a typed reading stop at its first complaint, and a map of names would silently keep the last of
//! two equal keys. Reading into this tree first finds every repeated key, bounds what aliases may blow up to, and
//! leaves the complaints about shape to [`super::shape`], which can go on after one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::{Collector, Faults, Place, YamlPath};

/// A YAML value. Anchors are resolved, merge keys are keys like any other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// Values in a file, aliases written out. A configuration has some hundreds.
const MOST_NODES: usize = 50_000;

/// Reads one YAML document. Repeated keys go to `collector`, the first of them stays; text that is not one YAML
/// document is an error.
pub(super) fn read(text: &str, collector: &Collector) -> Result<Node, Faults> {
    let nodes = Cell::new(0);
    let repeated = RefCell::new(Vec::new());
    let grow = Grow { path: YamlPath::default(), nodes: &nodes, repeated: &repeated };
    let tree = grow.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| unreadable(&error))?;
    for (path, nth) in repeated.into_inner() {
        collector.key_fault(path, nth, "this key is there more than once".to_owned());
    }
    Ok(tree)
}

/// What the YAML reader says, without the position (which is given apart) and without anything it may have quoted.
fn unreadable(error: &serde_yaml::Error) -> Faults {
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = text.split(": ").last().unwrap_or_default();
    let sentence = if text.contains("more than one document") {
        "it holds more than one YAML document; a configuration is one".to_owned()
    } else if text.contains(['"', '`']) {
        "it is not readable as YAML".to_owned()
    } else {
        format!("it is not readable as YAML: {text}")
    };
    Faults::of_file(sentence, place)
}

struct Grow<'c> {
    path: YamlPath,
    nodes: &'c Cell<usize>,
    repeated: &'c RefCell<Vec<(YamlPath, usize)>>,
}

impl Grow<'_> {
    fn below(&self, path: YamlPath) -> Self {
        Self { path, nodes: self.nodes, repeated: self.repeated }
    }
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MOST_NODES {
            return Err(D::Error::custom("it holds more values than a configuration can have"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    // Wider than any number that a setting takes; the shape stage refuses a fraction wherever a number is wanted.
    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Float(f64::MAX))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Float(f64::MIN))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.below(self.path.clone().index(items.len())))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = self.path.clone().key(&key);
            let times = seen.entry(key.clone()).or_insert(0);
            if *times > 0 {
                self.repeated.borrow_mut().push((path, *times));
                map.next_value::<IgnoredAny>()?;
            } else {
                members.push((key, map.next_value_seed(self.below(path))?));
            }
            *times += 1;
        }
        Ok(Node::Map(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom("a configuration has no use for YAML tags"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Node, Faults> {
        let collector = Collector::default();
        let node = read(text, &collector)?;
        collector.finish(text).map(|_| node)
    }

    fn complaint(text: &str) -> String {
        read_text(text).expect_err(text).to_string()
    }

    #[test]
    fn scalars_keep_their_yaml_1_2_types() {
        let Ok(Node::Map(members)) = read_text("a: no\nb: 012\nc: 12\nd: -1\ne: 1.5\nf: ~\ng: true\nh: '1'\ni: 0x10\n")
        else {
            panic!("a map")
        };
        let values: Vec<Node> = members.into_iter().map(|(_, value)| value).collect();
        let text = |text: &str| Node::Text(text.to_owned());
        let expected = [
            text("no"),
            text("012"),
            Node::Unsigned(12),
            Node::Signed(-1),
            Node::Float(1.5),
            Node::Null,
            Node::Bool(true),
            text("1"),
            Node::Unsigned(16),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn every_repeated_key_is_reported_at_its_own_place() {
        let expected = "a: this key is there more than once (line 2, column 1)\n\
                        m.x: this key is there more than once (line 3, column 11)\n\
                        a: this key is there more than once (line 4, column 1)\n3 faults";
        assert_eq!(complaint("a: 1\na: 2\nm: {x: 1, x: 2}\na: 3\n"), expected);
    }

    #[test]
    fn an_alias_stands_for_its_anchor_and_a_merge_key_is_a_key() {
        let expected = Node::Map(vec![
            ("a".into(), Node::List(vec![Node::Unsigned(1)])),
            ("b".into(), Node::List(vec![Node::Unsigned(1)])),
            ("<<".into(), Node::List(vec![Node::Unsigned(1)])),
        ]);
        assert_eq!(read_text("a: &x [1]\nb: *x\n<<: *x\n"), Ok(expected));
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_goes_off() {
        let mut bomb = vec!["l0: &l0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
        for level in 1..12 {
            let line = vec![format!("*l{}", level - 1); 10].join(", ");
            bomb.push(format!("l{level}: &l{level} [{line}]"));
        }
        let bomb = bomb.join("\n");
        assert!(complaint(&bomb).contains("more values than a configuration can have"));
        let wide = format!("a: &a [{}]\nb: [{}]\n", "1, ".repeat(5_000), "*a, ".repeat(5_000));
        assert!(complaint(&wide).contains("more values than a configuration can have"));
        assert!(complaint("a: &a [*a]\n").contains("recursion limit exceeded"));
    }

    #[test]
    fn text_that_is_no_yaml_document_is_refused_with_its_place() {
        assert_eq!(
            complaint("a: [1\nb: 2\n"),
            "file: it is not readable as YAML: did not find expected ',' or ']' (line 2, column 2)\n1 fault"
        );
        assert!(complaint("a: 1\n---\nb: 2\n").contains("more than one YAML document"));
        assert!(complaint("a: *nowhere\n").contains("unknown anchor"));
        assert!(complaint("a: !secret x\n").contains("no use for YAML tags"));
        assert!(complaint("? [a]\n: b\n").starts_with("file: it is not readable as YAML"));
        assert!(complaint(&"[".repeat(300)).starts_with("file: it is not readable as YAML"));
        assert!(!complaint("a: !!int CANARY\n").contains("CANARY"));
    }

    #[test]
    fn nothing_but_comments_is_null() {
        assert_eq!(read_text(""), Ok(Node::Null));
        assert_eq!(read_text("# nothing\n"), Ok(Node::Null));
    }
}
