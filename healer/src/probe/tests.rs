use std::future::Future;

use nexus_docker::{Published, StopCause, Watched};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{at, container, wall};

/// What the healer's container shows: its default route, its own network 172.20.0.0/16 and another, 172.21.0.0/16.
const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010014AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000014AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t000015AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";

fn target(text: &str) -> ProbeTarget {
    ProbeTarget::parse(text).unwrap()
}

#[test]
fn only_networks_without_a_gateway_are_shared() {
    let networks = Networks::parse(ROUTES);
    for (address, expected) in
        [("172.20.0.3", true), ("172.21.9.9", true), ("172.19.0.2", false), ("8.8.8.8", false), ("127.0.0.1", false)]
    {
        assert_eq!(networks.contain(address.parse().unwrap()), expected, "{address}");
    }
    assert_eq!(networks.host(Some("gateway")).as_deref(), Some("172.20.0.1"));
    assert_eq!(networks.host(Some("pi.local")).as_deref(), Some("pi.local"));
    assert_eq!(networks.host(None), None);
    assert_eq!(Networks::default().host(Some("gateway")), None);
    assert_eq!(Networks::parse(""), Networks::default());
    assert_eq!(Networks::parse("x\ny z\neth0 1 2\n\u{e9} zz zz 0 0 0 0 zz"), Networks::default());
}

#[test]
fn a_container_is_reached_in_a_network_with_us_or_at_a_published_port() {
    let networks = Networks::parse(ROUTES);
    let published = |port, host: &str, host_port| Published { port, host: host.parse().unwrap(), host_port };
    let check = |change: &dyn Fn(&mut Container), expected: Result<(Place, Kind), &str>| {
        let mut own = container();
        own.addresses = vec!["172.19.0.2".parse().unwrap()];
        change(&mut own);
        let vpn = Container {
            id: "vpn".into(),
            addresses: vec!["172.20.0.9".parse().unwrap()],
            published: vec![published(8080, "0.0.0.0", 1)],
            ..container()
        };
        let watched =
            Watched { container: vpn.into(), stop: StopCause::Unknown, has_been_healthy: false, oom_events: 0 };
        let snapshot = Snapshot { containers: [("vpn".to_owned(), watched)].into(), ..Snapshot::default() };
        let found = way(8080, &own, &snapshot, &networks);
        match expected {
            Ok((to, kind)) => assert_eq!(found, Ok(Way { to, kind })),
            Err(part) => assert!(found.as_ref().is_err_and(|why| why.contains(part)), "{found:?} lacks {part}"),
        }
    };
    let address = |text: &str| Place::Address(text.parse().unwrap());
    check(&|_| (), Err("not published"));
    check(&|it| it.published = vec![published(80, "0.0.0.0", 8080)], Err("not published"));
    check(&|it| it.published = vec![published(8080, "127.0.0.1", 8081)], Err("on 127.0.0.1 alone"));
    check(&|it| it.published = vec![published(8080, "0.0.0.0", 18080)], Ok((Place::Host(18080), Kind::Published)));
    check(&|it| it.published = vec![published(8080, "::", 18080)], Ok((Place::Host(18080), Kind::Published)));
    check(
        &|it| it.published = vec![published(8080, "127.0.0.1", 1), published(8080, "192.168.1.5", 2)],
        Ok((address("192.168.1.5:2"), Kind::Published)),
    );
    let shared = |it: &mut Container| it.addresses.push("172.20.0.3".parse().unwrap());
    check(&shared, Ok((address("172.20.0.3:8080"), Kind::Direct)));
    check(&|it| it.network_mode = "host".into(), Ok((Place::Host(8080), Kind::HostNetwork)));
    check(&|it| it.network_mode = "container:vpn".into(), Ok((address("172.20.0.9:8080"), Kind::Direct)));
    check(&|it| it.network_mode = "container:gone".into(), Err("not known"));
}

/// A server that does this with each connection, and what a probe of it says.
async fn asked<F>(text: &str, kind: Kind, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let answer = ask(&target(text), &Way { to: Place::Address(address), kind }, None).await;
    serving.abort();
    answer
}

async fn says(mut stream: TcpStream, text: &str) {
    let mut read = [0; 512];
    _ = stream.read(&mut read).await;
    _ = stream.write_all(text.as_bytes()).await;
}

#[tokio::test]
async fn the_status_decides_and_nothing_behind_it_is_waited_for() {
    let http = "http://:80/healthz?full=1";
    let check = async |text: &'static str, answer: &'static str, expected: Answer| {
        let found = asked(text, Kind::Direct, move |stream| says(stream, answer)).await;
        assert_eq!(found, expected, "{text}: {answer:?}");
    };
    let failed = |text: &str| Answer::Failed(text.to_owned());
    check(http, "HTTP/1.1 200 OK\r\n\r\n", Answer::Well).await;
    check(http, "HTTP/1.0 204\r\n", Answer::Well).await;
    check(http, "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n", Answer::Well).await;
    check(http, "HTTP/1.1 500 Oh\r\n\r\n", failed("port 80 answers /healthz with 500, not 200-399")).await;
    check("http://:80/ expect=401", "HTTP/1.1 401 Who\r\n\r\n", Answer::Well).await;
    check("http://:80/ expect=401", "HTTP/1.1 200 OK\r\n\r\n", failed("port 80 answers / with 200, not 401")).await;
    check(http, "", failed("port 80 closes the connection without an answer")).await;
    check(http, "HTTP/1.1 200", failed("port 80 closes the connection without an answer")).await;
    for nonsense in ["SSH-2.0-x\r\n", "HTTP/2 200\r\n", "HTTP/1.1 abc\r\n", "HTTP/1.1\r\n", "\u{1}\u{2}\n", "\n"] {
        check(http, nonsense, failed("port 80 answers with something that is no HTTP")).await;
    }
}

#[tokio::test]
async fn the_request_is_one_that_every_server_understands() {
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let serve = move |mut stream: TcpStream| {
        let heard = heard.clone();
        async move {
            let mut read = vec![0; 2048];
            let length = stream.read(&mut read).await.unwrap();
            heard.send(String::from_utf8_lossy(&read[..length]).into_owned()).unwrap();
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    };
    assert_eq!(asked("http://:80/a?b=c", Kind::Published, serve).await, Answer::Well);
    let request = hears.recv().await.unwrap();
    assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n"), "{request}");
    assert!(request.ends_with("Connection: close\r\n\r\n"), "{request}");
}

#[tokio::test]
async fn one_that_hangs_drips_or_never_ends_is_bounded() {
    let began = std::time::Instant::now();
    let hangs = async |mut stream: TcpStream| {
        _ = stream.read(&mut [0; 512]).await;
        std::future::pending::<()>().await;
    };
    let drips = async |mut stream: TcpStream| {
        while stream.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Faster than anybody reads, and without an end of the line.
    let floods = async |mut stream: TcpStream| while stream.write_all(&[b'x'; 65_536]).await.is_ok() {};
    let endless_headers = async |mut stream: TcpStream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"X-More: and more\r\n").await.is_ok() {}
    };
    let http = "http://:80/";
    let (hung, dripped, flooded, endless, held) = tokio::join!(
        asked(http, Kind::Direct, hangs),
        asked(http, Kind::Direct, drips),
        asked(http, Kind::Direct, floods),
        asked(http, Kind::Direct, endless_headers),
        asked("tcp://:80", Kind::Published, hangs),
    );
    let late = Answer::Failed("no answer at port 80 within 3 s".to_owned());
    assert_eq!((hung, dripped), (late.clone(), late));
    assert_eq!(flooded, Answer::Failed("port 80 answers with something that is no HTTP".to_owned()));
    assert_eq!((endless, held), (Answer::Well, Answer::Well));
    assert!(began.elapsed() < DEADLINE + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_that_docker_takes_and_closes_is_none() {
    let closes = async |stream: TcpStream| drop(stream);
    let found = asked("tcp://:80", Kind::Published, closes).await;
    assert!(matches!(&found, Answer::Failed(why) if why.contains("closes it at once")), "{found:?}");
    // The container itself has taken it: what it does with it then is its own affair.
    assert_eq!(asked("tcp://:80", Kind::Direct, closes).await, Answer::Well);
    let greets = async |mut stream: TcpStream| _ = stream.write_all(b"220 hello\r\n").await;
    assert_eq!(asked("tcp://:80", Kind::Published, greets).await, Answer::Well);
}

#[tokio::test]
async fn what_takes_no_connection_is_ill_only_where_nothing_stands_in_between() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let check =
        async |to: Place, kind: Kind, host: Option<&str>| ask(&target("tcp://:80"), &Way { to, kind }, host).await;
    let to = || Place::Address(address);
    assert!(matches!(check(to(), Kind::Direct, None).await, Answer::Failed(_)));
    assert!(matches!(check(to(), Kind::Published, None).await, Answer::Unknown(_)));
    assert!(matches!(check(to(), Kind::HostNetwork, None).await, Answer::Refused(_)));
    let no_host = check(Place::Host(80), Kind::Published, None).await;
    assert!(matches!(&no_host, Answer::Unknown(why) if why.contains("--probe.host")), "{no_host:?}");
    let no_name = check(Place::Host(80), Kind::Published, Some("host.invalid")).await;
    assert!(matches!(&no_name, Answer::Unknown(why) if why.contains("host.invalid")), "{no_name:?}");
    assert!(matches!(check(Place::Host(address.port()), Kind::Direct, Some("127.0.0.1")).await, Answer::Failed(_)));
}

#[test]
fn it_has_failed_when_it_has_failed_twice() {
    let mut probes = Probes::default();
    let run = wall(-100);
    let failed = || Answer::Failed("no".into());
    let why = || "no".to_owned();
    assert_eq!(probes.fact("c1", run), Probe::Asking);
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(0)).as_secs(), 0);
    probes.answered("c1", run, failed(), &at(0));
    assert_eq!(probes.fact("c1", run), Probe::Doubtful { why: why() });
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(0)).as_secs(), 2);
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(3)).as_secs(), 0);
    probes.answered("c1", run, failed(), &at(3));
    assert_eq!(probes.fact("c1", run), Probe::Failed { why: why(), was_well: false });
    probes.answered("c1", run, Answer::Well, &at(5));
    assert_eq!(probes.fact("c1", run), Probe::Well);
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(6)).as_secs(), 4);
    // One failure between two that are good is none.
    probes.answered("c1", run, failed(), &at(10));
    probes.answered("c1", run, Answer::Well, &at(12));
    assert_eq!(probes.fact("c1", run), Probe::Well);
    probes.answered("c1", run, failed(), &at(14));
    probes.answered("c1", run, failed(), &at(16));
    assert_eq!(probes.fact("c1", run), Probe::Failed { why: why(), was_well: true });
    probes.answered("c1", run, Answer::Unknown("away".into()), &at(18));
    assert_eq!(probes.fact("c1", run), Probe::Unknown { why: "away".into() });
}

#[test]
fn another_run_is_another_matter() {
    let mut probes = Probes::default();
    let (first, second) = (wall(-100), wall(1));
    probes.want("c1", first, Purpose::Trouble, &at(0));
    probes.answered("c1", first, Answer::Well, &at(0));
    assert_eq!(probes.fact("c1", second), Probe::Asking);
    assert_eq!(probes.want("c1", second, Purpose::Trouble, &at(2)).as_secs(), 0);
    // An answer from before comes late.
    probes.answered("c1", first, Answer::Well, &at(2));
    assert_eq!(probes.fact("c1", second), Probe::Asking);
    // It was reached before, so nobody else stands in between.
    for _ in 0..2 {
        probes.answered("c1", second, Answer::Refused("no".into()), &at(4));
    }
    assert_eq!(probes.fact("c1", second), Probe::Failed { why: "no".into(), was_well: false });
    probes.want("c2", first, Purpose::Trouble, &at(4));
    for _ in 0..2 {
        probes.answered("c2", first, Answer::Refused("no".into()), &at(4));
    }
    assert_eq!(probes.fact("c2", first), Probe::Unknown { why: "no".into() });
}

#[test]
fn what_was_said_before_an_alert_is_no_answer_to_it() {
    let mut probes = Probes::default();
    let run = wall(-100);
    probes.outdate("c1", &at(0));
    probes.want("c1", run, Purpose::Trouble, &at(0));
    probes.answered("c1", run, Answer::Well, &at(0));
    probes.outdate("c1", &at(0));
    assert_eq!(probes.fact("c1", run), Probe::Well);
    probes.outdate("c1", &at(1));
    assert_eq!(probes.fact("c1", run), Probe::Asking);
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(1)).as_secs(), 0);
    // It has been well in this run all the same.
    probes.answered("c1", run, Answer::Failed("no".into()), &at(1));
    probes.answered("c1", run, Answer::Failed("no".into()), &at(3));
    assert_eq!(probes.fact("c1", run), Probe::Failed { why: "no".into(), was_well: true });
}

#[test]
fn what_nothing_hangs_on_is_forgotten() {
    let mut probes = Probes::default();
    for id in ["c1", "c2"] {
        probes.want(id, wall(-100), Purpose::Trouble, &at(0));
    }
    let ids = |probes: &Probes| probes.ids().cloned().collect::<Vec<_>>();
    probes.forget(&BTreeSet::new(), |_| true, &at(14));
    assert_eq!(ids(&probes), ["c1", "c2"]);
    probes.forget(&BTreeSet::from(["c2".to_owned()]), |_| true, &at(15));
    assert_eq!(ids(&probes), ["c2"]);
}

#[test]
fn what_was_reached_once_is_known_to_the_next_process_as_long_as_it_exists() {
    let run = wall(-100);
    let refused = |probes: &mut Probes, second: i64| {
        for again in 0..2 {
            probes.answered("c1", run, Answer::Refused("no".into()), &at(second + again));
        }
        probes.fact("c1", run)
    };
    let mut first = Probes::default();
    first.want("c1", run, Purpose::Reach, &at(0));
    first.answered("c1", run, Answer::Well, &at(0));
    // Nothing hangs on it, so it says nothing of it.
    assert_eq!((first.fact("c1", run), first.ids().count()), (Probe::Asking, 0));
    first.forget(&BTreeSet::new(), |_| true, &at(60));
    let mut next = Probes::resume(first.reached().clone());
    next.want("c1", run, Purpose::Trouble, &at(70));
    assert!(matches!(refused(&mut next, 70), Probe::Failed { .. }));
    // Who is created anew may listen elsewhere.
    next.forget(&BTreeSet::from(["c1".to_owned()]), |_| false, &at(80));
    assert!(next.reached().is_empty());
}

#[test]
fn what_was_never_reached_is_asked_now_and_then_and_at_once_when_something_hangs_on_it() {
    let mut probes = Probes::default();
    let run = wall(-100);
    assert_eq!(probes.want("c1", run, Purpose::Reach, &at(0)).as_secs(), 0);
    probes.answered("c1", run, Answer::Refused("no".into()), &at(0));
    assert_eq!(probes.want("c1", run, Purpose::Reach, &at(10)).as_secs(), 290);
    assert_eq!(probes.want("c1", run, Purpose::Trouble, &at(11)).as_secs(), 0);
    assert_eq!(probes.fact("c1", run), Probe::Asking);
}
