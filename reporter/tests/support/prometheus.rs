//! A Prometheus that says what the test wants.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

pub const STEP: i64 = 300;

/// How it answers for ranges.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    /// Each subject has a value at each step after this time.
    Well { since: i64 },
    /// Not there.
    Away,
    /// This text, with status 200.
    Says(String),
    /// Never an end.
    Endless,
    /// Never a beginning.
    Hung,
    /// As well, but only for so many steps.
    AtMost { steps: i64, since: i64 },
}

#[derive(Clone)]
pub struct Fake {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    mood: Mutex<Mood>,
    hosts: Mutex<Vec<String>>,
    services: Mutex<Vec<(String, String)>>,
    mountpoints: Mutex<Vec<String>>,
    asked: AtomicU64,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let names = |all: &[(&str, &str)]| all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let inner = Arc::new(Inner {
            mood: Mutex::new(Mood::Well { since: 0 }),
            hosts: Mutex::new(vec!["pi".to_owned()]),
            services: Mutex::new(names(&[("shop", "web"), ("shop", "db"), ("", "pihole")])),
            mountpoints: Mutex::new(vec!["/".to_owned()]),
            asked: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/api/v1/query", get(time))
            .route("/api/v1/query_range", get(range))
            .with_state(Arc::clone(&inner));
        tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
        Self { url, inner }
    }

    pub fn mood(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap() = mood;
    }

    pub fn services(&self, services: &[(&str, &str)]) {
        let names = services.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        *self.inner.services.lock().unwrap() = names.collect();
    }

    pub fn hosts(&self, hosts: &[&str]) {
        *self.inner.hosts.lock().unwrap() = hosts.iter().map(|name| (*name).to_owned()).collect();
    }

    pub fn mountpoints(&self, mountpoints: &[&str]) {
        *self.inner.mountpoints.lock().unwrap() = mountpoints.iter().map(|name| (*name).to_owned()).collect();
    }

    pub fn asked(&self) -> u64 {
        self.inner.asked.load(Ordering::Relaxed)
    }
}

async fn time(State(fake): State<Arc<Inner>>) -> Response {
    if *fake.mood.lock().unwrap() == Mood::Away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let now = jiff::Timestamp::now().as_second();
    json!({"status": "success", "data": {"resultType": "scalar", "result": [now, now.to_string()]}})
        .to_string()
        .into_response()
}

#[derive(serde::Deserialize)]
struct Asked {
    query: String,
    start: i64,
    end: i64,
    step: i64,
}

async fn range(State(fake): State<Arc<Inner>>, Query(asked): Query<Asked>) -> Response {
    fake.asked.fetch_add(1, Ordering::Relaxed);
    assert_eq!((asked.step, asked.start % STEP, asked.end % STEP), (STEP, 0, 0));
    let mood = fake.mood.lock().unwrap().clone();
    let since = match mood {
        Mood::Well { since } => since,
        Mood::Away => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Says(text) => return text.into_response(),
        Mood::Endless => {
            let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(" ".repeat(65_536)));
            return Body::from_stream(chunks).into_response();
        }
        Mood::Hung => std::future::pending().await,
        Mood::AtMost { steps, since } => {
            if (asked.end - asked.start) / STEP >= steps {
                let error = json!({"status": "error", "errorType": "execution",
                                   "error": "query processing would load too many samples into memory in query execution"});
                return (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response();
            }
            since
        }
    };
    let values: Vec<Value> = (asked.start..=asked.end)
        .step_by(STEP as usize)
        .filter(|at| *at > since)
        .map(|at| json!([at, format!("{}", value(at))]))
        .collect();
    let mut series = Vec::new();
    for host in fake.hosts.lock().unwrap().iter() {
        if asked.query.contains("mountpoint") {
            for mountpoint in fake.mountpoints.lock().unwrap().iter() {
                series.push(
                    json!({"host": host, "mountpoint": mountpoint, "device": "/dev/mmcblk0p2", "fstype": "ext4"}),
                );
            }
        } else if asked.query.contains("project") {
            for (project, service) in fake.services.lock().unwrap().iter() {
                series.push(json!({"host": host, "project": project, "service": service}));
            }
        } else {
            series.push(json!({"host": host}));
        }
    }
    let result: Vec<Value> = series
        .into_iter()
        .filter(|_| !values.is_empty())
        .map(|metric| json!({"metric": metric, "values": values}))
        .collect();
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string().into_response()
}

/// What every series says at a time: a ratio and a number of bytes alike.
pub fn value(at: i64) -> f64 {
    (at / STEP % 100) as f64 / 100.0
}
