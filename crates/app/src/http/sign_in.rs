//! Signing in with a key, for people with a browser, and out again. A session is a key with a short life; the browser
//! keeps it in a cookie that no script can read.

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kernel::time::Delay;

use crate::access::api_key::{self, Wanted};
use crate::access::{Holder, origin};
use crate::http::Shared;
use crate::http::identify::{COOKIE, peer, session_in};
use crate::http::problem::Problem;
use crate::http::request::RawBody;

/// A working day: whoever leaves the browser open is signed out by the next.
const SESSION: Delay = Delay::from_secs(12 * 3600);

/// Where whoever has signed in goes, and whoever has not.
const HOME: &str = "/";
const SIGN_IN: &str = "/sign-in";
const WRONG: &str = "/sign-in?wrong";

/// `key=` of a form. What is wrong is said by where the browser is sent.
pub async fn sign_in(
    State(app): State<Shared>,
    parts: Parts,
    RawBody(body): RawBody,
) -> Result<Response, Problem> {
    if origin::is_foreign(&parts.headers) {
        return Err(origin::cross_origin());
    }
    if app.access.is_open() {
        return Ok(see_other(HOME));
    }
    let address = app.access.rates.address(peer(&parts.extensions), &parts.headers);
    app.access.rates.admit_sign_in(address)?;
    let shown =
        form_urlencoded::parse(&body).find(|(name, _)| name == "key").map(|(_, key)| key.trim().to_owned());
    let next =
        form_urlencoded::parse(&body).find(|(name, _)| name == "next").map(|(_, next)| next.into_owned());
    let next = next.filter(|next| is_here(next)).unwrap_or_else(|| HOME.to_owned());
    let Some((holder, of, end)) = signing_in(&app, shown.as_deref().unwrap_or_default()).await? else {
        app.access.rates.note_wrong_sign_in(address)?;
        if next == HOME {
            return Ok(see_other(WRONG));
        }
        let again = form_urlencoded::Serializer::new(String::new()).append_pair("next", &next).finish();
        return Ok(see_other(&format!("{WRONG}&{again}")));
    };
    let until = app.engine.clock().now().plus(SESSION);
    let expires_at = Some(end.map_or(until, |end| end.min(until)));
    let made_by = holder.who.to_string();
    let secret = app.make_key(&Wanted { holder, made_by, expires_at, session_of: Some(of) }).await?;
    Ok(with_cookie(see_other(&next), &secret.text, SESSION, app.access.secure_cookies))
}

/// Whose key it is, its id, and when it ends. With a session nobody begins another: it would never end.
async fn signing_in(
    app: &Shared,
    key: &str,
) -> Result<Option<(Holder, String, Option<kernel::time::Timestamp>)>, Problem> {
    if let Some(holder) = app.access.of_settings(key) {
        return Ok(Some((holder, api_key::OF_SETTINGS.to_owned(), None)));
    }
    let found = app.key_of(key).await?.filter(|key| key.session_of.is_none());
    Ok(found.map(|key| {
        let end = [key.expires_at, key.retires_at].into_iter().flatten().min();
        (key.holder.clone(), key.id.to_string(), end)
    }))
}

/// Ends the session, whether it was still open or not.
pub async fn sign_out(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    if origin::is_foreign(&headers) {
        return Err(origin::cross_origin());
    }
    let session = session_in(&headers).and_then(|text| Some((text, api_key::id_in(text)?)));
    if let Some((text, id)) = session
        && let Some(key) = app.stored_key(&id).await?
        && key.session_of.is_some()
        && key.is(&api_key::digest(text))
    {
        app.ask_key(api_key::revocation(&id, &key.holder.who), &id).await?;
    }
    Ok(with_cookie(see_other(SIGN_IN), "", Delay::ZERO, app.access.secure_cookies))
}

/// Whether it is a place on this server: whoever signs in is not to be sent elsewhere.
fn is_here(place: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    place.starts_with('/') && !place.starts_with("//") && place.chars().all(plain)
}

fn see_other(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::try_from(place) {
        response.headers_mut().insert("location", place);
    }
    response
}

fn with_cookie(mut response: Response, key: &str, lasts: Delay, secure: bool) -> Response {
    let seconds = lasts.as_millis() / 1000;
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={key}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert("set-cookie", cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signs_in_is_sent_to_a_place_of_this_server_or_home() {
        for (place, here) in [
            ("/", true),
            ("/instances?state=idle&life=open", true),
            ("", false),
            ("//evil.example/", false),
            ("/\\evil.example/", false),
            ("https://evil.example/", false),
            ("/a\r\nset-cookie: b", false),
        ] {
            assert_eq!(is_here(place), here, "{place:?}");
        }
    }
}
