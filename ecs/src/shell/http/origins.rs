//! Which requests are accepted: those of programs, and of this ECS's own pages in a browser. Pages of other origins are
//! refused.
//!
//! Browsers send `Sec-Fetch-Site` only to https and to this machine, so `Host` and `Origin` decide
//! ([`common::address`]). A request that changes something must have the content type of JSON: a page of another origin
//! cannot send that without a preflight request (Fetch, "CORS-preflight fetch"), and no preflight request is answered
//! here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use common::address::{Foreign, HostNames};

use super::refusal::Refusal;

/// Passes a request on, or answers it with the refusal. Runs before the handler of every path.
pub(super) async fn check(State(names): State<Arc<HostNames>>, request: Request, next: Next) -> Response {
    match refusal(&names, request.method(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    }
}

fn refusal(names: &HostNames, method: &Method, headers: &HeaderMap) -> Option<Refusal> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let bytes = |name| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    // Of two, another program in between might have looked at the other one.
    let several = [header::HOST, header::ORIGIN].iter().any(|name| headers.get_all(name).iter().count() > 1);
    if several {
        return Some(Refusal::other_origin());
    }
    if let Err(foreign) = names.check(bytes(header::HOST), bytes(header::ORIGIN)) {
        return Some(match foreign {
            Foreign::Host => Refusal::unknown_host(),
            Foreign::Origin => Refusal::other_origin(),
        });
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let same = matches!(text("sec-fetch-site"), "" | "same-origin" | "none");
    // A link on another page leads to the dashboard.
    let follows = reads && text("sec-fetch-mode") == "navigate";
    if !same && !follows {
        return Some(Refusal::other_origin());
    }
    let kind = text("content-type").split(';').next().unwrap_or_default().trim();
    (*method == Method::POST && !kind.eq_ignore_ascii_case("application/json")).then(Refusal::not_json)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    const OWN: (&str, &str) = ("host", "10.0.0.1:3000");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    fn status(method: Method, headers: &[(&'static str, &str)]) -> Option<StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let names = "ecs.example".parse().unwrap();
        refusal(&names, &method, &map).map(|refusal| refusal.into_response().status())
    }

    #[test]
    fn programs_and_own_pages_may_ask() {
        assert_eq!(status(Method::GET, &[OWN]), None);
        assert_eq!(status(Method::GET, &[]), None);
        assert_eq!(status(Method::POST, &[OWN, JSON]), None);
        let page =
            [("host", "ecs.example"), ("origin", "https://ecs.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(status(Method::GET, &page), None);
        assert_eq!(status(Method::POST, &[page[0], page[1], page[2], JSON]), None);
        let link = [OWN, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(status(Method::GET, &link), None, "a link to the dashboard");
    }

    #[test]
    fn pages_of_others_may_not() {
        let forbidden = Some(StatusCode::FORBIDDEN);
        let evil = ("origin", "http://evil.example");
        for method in [Method::GET, Method::POST, Method::OPTIONS, Method::HEAD] {
            assert_eq!(status(method.clone(), &[OWN, JSON, evil]), forbidden, "{method}");
            assert_eq!(status(method.clone(), &[OWN, JSON, ("origin", "null")]), forbidden, "{method}");
            let rebound = [("host", "evil.example:3000"), ("origin", "http://evil.example:3000"), JSON];
            assert_eq!(status(method.clone(), &rebound), forbidden, "{method}");
            assert_eq!(status(method.clone(), &[rebound[0], JSON]), forbidden, "{method}");
            let twice = [("host", "evil.example"), OWN, JSON];
            assert_eq!(status(method.clone(), &twice), forbidden, "{method}");
            for site in ["cross-site", "same-site", "sideways"] {
                let fetched = [OWN, JSON, ("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")];
                assert_eq!(status(method.clone(), &fetched), forbidden, "{method}");
            }
        }
        let form = [OWN, JSON, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(status(Method::POST, &form), forbidden);
    }

    #[test]
    fn a_change_is_json() {
        let unsupported = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(status(Method::POST, &[OWN]), unsupported);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/plain;application/json",
        ] {
            assert_eq!(status(Method::POST, &[OWN, ("content-type", kind)]), unsupported, "{kind}");
        }
    }
}
