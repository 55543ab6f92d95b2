//! Clients of the API.

use crate::running::Running;
use netd::api::{Client, Server, Shared as Api, serve};
use netd::balancer::Balancer;
use netd::recorder::Captures;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;

pub fn api(running: &Running, dir: &TempDir) -> Client {
    let socket = dir.path().join("run/netd.sock");
    let shared = Api {
        reports: running.reports.clone(),
        requests: running.requests.clone(),
        store: Arc::clone(&running.store),
        traffic: Arc::new(|| Err("the counters are away".into())),
        flows: Arc::new(|_| Ok(Vec::new())),
        decap: Arc::new(|| Ok(None)),
        translation: Arc::new(|_| Ok(())),
        tables: Arc::new(|_| Ok(std::collections::BTreeMap::new())),
        explain: Arc::new(|packet, _| Box::pin(async move { Err(format!("nothing takes {packet}")) })),
        captures: Arc::new(Captures::new(Arc::new(Balancer::in_memory()), dir.path().join("captures"))),
    };
    tokio::spawn(serve(Server::bind(&socket).unwrap(), Arc::new(shared)));
    Client::new(&socket)
}

/// What a client of any kind sees: the status, and the body.
pub async fn raw(dir: &TempDir, line: &str, headers: &str, body: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(dir.path().join("run/netd.sock")).await.unwrap();
    let request =
        format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    // The server may answer, and close, before it has read all of a body that is too long.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

pub async fn get(client: &Client, path: &str) -> Value {
    serde_json::from_slice(&client.get(path).await.unwrap().unwrap()).unwrap()
}

pub async fn post(client: &Client, path: &str, body: &Value) -> Value {
    serde_json::from_slice(&client.post(path, body).await.unwrap().unwrap()).unwrap()
}
