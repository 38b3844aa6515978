//! The file itself: missing, too large, not text.

use super::{Folder, env, smallest_and};
use crate::config::Config;

fn refusal(folder: &Folder, bytes: &[u8]) -> String {
    folder.write("config.yaml", bytes, 0o644);
    Config::load(&folder.path("config.yaml"), env).expect_err("refused").to_string()
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let folder = Folder::new();
    let missing = Config::load(&folder.path("nowhere.yaml"), env).expect_err("refused").to_string();
    assert_eq!(missing, "file: it cannot be read: entity not found\n1 fault");
    let directory = Config::load(&folder.path("secrets"), env).expect_err("refused").to_string();
    assert_eq!(directory, "file: it is not a file\n1 fault");
    assert_eq!(refusal(&folder, b"\xff"), "file: it is not text (UTF-8)\n1 fault");
    let empty = "file: it is empty; config.example.yaml shows what belongs into it\n1 fault";
    assert_eq!(refusal(&folder, b""), empty);
    assert_eq!(refusal(&folder, b"# nothing but a comment\n"), empty);
    let large = refusal(&folder, &b"# large\n".repeat(200_000));
    assert_eq!(large, "file: it is larger than 1 MiB, which no configuration is\n1 fault");
}

#[test]
fn the_smallest_file_that_loads_has_a_provider_an_api_a_store_and_a_key() {
    let config = Folder::new().config(&smallest_and(""));
    assert!(config.admin.is_none());
    assert_eq!(config.proxy.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.health.bind.to_string(), "127.0.0.1:9091");
    assert_eq!(config.proxy.apis.first().map(|api| api.routes.len()), Some(1), "everything may be called");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    drop(Folder::new().config(&format!("\u{feff}{}", smallest_and(""))));
}

#[test]
fn the_files_that_were_read_are_listed_to_be_watched() {
    let folder = Folder::new();
    let config = folder.config(&smallest_and("admin: {key: {file: secrets/admin.key}}\n"));
    assert_eq!(config.files, [folder.path("secrets/admin.key"), folder.path("secrets/seal.key")]);
}

#[test]
fn the_line_break_at_the_end_of_a_secret_file_is_not_part_of_the_secret() {
    let config = Folder::new().config(&smallest_and("admin: {key: {file: secrets/admin.key}}\n"));
    let key = config.admin.and_then(|admin| admin.key).expect("a key");
    assert!(key.matches(b"CANARY-admin.key-0123456789"));
}

#[test]
fn a_check_says_what_load_would() {
    let folder = Folder::new();
    let path = folder.path("config.yaml").display().to_string();
    assert_eq!(folder.report(&smallest_and("")), format!("{path} is fine: providers: 1, apis: 1, store: embedded"));
    let faulty = folder.report(&smallest_and("proxi: {}\n"));
    let expected = "proxi: there is no such key here; did you mean proxy? (line 4, column 1)\n1 fault in ";
    assert_eq!(faulty, format!("{expected}{path}"));
}

#[test]
fn nothing_of_a_secret_is_in_the_debug_output_of_a_configuration() {
    let folder = Folder::new();
    let shown = format!("{:#?}", folder.config(&super::example()));
    assert!(!shown.contains(super::CANARY), "{shown}");
    assert!(!shown.contains("PRIVATE KEY"));
}

#[test]
fn no_text_makes_the_reading_panic() {
    let folder = Folder::new();
    let example = super::example();
    let mut at = 0;
    for cut in example.char_indices().map(|(index, _)| index).step_by(97) {
        let _ = folder.load(&example[..cut]);
        let _ = folder.load(&format!("{}{}", &example[..at], &example[cut..]));
        at = cut;
    }
}
