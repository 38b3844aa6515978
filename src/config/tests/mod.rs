//! The configuration against real files: the example, the fixtures, secrets in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::fault::{Faults, Warning};
use super::{Config, check};

mod example;
mod fixtures;
mod keys;
mod loading;
mod profiles;

/// Every secret of the tests begins with this, and no fault or warning may hold it.
const CANARY: &str = "CANARY-";

/// A folder with secrets in it, and an environment.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(folder.path("secrets")).expect("a folder in it");
        for name in ["admin.key", "redis.password", "client.secret"] {
            folder.write(&format!("secrets/{name}"), format!("{CANARY}{name}-0123456789\n").as_bytes(), 0o600);
        }
        let key = "Q0FOQVJZLTAxMjM0NTY3ODlhYmNkZWZnaGlqa2xtbm8=\n"; // CANARY-0123456789abcdefghijklmno
        folder.write("secrets/seal.key", key.as_bytes(), 0o600);
        folder.write("secrets/short.key", b"Q0FOQVJZLTAxMjM=\n", 0o600);
        folder.write("secrets/garbled.key", b"CANARY-!!!!\n", 0o600);
        folder.write("secrets/empty", b"", 0o600);
        folder.write("secrets/blank", b"\n\n", 0o600);
        folder.write("secrets/binary", b"\xff\xfe", 0o600);
        folder.write("secrets/two-lines", b"CANARY-one\nCANARY-two\n", 0o600);
        folder.write("secrets/large", &vec![b'x'; 65 * 1024], 0o600);
        folder.write("secrets/open", b"CANARY-open-for-everybody", 0o644);
        let signing = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        folder.write("secrets/signing.key", signing.as_bytes(), 0o600);
        folder.write_identity("tls");
        folder.write_identity("other");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.path(name);
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode is set");
    }

    fn write_identity(&self, name: &str) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["tpp.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("signs").pem();
        self.write(&format!("secrets/{name}.crt"), certificate.as_bytes(), 0o644);
        self.write(&format!("secrets/{name}.key"), key.serialize_pem().as_bytes(), 0o600);
    }

    fn load(&self, yaml: &str) -> Result<(Config, Vec<Warning>), Faults> {
        self.write("config.yaml", yaml.as_bytes(), 0o644);
        Config::load(&self.path("config.yaml"), env)
    }

    /// Loads what has to be fine.
    fn config(&self, yaml: &str) -> Config {
        match self.load(yaml) {
            Ok((config, _)) => config,
            Err(faults) => panic!("{faults}"),
        }
    }

    fn report(&self, yaml: &str) -> String {
        self.write("config.yaml", yaml.as_bytes(), 0o644);
        check(&self.path("config.yaml"), env).to_string()
    }
}

fn env(name: &str) -> Option<String> {
    let value = match name {
        "HOSTNAME" => "replica-1".to_owned(),
        "NORSK_GJELD_SECRET" | "ABN_API_KEY" | "SECRET" => format!("{CANARY}{name}"),
        "EMPTY" => String::new(),
        "SPLITTING" => format!("{CANARY}a\r\nX-Injected: b"),
        _ => return None,
    };
    Some(value)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example() -> String {
    fs::read_to_string(repository().join("config.example.yaml")).expect("the example is there")
}

/// The smallest configuration that works, with more lines at its end.
fn smallest_and(more: &str) -> String {
    format!(
        "store: {{embedded: {{path: consentry.redb}}, seal: {{keys: [{{id: a, key: {{file: secrets/seal.key}}}}]}}}}\n\
         providers: {{bank: {{token_endpoint: \"https://bank.example/token\", client_id: tpp, client_auth: {{method: none}}}}}}\n\
         apis: {{accounts: {{path: /accounts, upstream: \"https://api.bank.example\", provider: bank}}}}\n\
         {more}"
    )
}
