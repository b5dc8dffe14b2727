//! The dashboard: files that are part of the program, and a policy that lets the page load nothing else.

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::shell::driver::Handle;

/// The page runs only scripts of this server, sends requests only to it, and cannot be framed by another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// What the front page says to programs; browsers get the dashboard.
const FRONT_PAGE: &str = "\
This is a Trefoil ECS: it knows the servers of a cluster and makes the views.

  GET  /healthz                     is it alive
  GET  /readyz                      does it make views
  GET  /metrics                     figures for Prometheus
  GET  /api/v1/status               how the cluster does
  GET  /api/v1/view                 the newest view
  GET  /api/v1/servers              the servers
  GET  /api/v1/servers/ID           one server and its partitions (the first digits of the id suffice)
  POST /api/v1/servers/ID/drain     move its copies away, then remove it
  POST /api/v1/servers/ID/cancel    take a drain or an addition back; POST /api/v1/cancel takes all back
  GET  /api/v1/plan?add=ID          what an addition would move; or ?drain=ID, or ?replace=ID&with=ID; POST applies it
  GET  /api/v1/partitions           which servers have what, and where it is wanted
  POST /api/v1/partitions/P/recover let it go on though writes may be lost, when it is offline
  GET  /api/v1/settings             what operators have set; POST sets it
  GET  /api/v1/load                 rates and times of the last ten minutes, hot partitions and keys
  GET  /api/v1/stream               all of this as it changes (server-sent events)
  GET  /api/v1/events               the last changes of the view, and why

Keys and values are at the servers: kvclient -s HOST:PORT
";

const PAGE: &str = include_str!("dashboard/index.html");

/// Path below `/dashboard/`, type, content.
const FILES: [(&str, &str, &str); 7] = [
    ("style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("dashboard/app.js")),
    ("charts.js", "text/javascript; charset=utf-8", include_str!("dashboard/charts.js")),
    ("ring.js", "text/javascript; charset=utf-8", include_str!("dashboard/ring.js")),
    ("tables.js", "text/javascript; charset=utf-8", include_str!("dashboard/tables.js")),
    ("words.js", "text/javascript; charset=utf-8", include_str!("dashboard/words.js")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
];

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A newer program's page and an older one's script would not fit together.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (StatusCode::OK, headers, content).into_response()
}

/// `/`: the dashboard for a browser, a list of paths for other programs.
async fn front(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        file("text/html; charset=utf-8", PAGE)
    } else {
        FRONT_PAGE.into_response()
    }
}

/// What belongs to the dashboard.
pub(super) fn routes() -> Router<Handle> {
    let page = Router::new().route("/", get(front));
    FILES.iter().fold(page, |routes, &(name, kind, content)| {
        routes.route(&format!("/dashboard/{name}"), get(async move || file(kind, content)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_names_nothing_outside() {
        let all: Vec<&str> = FILES.iter().map(|(_, _, content)| *content).chain([PAGE]).collect();
        let bytes: usize = all.iter().map(|content| content.len()).sum();
        assert!(bytes < 100_000, "{bytes} bytes");
        // The namespace of SVG is only a name: nothing is requested from that address.
        let outside = |content: &&str| content.replace("http://www.w3.org/2000/svg", "").contains("://");
        assert!(!all.iter().any(outside));
        // The policy forbids them; a browser would only log it.
        assert!(!PAGE.contains("style=") && !PAGE.contains(" onclick="));
    }
}
