//! The pages in a real browser: `NEXUS_BROWSER=1 cargo test -p nexus-reporter --test browser`.
//!
//! Headless Chromium shows each page in frames as wide as a phone and as a desk, light and dark, and a script that only this test
//! serves measures them: nothing is wider than its screen, nothing is too small for a finger, nothing breaks the policy of what may
//! be loaded, and axe-core (from npm, where that can be had) finds nothing that keeps anybody out. Without NEXUS_BROWSER, or
//! where there is no Chromium, every case is reported as ignored, with the reason. NEXUS_BROWSER=PROGRAM takes one that is not on the
//! PATH. NEXUS_SCREENSHOTS=FOLDER keeps pictures. `./nexus test e2e` runs it wherever there is a Chromium.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tower::ServiceExt;

#[path = "page/standin.rs"]
mod standin;

use standin::{INCIDENT, Seen, app, router, serve};

/// Telephones, and a desk.
const WIDTHS: [u32; 2] = [360, 1280];
/// For one run of the browser.
const PATIENCE: &str = "60";
const AXE: &str = "axe-core@4.14.1";
/// What Debian, Raspberry Pi OS, Ubuntu and Google call it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// The one that is used.
static BROWSER: OnceLock<String> = OnceLock::new();

fn pages() -> [(&'static str, String); 4] {
    [
        ("status", "/".into()),
        ("incidents", "/incidents".into()),
        ("incident", format!("/incidents/{INCIDENT}")),
        ("service", "/services/photos/import".into()),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let ready = prepare();
    if let (Err(why), false) = (&ready, arguments.list) {
        eprintln!("the pages are not looked at in a browser: {why}");
    }
    let axe = ready.as_ref().map_err(Clone::clone).and_then(|_| axe());
    if let (Ok(_), Err(why)) = (&ready, &axe) {
        eprintln!("the pages are not looked at by axe-core: {why}");
    }
    let mut trials = Vec::new();
    for (name, path) in pages() {
        for dark in [false, true] {
            let light = if dark { "dark" } else { "light" };
            let (at, no_script) = (path.clone(), axe.clone().unwrap_or_default());
            let case = Trial::test(format!("{name}_fits_and_loads_nothing_{light}"), move || case(&at, dark, ""));
            trials.push(case.with_ignored_flag(ready.is_err()));
            let at = path.clone();
            let case =
                Trial::test(format!("{name}_is_open_to_everybody_{light}"), move || case_axe(&at, dark, &no_script));
            trials.push(case.with_ignored_flag(axe.is_err()));
        }
    }
    if let (Some(folder), true) = (std::env::var_os("NEXUS_SCREENSHOTS"), ready.is_ok()) {
        let folder = PathBuf::from(folder);
        trials.push(Trial::test("pictures", move || pictures(&folder)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn prepare() -> Result<(), String> {
    let wanted = std::env::var("NEXUS_BROWSER").map_err(|_| "NEXUS_BROWSER is not set".to_owned())?;
    let candidates: Vec<&str> = if wanted == "1" { BROWSERS.to_vec() } else { vec![wanted.as_str()] };
    let runs = |program: &&&str| {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let found = candidates
        .iter()
        .find(runs)
        .ok_or_else(|| format!("there is no {} here (Debian's package chromium)", candidates.join(", nor ")))?;
    BROWSER.get_or_init(|| (*found).to_owned());
    Ok(())
}

/// The text of axe-core, installed below the build's own folder.
fn axe() -> Result<String, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let npm = Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .arg(AXE)
            .output();
        let npm = npm.map_err(|error| format!("npm can't be run: {error}"))?;
        if !npm.status.success() {
            return Err(format!("npm: {}", String::from_utf8_lossy(&npm.stderr).trim()));
        }
    }
    std::fs::read_to_string(script).map_err(|error| error.to_string())
}

/// The site as it is, and beside it what measures it: the same pages without the headers that forbid frames and scripts, so that the
/// measuring page may look into them.
async fn site(axe: String) -> String {
    let pages = router(app(&Seen::default()).await);
    let inner = pages.clone();
    let framed = move |request: Request<Body>| {
        let inner = inner.clone();
        async move {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let path = path.strip_prefix("/framed").unwrap_or(path).to_owned();
            let answer = inner.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            let (mut parts, body) = answer.into_parts();
            parts.headers.remove(header::CONTENT_SECURITY_POLICY);
            parts.headers.remove(header::X_FRAME_OPTIONS);
            Response::from_parts(parts, Body::from(to_bytes(body, 1 << 24).await.unwrap())).into_response()
        }
    };
    let beside = Router::new()
        .route("/measure.html", get(async || Html(include_str!("page/measure.html"))))
        .route("/axe.js", get(async move || ([(header::CONTENT_TYPE, "text/javascript")], axe)))
        .route("/framed/{*path}", get(framed.clone()))
        .route("/framed/", get(framed));
    let beside = beside.fallback_service(pages);
    format!("http://{}", serve(beside).await)
}

fn with_site<T>(axe: &str, look: impl FnOnce(&str) -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let axe = axe.to_owned();
    runtime.block_on(async move {
        let base = site(axe).await;
        tokio::task::spawn_blocking(move || look(&base)).await.unwrap()
    })
}

/// Chromium with a profile of its own. It fetches nothing but what it is asked for.
fn chromium(dark: bool, arguments: &[String]) -> Result<(String, String), Failed> {
    let profile = tempfile::tempdir()?;
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    let program = BROWSER.get().ok_or("no browser was looked for")?;
    let output = Command::new("timeout")
        .args(["--kill-after=5", PATIENCE, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--hide-scrollbars", &scheme])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Err(format!("chromium ended with {}: {said}", output.status).into());
    }
    Ok((out, said))
}

/// What the measuring page found, for each width.
fn measure(base: &str, path: &str, dark: bool, axe: bool) -> Result<Vec<Value>, Failed> {
    let widths = WIDTHS.map(|width| width.to_string()).join(",");
    let url = format!("{base}/measure.html#{widths} {} /framed{path}", if axe { "axe" } else { "plain" });
    let (dom, _) = chromium(dark, &["--virtual-time-budget=30000".into(), "--dump-dom".into(), url])?;
    let found = dom.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let found = found.ok_or_else(|| format!("nothing was measured: {dom}"))?.0;
    let json = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    Ok(serde_json::from_str(&json).map_err(|error| format!("{error}: {json}"))?)
}

fn case(path: &str, dark: bool, axe: &str) -> Result<(), Failed> {
    let path = path.to_owned();
    with_site(axe, move |base| {
        // As it is served: the browser tells of all that it refused to load.
        let (dom, said) = chromium(dark, &["--dump-dom".into(), format!("{base}{path}")])?;
        if !dom.contains("<main id=\"main\">") || dom.contains("<script") || dom.contains("just now</h1>") {
            return Err(format!("not the page: {dom}").into());
        }
        let refused: Vec<&str> =
            said.lines().filter(|line| line.contains("Content Security Policy") || line.contains("CONSOLE")).collect();
        if !refused.is_empty() {
            return Err(format!("the browser minds: {refused:?}").into());
        }
        for found in measure(base, &path, dark, false)? {
            let number = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
            if number("needs") > number("width") {
                return Err(format!("it is wider than its screen: {found}").into());
            }
            if found["dark"] != dark {
                return Err(format!("the background is not as the reader wants it: {found}").into());
            }
            if !(number("charts") == 0.0 || number("flat") == 0.0) {
                return Err(format!("a chart has no height: {found}").into());
            }
            if number("empty") > 0.0 {
                return Err(format!("a chart shows no line: {found}").into());
            }
        }
        Ok(())
    })
}

fn case_axe(path: &str, dark: bool, axe: &str) -> Result<(), Failed> {
    let path = path.to_owned();
    with_site(axe, move |base| {
        for found in measure(base, &path, dark, true)? {
            if found["checks"].as_u64().unwrap_or_default() < 10 {
                return Err(format!("axe-core has hardly looked: {found}").into());
            }
            if !found["violations"].as_array().is_some_and(Vec::is_empty) {
                return Err(format!("at {} px: {:#}", found["width"], found["violations"]).into());
            }
        }
        Ok(())
    })
}

fn pictures(folder: &Path) -> Result<(), Failed> {
    std::fs::create_dir_all(folder)?;
    let folder = Arc::new(folder.canonicalize()?);
    with_site("", move |base| {
        for (name, path) in pages() {
            // Headless Chromium makes no window as narrow as a telephone; the measuring page's frame is.
            for (form, size, dark) in [("desk", "1100,900", false), ("phone", "500,1050", true)] {
                let file = folder.join(format!("{name}-{form}.png"));
                chromium(
                    dark,
                    &[
                        format!("--screenshot={}", file.display()),
                        format!("--window-size={size}"),
                        format!("{base}{path}"),
                    ],
                )?;
            }
        }
        Ok(())
    })
}
