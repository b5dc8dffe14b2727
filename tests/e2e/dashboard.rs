//! The dashboard in a real browser, with a real cluster that starts, grows, loses a server and gets it back, and loses
//! its ECS for a while. `SCREENSHOTS=directory` keeps pictures for a person to look at.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use skipped::{Missing, skip};

use crate::support::browser::{Browser, Scheme};
use crate::support::db::pairs;
use crate::support::wait::SOON;
use crate::support::{Cluster, Settings, wait_for};

/// Key code of the right arrow, as the DevTools protocol wants it.
const ARROW_RIGHT: u32 = 39;

/// Size of the values that make copies take a while: 150 of them are more than logs keep.
const VALUE_BYTES: usize = 1 << 20;

fn picture(browser: &mut Browser, name: &str, width: u32, scheme: Scheme) {
    browser.show(width, 900, scheme);
    // Drawn anew, and the page is no wider than the window.
    browser.wait("the page fits", &format!("document.documentElement.scrollWidth <= {width}"));
    // A table may be moved sideways; what it is must be read without that on a small screen.
    let beyond = "[...document.querySelectorAll('caption')].filter((one) => one.getBoundingClientRect().right > \
        innerWidth)";
    browser.wait("the captions fit", &format!("innerWidth > 768 || {beyond}.length === 0"));
    if let Some(dir) = std::env::var_os("SCREENSHOTS") {
        std::fs::create_dir_all(&dir).expect("a directory for pictures");
        let file = std::path::Path::new(&dir).join(format!("{name}.png"));
        std::fs::write(file, browser.picture()).expect("a picture is written");
    }
}

fn pictures(browser: &mut Browser, name: &str) {
    picture(browser, &format!("{name}-dark"), 1280, Scheme::Dark);
    picture(browser, &format!("{name}-360"), 360, Scheme::Light);
    picture(browser, &format!("{name}-light"), 1280, Scheme::Light);
}

/// Nothing but this origin was asked, and the console said nothing.
fn check_quiet(browser: &Browser, origin: &str) {
    assert!(!browser.requests.is_empty());
    let outside: Vec<_> = browser.requests.iter().filter(|url| !url.starts_with(origin)).collect();
    assert!(outside.is_empty(), "asked outside: {outside:?}");
    assert!(browser.problems.is_empty(), "the console: {:?}", browser.problems);
}

fn word_is(word: &str) -> String {
    format!("document.getElementById('word').textContent === '{word}'")
}

#[test]
fn the_page_follows_a_cluster_through_its_life() {
    let mut browser = match Browser::start() {
        Ok(browser) => browser,
        Err(why) => {
            skip!(Missing::Chromium, "{why}");
            return;
        }
    };
    // Slow copies, so that they are seen on their way, and logs that do not hold all that was written: else a new
    // server gets entries of the log.
    let settings = Settings { same_ports: true, ..Settings::default() };
    let args = ["--transfer-rate", "2000000", "--log-mb", "64"];
    let mut cluster = settings.server_args(&args).start_ecs();
    let origin = format!("http://{}/", cluster.ecs_address());
    browser.show(1280, 900, Scheme::Light);
    browser.open(&origin);
    browser.wait("an ECS without servers says so", &word_is("DEGRADED"));

    // Start.
    for _ in 0..3 {
        cluster.add_server();
    }
    cluster.wait_settled();
    browser.wait("three servers are healthy", &word_is("healthy"));
    browser.wait("the table has them", "document.querySelectorAll('#servers-table tbody tr').length === 3");
    browser.wait("the ring is whole", "document.querySelectorAll('.arc').length >= 3");
    let client = cluster.client();
    let mut random = fastrand::Rng::with_seed(1);
    for n in 0..150 {
        let value: String = (0..VALUE_BYTES).map(|_| random.alphanumeric()).collect();
        client.put(format!("large-{}", n % 50), value);
    }
    wait_for("what clients ask is seen", SOON, || {
        client.put_many(&pairs("load", 50));
        let known =
            browser.text("#hot-keys").contains("load") && browser.text("#rates-text").contains("writes");
        let drawn = browser.count("#rates .lines") >= 2 && browser.count("#times .lines") >= 1;
        if known && drawn { Ok(()) } else { Err(browser.text("#hot-keys")) }
    });
    pictures(&mut browser, "healthy");

    // By keyboard: a server's copies, and a partition.
    browser.value("document.querySelector('#legend button').focus()");
    browser.wait("its replicas are hatched", "document.querySelectorAll('.replica').length > 0");
    picture(&mut browser, "hatched", 1280, Scheme::Light);
    browser.value("document.getElementById('pick').focus()");
    browser.wait("no server is pointed at", "document.querySelectorAll('.replica').length === 0");
    browser.press("ArrowRight", ARROW_RIGHT);
    let shown = "/^1: coordinator .*; replicas /.test(document.getElementById('picked').textContent)";
    browser.wait("a partition is shown", shown);
    check_tables(&mut browser);

    // Join.
    let joined = cluster.add_server();
    browser
        .wait("copies are on their way", "document.querySelectorAll('#transfers-table progress').length > 0");
    browser.wait("as chords as well", "document.querySelectorAll('.way').length > 0");
    pictures(&mut browser, "join");
    cluster.wait_settled();
    browser
        .wait("four servers are in the legend", "document.querySelectorAll('#legend button').length === 4");
    browser.wait("they are healthy", &word_is("healthy"));
    browser.wait("no chord is left", "document.querySelectorAll('.way').length === 0");

    // A kill, and the way back.
    let address = cluster.address(joined).to_string();
    cluster.kill_server(joined);
    browser.wait("it is missed", &word_is("DEGRADED"));
    let named = format!("document.getElementById('why').textContent.includes('{address}')");
    browser.wait("by name", &named);
    browser.wait("it is down", "document.querySelector('#servers-table .bad')?.textContent === 'DOWN'");
    let said = format!("/{address} is down/.test(document.getElementById('events-table').textContent)");
    browser.wait("the log says why", &said);
    pictures(&mut browser, "degraded");
    cluster.start_server(joined);
    cluster.wait_settled();
    browser.wait("it is healthy again", &word_is("healthy"));
    check_quiet(&browser, &origin);

    // The ECS goes and comes back: the page says so, and goes on where it was.
    let rows = "document.querySelectorAll('#events-table tbody tr').length";
    let before = browser.value(rows).as_u64();
    cluster.kill_ecs();
    browser.wait("the page says that it hears nothing", "!document.getElementById('link').hidden");
    picture(&mut browser, "silent", 1280, Scheme::Light);
    cluster.start_ecs();
    browser.wait("it hears again", "document.getElementById('link').hidden");
    cluster.wait_settled();
    browser.wait("it is healthy", &word_is("healthy"));
    let after = browser.value(rows).as_u64();
    assert!(after >= before, "{before:?} {after:?}: what was shown stays");
    let twice = browser.value(
        "(() => { const all = [...document.querySelectorAll('#events-table tbody th')].map((cell) => \
         cell.textContent); return all.length - new Set(all).size; })()",
    );
    assert_eq!(twice, 0, "nothing is shown twice");
    // Meanwhile the browser has reported requests without an answer.
    browser.problems.retain(|problem| !problem.contains("\"source\":\"network\""));
    check_quiet(&browser, &origin);
}

/// Each table has a caption and headings, and each picture a name and a text beside it.
fn check_tables(browser: &mut Browser) {
    browser.value("document.querySelectorAll('details').forEach((box) => { box.open = true; })");
    let rows = "document.querySelectorAll('#partitions-table tbody tr').length === 64";
    browser.wait("every partition has a row", rows);
    browser.wait("there are rates", "document.querySelectorAll('#load-table tbody tr').length > 0");
    let bare = browser.value(
        "[...document.querySelectorAll('table')].filter((table) => !table.caption?.textContent \
         || !table.querySelector('thead th[scope=col]')).map((table) => table.id)",
    );
    assert_eq!(bare, Value::Array(Vec::new()), "tables without captions or headings");
    let unnamed = browser.value(
        "[...document.querySelectorAll('svg[role=img]')].filter((one) => one.getAttribute('aria-labelledby').split(' \
         ') .some((id) => !document.getElementById(id)?.textContent)).map((one) => one.id)",
    );
    assert_eq!(unnamed, Value::Array(Vec::new()), "pictures without a name");
    browser.value("document.querySelectorAll('details').forEach((box) => { box.open = false; })");
}

/// The events of a stream up to its first state: names, data, and the id to resume from.
fn stream(ecs: SocketAddr, last: Option<&str>) -> (Vec<(String, Value)>, String) {
    let mut stream = TcpStream::connect(ecs).expect("the ECS listens");
    stream.set_read_timeout(Some(SOON)).expect("a time-out");
    let resume = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    // Of HTTP/1.0, so that what follows is not in chunks.
    write!(stream, "GET /api/v1/stream HTTP/1.0\r\nHost: {ecs}\r\n{resume}\r\n")
        .expect("it takes the question");
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    let is_whole = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.split_once("event: state").is_some_and(|(_, state)| state.contains("\n\n"))
    };
    while !is_whole(&text) {
        let read = stream.read(&mut piece).expect("it goes on");
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
    }
    let text = String::from_utf8(text).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("200") && head.contains("text/event-stream"), "{head}");
    let field = |event: &str, name: &str| -> Option<String> {
        event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let (mut events, mut id) = (Vec::new(), None);
    for event in body.split("\n\n") {
        let name = field(event, "event").expect("a name");
        let data = serde_json::from_str(&field(event, "data").expect("data")).expect("JSON");
        events.push((name, data));
        id = field(event, "id");
        if id.is_some() {
            break;
        }
    }
    (events, id.expect("the state has an id"))
}

#[test]
fn the_stream_goes_on_where_it_was() {
    let mut cluster = Cluster::start(2);
    let ecs = cluster.ecs_address();
    let (first, id) = stream(ecs, None);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"events"));
    assert_eq!(names.last(), Some(&"state"));
    assert!(names.contains(&"placement"), "{names:?}");
    let count = first[0].1.as_array().expect("events").len();
    assert!(count >= 2, "both servers have joined");

    cluster.add_server();
    cluster.wait_settled();
    let (second, _) = stream(ecs, Some(&id));
    let versions = |events: &Value| -> Vec<u64> {
        let events = events.as_array().expect("events").iter();
        events.map(|event| event["view"]["version"].as_u64().expect("a version")).collect()
    };
    let (old, new) = (versions(&first[0].1), versions(&second[0].1));
    assert!(old.last() < new.first() && !new.is_empty(), "{old:?} {new:?}");
    let joining =
        |event: &Value| event["difference"]["joining"].as_array().is_some_and(|runs| !runs.is_empty());
    assert!(second[0].1.as_array().is_some_and(|events| events.iter().any(joining)), "{:?}", second[0]);
    let (all, _) = stream(ecs, Some("no id of ours"));
    assert_eq!(versions(&all[0].1), [old, new].concat(), "from the beginning");
}
