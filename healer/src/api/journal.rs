//! The journal as a file, for `./nexus backup`.

use std::{fs::File, io::Read as _};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::unreadable;
use crate::server::{App, Problem};

pub const SQLITE: &str = "application/vnd.sqlite3";
/// Read at once: little beside the healer's memory, much beside what a read costs.
const CHUNK: usize = 128 * 1024;

pub async fn copy(State(app): State<App>) -> Result<Response, Problem> {
    let file = app.journal.copy().await.map_err(unreadable)?;
    let length = file.metadata().map_err(|error| {
        Problem(StatusCode::SERVICE_UNAVAILABLE, format!("the copy of the journal can't be looked at: {error}"))
    })?;
    // Announced, so that who gets less knows.
    let heads = [(header::CONTENT_TYPE, SQLITE.to_owned()), (header::CONTENT_LENGTH, length.len().to_string())];
    Ok((heads, Body::from_stream(stream::try_unfold(file, next))).into_response())
}

/// The next part of a file, read where it holds nobody up.
async fn next(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let read = move || {
        let mut part = vec![0; CHUNK];
        let length = file.read(&mut part)?;
        part.truncate(length);
        Ok((length > 0).then(|| (Bytes::from(part), file)))
    };
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}
