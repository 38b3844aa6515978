//! The properties, as the fuzz targets call them.

mod properties;

/// Holds a property against an input.
pub fn run(name: &str, data: &[u8]) {
    let (_, property) = properties::ALL.into_iter().find(|(known, _)| *known == name).expect("a property");
    property(data);
}
