//! A server that says it is of some version, writes down what it is told, and answers from a list: for what a real server of
//! this machine's version cannot do.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct ScriptedRedis {
    port: u16,
    commands: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

type Answers = Arc<Vec<(&'static str, String)>>;

impl ScriptedRedis {
    /// Answers each named command with these bytes, HELLO with this version, INFO with a refusal, and all else with OK.
    pub(crate) async fn start(version: &str, answers: &[(&'static str, String)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut answers = answers.to_vec();
        let length = version.len();
        answers.push((
            "HELLO",
            format!("*4\r\n$7\r\nversion\r\n${length}\r\n{version}\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"),
        ));
        answers.push(("INFO", "-NOPERM no\r\n".into()));
        let (answers, commands) = (Arc::new(answers), Arc::<Mutex<Vec<String>>>::default());
        let written = Arc::clone(&commands);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&answers), Arc::clone(&written)));
            }
        });
        Self { port, commands, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it was told, a command a line.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.commands.lock().unwrap().clone()
    }
}

impl Drop for ScriptedRedis {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, answers: Answers, commands: Arc<Mutex<Vec<String>>>) {
    let mut client = BufReader::new(client);
    while let Some(words) = command(&mut client).await {
        let answer = answers.iter().find(|(name, _)| words[0] == *name).map_or("+OK\r\n", |(_, answer)| answer);
        commands.lock().unwrap().push(words.join(" "));
        if client.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next command, an array of texts; `None` at the end.
async fn command(client: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(client, '*').await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(client, '$').await? + 2];
        client.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    Some(words)
}

async fn number(client: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(kind)?.parse().ok()
}
