//! Health and numbers by HTTP.

use super::metrics::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;

/// `/healthz`, while the process lives; `/readyz`, while the file says what the objects say; `/metrics`.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let ready = Arc::clone(&metrics);
    let ready = move || async move {
        match ready.is_ready() {
            true => (StatusCode::OK, "ok\n"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "the file is not yet what the objects say\n"),
        }
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let page = move || async move { ([(header::CONTENT_TYPE, kind)], metrics.page()) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(page));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "health and numbers are no longer served");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Written;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_is_ready_while_the_file_is_what_the_objects_say() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let server = tokio::spawn(serve(listener, Arc::clone(&metrics)));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        metrics.objects(3, true);
        metrics.written(Some(Written::Changed), Duration::from_millis(5));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let page = get(address, "/metrics").await;
        assert!(page.contains("netd_kubernetes_objects 3\n"), "{page}");
        assert!(page.contains("netd_kubernetes_writes_total 1\n"), "{page}");
        metrics.written(None, Duration::from_millis(5));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        server.abort();
    }
}
