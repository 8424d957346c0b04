//! Where a request comes from, as browsers say it: pages of other sites must not act as somebody who is signed in here,
//! nor upon a server on loopback that asks nobody for a key.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::http::problem::Problem;

/// What a server that asks for no key is called. A name that is not among these may be one that a web site has made
/// point here (DNS rebinding), and its pages would be of this origin.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// It listens on all addresses of the machine, and who knows which these are.
    any_address: bool,
}

impl Names {
    /// Of a server that listens at `address`, as `listen` says it, and is reached from outside at `public_url`.
    pub fn of(listen: &str, address: SocketAddr, public_url: Option<&str>) -> Self {
        let mut names = Self { any_address: address.ip().is_unspecified(), ..Self::default() };
        names.addresses.push(address.ip());
        let public = public_url.and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
        let public = public.and_then(|rest| rest.split(['/', '?', '#']).next());
        let said = [Some(listen), public].into_iter().flatten().map(|host| bare(host).to_ascii_lowercase());
        names.names.extend(said.filter(|name| name.parse::<IpAddr>().is_err()));
        names
    }

    /// # Errors
    /// 403 for a request that was made to another name.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        // Without one it is no browser's.
        let Some(host) = headers.get("host") else { return Ok(()) };
        let host = host.to_str().map(bare).unwrap_or_default().to_ascii_lowercase();
        let known = match host.parse::<IpAddr>() {
            Ok(address) => self.any_address || address.is_loopback() || self.addresses.contains(&address),
            Err(_) => host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host),
        };
        if known {
            return Ok(());
        }
        let detail = format!(
            "this server asks nobody for a key, and is not called `{host}`: use localhost, set `public_url`, or start it with `serve`"
        );
        Err(Problem::forbidden("unknown_host", detail))
    }
}

/// A host without its port and the brackets of IPv6.
fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Whether a browser says that a page of another origin makes the request.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let elsewhere = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    elsewhere || headers.contains_key("origin") && !is_own_origin(headers)
}

/// Whether a browser says that a page of another origin asks for what it would only make use of: an image, a script, a
/// frame, a `fetch`. That a whole tab goes where a link leads is what a person wants.
pub fn is_used_elsewhere(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let elsewhere = matches!(said("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    let is_followed =
        said("sec-fetch-mode") == Some(b"navigate") && said("sec-fetch-dest") == Some(b"document");
    elsewhere && !is_followed
}

/// Whether a browser says that a page of ours makes the request. No page can make it say so falsely.
pub fn is_own(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => is_own_origin(headers),
    }
}

/// Whether `Origin` names the host that is asked. The scheme is not compared: TLS may end in front of us.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text("origin"), text("host")) else { return false };
    let at = origin.split_once("://").map(|(_, at)| at);
    at.is_some_and(|at| at.eq_ignore_ascii_case(host))
}

pub fn cross_origin() -> Problem {
    let detail = "a page of another origin has made this request; what changes something, or is not what a link leads to, is taken from our own alone";
    Problem::forbidden("cross_origin", detail)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    type Said<'a> = &'a [(&'static str, &'a str)];

    fn headers(said: Said<'_>) -> HeaderMap {
        let one = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        said.iter().map(one).collect()
    }

    #[test]
    fn only_loopback_and_our_own_names_are_answered() {
        let names =
            Names::of("devbox:7474", "10.1.2.3:7474".parse().unwrap(), Some("https://Bot.example.org/x"));
        let known = [
            "localhost:7474",
            "LOCALHOST",
            "app.localhost:1",
            "127.0.0.1:7474",
            "127.9.9.9",
            "[::1]:7474",
            "10.1.2.3:7474",
            "devbox:7474",
            "devbox",
            "bot.example.org",
        ];
        for host in known {
            assert!(names.check(&headers(&[("host", host)])).is_ok(), "{host}");
        }
        let foreign =
            ["evil.example", "localhost.evil.example", "10.1.2.4", "169.254.169.254", "[::2]:7474", ""];
        for host in foreign {
            assert_eq!(names.check(&headers(&[("host", host)])).unwrap_err().status(), 403, "{host}");
        }
        assert!(names.check(&HeaderMap::new()).is_ok());
        let all = Names::of("0.0.0.0:7474", "0.0.0.0:7474".parse().unwrap(), None);
        assert!(all.check(&headers(&[("host", "192.168.1.9:7474")])).is_ok());
        assert!(all.check(&headers(&[("host", "evil.example:7474")])).is_err());
    }

    #[test]
    fn a_link_from_elsewhere_is_followed_and_what_a_page_loads_is_not() {
        // As browsers ask for it; whether that is refused to a page of elsewhere.
        let table = [
            ("navigate", "document", false),
            ("navigate", "iframe", true),
            ("navigate", "frame", true),
            ("navigate", "object", true),
            ("navigate", "embed", true),
            ("no-cors", "image", true),
            ("no-cors", "script", true),
            ("no-cors", "style", true),
            ("cors", "empty", true),
            ("no-cors", "document", true),
            ("navigate", "", true),
        ];
        for (mode, dest, expected) in table {
            for (site, is_elsewhere) in
                [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)]
            {
                let said = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
                let refused = is_used_elsewhere(&headers(&said));
                assert_eq!(refused, expected && is_elsewhere, "{site} {mode} {dest}");
            }
        }
        assert!(is_used_elsewhere(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(!is_used_elsewhere(&HeaderMap::new()));
    }

    #[test]
    fn a_browser_says_who_makes_a_request() {
        let host = ("host", "127.0.0.1:7474");
        // What is said beside the host; whether it is foreign; whether it is surely ours.
        let table: [(Said<'_>, bool, bool); 10] = [
            (&[], false, false),
            (&[("origin", "http://127.0.0.1:7474")], false, true),
            (&[("origin", "https://127.0.0.1:7474")], false, true),
            (&[("origin", "http://127.0.0.1:8080")], true, false),
            (&[("origin", "https://evil.example")], true, false),
            (&[("origin", "null")], true, false),
            (&[("sec-fetch-site", "same-origin")], false, true),
            (&[("sec-fetch-site", "none")], false, false),
            (&[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:7474")], true, false),
            (&[("sec-fetch-site", "cross-site")], true, false),
        ];
        for (said, foreign, own) in table {
            let headers = headers(&[&[host], said].concat());
            assert_eq!((is_foreign(&headers), is_own(&headers)), (foreign, own), "{said:?}");
        }
    }
}
