//! The built-in bank profiles, as data.
//!
//! Each is a YAML file in this folder with the keys of a provider, and where the bank's API is. They go through the same
//! reading as the operator's file, which overrides them key by key. They are strict: none sets `reuse_grace`, so a
//! refresh token is taken to be spendable once. An operator who has the bank's own word for more sets it.

/// Every profile: its name and its YAML.
pub const ALL: &[(&str, &str)] = &[
    ("abn-amro", include_str!("abn-amro.yaml")),
    ("abn-amro-sandbox", include_str!("abn-amro-sandbox.yaml")),
    ("berlin-group", include_str!("berlin-group.yaml")),
    ("norsk-gjeld", include_str!("norsk-gjeld.yaml")),
    ("norsk-gjeld-preprod", include_str!("norsk-gjeld-preprod.yaml")),
    ("uk-open-banking", include_str!("uk-open-banking.yaml")),
];

/// The YAML of the profile called `name`.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(own, _)| *own == name).map(|(_, yaml)| *yaml)
}
