//! What the API answers, to whom, and what it takes.

use crate::client::{api, get, raw};
use crate::running::{FILE, Running};
use crate::world::text;
use netd::report::Word;
use serde_json::{Value, json};
use tempfile::TempDir;

#[tokio::test]
async fn the_api_answers_what_the_commands_ask() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let status = get(&client, "/v1/status?verbose=true").await;
    assert_eq!(status["word"], "ok");
    assert_eq!(status["resources"].as_array().unwrap().len(), 2);
    *running.file.lock().unwrap() = text(&FILE.replace("10.1.0.2", "10.1.0.3"));
    let plan = get(&client, "/v1/plan").await;
    assert_eq!(plan["plan"]["steps"][0]["key"], "192.0.2.10:80/tcp");
    let plan = get(&client, "/v1/plan?text=plain").await;
    assert_eq!(plan["is_empty"], false);
    assert_eq!(get(&client, "/v1/history").await[0]["number"], 1);
    assert_eq!(client.get("/v1/history/1").await.unwrap().unwrap(), FILE.as_bytes());
    assert!(client.get("/v1/history/9").await.is_err());
    *running.file.lock().unwrap() = text("version = 7\n");
    assert!(client.get("/v1/plan").await.unwrap_err().to_string().contains("version"));
    running.end().await;
}

#[tokio::test]
async fn a_misspelt_word_in_a_request_applies_nothing() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let number = running.reports.borrow().pass.number;
    let error = client.post("/v1/apply", &json!({ "alow": "x" })).await.unwrap_err();
    assert!(error.to_string().contains("alow"), "{error}");
    assert!(client.get("/v1/status?verbos=true").await.is_err());
    assert_eq!(running.reports.borrow().pass.number, number);
    running.end().await;
}

#[tokio::test]
async fn every_error_of_the_api_is_an_object_that_says_why() {
    let dir = TempDir::new().unwrap();
    let running = Running::start();
    let _client = api(&running, &dir);
    let json = "content-type: application/json\r\n";
    let long = format!("{{\"allow\": \"{}\"}}", "x".repeat(100_000));
    for (status, line, headers, body) in [
        (400, "POST /v1/apply", json, "{"),
        (400, "GET /v1/history/first", "", ""),
        (404, "GET /v1/history/9", "", ""),
        (404, "GET /v1/nothing", "", ""),
        (405, "GET /v1/apply", "", ""),
        (413, "POST /v1/apply", json, long.as_str()),
        (415, "POST /v1/apply", "", "{}"),
        (422, "POST /v1/explain", json, "{\"packet\": \"nonsense\"}"),
        (500, "GET /v1/services", "", ""),
    ] {
        let (code, answer) = raw(&dir, line, headers, body).await;
        assert_eq!(code, status.to_string(), "{line}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(!answer["error"].as_str().unwrap().is_empty(), "{line}");
    }
    running.end().await;
}

#[tokio::test]
async fn the_history_marks_what_is_in_force_and_reports_carry_their_version() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    let client = api(&running, &dir);
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    running.write(&FILE.replace("10.1.0.2", "10.1.0.3"));
    running.report(|report| report.config.in_force.as_ref().is_some_and(|now| now.number == 2)).await;
    let history = get(&client, "/v1/history").await;
    let marks = history.as_array().unwrap().iter().map(|entry| (&entry["number"], &entry["in_force"]));
    assert!(marks.clone().any(|mark| mark == (&json!(1), &json!(false))), "{history}");
    assert!(marks.clone().any(|mark| mark == (&json!(2), &json!(true))), "{history}");
    assert_eq!(get(&client, "/v1/status").await["version"], 1);
    assert_eq!(get(&client, "/v1/plan").await["version"], 1);
    running.end().await;
}

#[tokio::test]
async fn x18_long_bodies_idle_clients_and_nonsense_do_not_hurt() {
    let dir = TempDir::new().unwrap();
    let mut running = Running::start();
    running.write(FILE);
    running.report(|report| report.word == Word::Ok).await;
    let client = api(&running, &dir);
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(tokio::net::UnixStream::connect(dir.path().join("run/netd.sock")).await.unwrap());
    }
    let long = json!({ "allow": "x".repeat(100_000) });
    assert!(client.post("/v1/apply", &long).await.is_err());
    assert!(client.post("/v1/apply", &json!({ "allow": 7 })).await.is_err());
    assert_eq!(get(&client, "/v1/status").await["word"], "ok");
    running.end().await;
}

#[tokio::test]
async fn x18_the_socket_is_for_its_owner_and_the_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let running = Running::start();
    let _client = api(&running, &dir);
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("run"), mode("run/netd.sock")), (0o750, 0o660));
    running.end().await;
}
