//! Witnesses that say to everybody that they have too much to do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every HTTP request alike; returns the port.
pub async fn http(status: &str, body: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let _ = stream.write_all(answer.as_bytes()).await;
                // Ends well, even though the request may have a body that was not read.
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    port
}

/// A member of an etcd that refuses every transaction as etcd does under too much load; returns the port.
pub async fn etcd() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // A gRPC answer without a message: its status is in the headers. Everything else is not found.
    let busy = async || {
        axum::http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "8")
            .header("grpc-message", "etcdserver: too many requests")
            .body(axum::body::Body::empty())
            .expect("an answer")
    };
    let router = axum::Router::new().route("/etcdserverpb.KV/Txn", axum::routing::post(busy));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}
