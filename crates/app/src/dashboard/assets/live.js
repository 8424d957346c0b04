// Keeps a page up to date: when something has happened that it shows, it is asked for again, and the parts of it that
// say so by `data-live` are put in the place of those that are there. In a part with `data-keyed` that is done child by
// child, and a child in which somebody is doing something is let be.

import { arm } from "./act.js";

const EACH = 250; // milliseconds between two renewals at least
const SHARE = 10; // and so many times as long as the last one took
const RETRY = 5000; // milliseconds until a stream that was refused is asked for again
let waiting = null;
let busy = false;
let took = 0;
const shown = new WeakMap(); // the text of each part and child, as it came

/** Takes the page at `url` and puts its live parts in the place of those here. */
export async function renew(url = location.href) {
  if (busy) return again();
  busy = true;
  const began = performance.now();
  try {
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") return location.assign(answer.url);
    if (!answer.ok) return;
    swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The server is away; the stream says so, and takes up again by itself.
  } finally {
    took = performance.now() - began;
    busy = false;
  }
}

/** Puts the live parts of a page in the place of those here. */
export function swap(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === shown.get(part)) continue;
    shown.set(part, fresh.innerHTML);
    part.dataset.keyed === undefined ? replace(part, fresh) : merge(part, fresh);
    arm(part);
    look(part.parentElement);
  }
}

function replace(part, fresh) {
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceChildren(...document.adoptNode(fresh).childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus();
}

/** Whether somebody has begun something in it: its text may be old, but must not be taken away. */
function begun(child) {
  const typed = (field) => field.value !== field.defaultValue;
  const active = document.activeElement;
  return (child.contains(active) && active.matches("input, textarea, select"))
    || [...child.querySelectorAll("input:not([type=hidden]), textarea")].some(typed);
}

function merge(part, fresh) {
  const had = part.contains(document.activeElement);
  const next = new Map([...fresh.children].filter((child) => child.id).map((child) => [child.id, child]));
  for (const child of [...part.children]) if (!next.has(child.id)) child.remove();
  let at = null;
  for (const child of [...fresh.children]) {
    const here = child.id && document.getElementById(child.id);
    const text = child.outerHTML;
    let stays = here;
    if (!here || (shown.get(here) !== text && !begun(here))) {
      stays = document.adoptNode(child);
      if (here?.open) stays.open = true;
      here?.replaceWith(stays);
      shown.set(stays, text);
    }
    const place = at ? at.nextSibling : part.firstChild;
    if (place !== stays) part.insertBefore(stays, place);
    at = stays;
  }
  // Whoever works through a list by keyboard goes on with what is first now.
  if (had && !part.contains(document.activeElement)) (part.querySelector("summary, button, input:not([type=hidden])") ?? part).focus();
}

function again() {
  waiting ??= setTimeout(() => { waiting = null; renew(); }, Math.min(Math.max(EACH, SHARE * took), 5000));
}

export function keepUp() {
  const { stream: address, every } = document.body.dataset;
  if (!address) return;
  const sign = document.getElementById("pulse");
  const say = (state, text) => {
    sign.dataset.state = state;
    sign.title = text;
    sign.setAttribute("aria-label", text);
  };
  let stream = null;
  let lost = false;
  const listen = () => {
    stream = new EventSource(address);
    stream.addEventListener("open", () => {
      say("live", "This page hears of changes");
      if (lost) again();
      lost = false;
    });
    stream.addEventListener("error", () => {
      lost = true;
      say("lost", "The server cannot be heard; trying again");
      // One that was refused, as there are too many, does not try again by itself.
      if (stream?.readyState === EventSource.CLOSED) setTimeout(() => { stream && listen(); again(); }, RETRY);
    });
    stream.addEventListener("changed", again);
  };
  const leave = () => {
    stream?.close();
    stream = null;
  };
  if (!document.hidden) listen();
  // A browser has six connections to a server: what nobody looks at needs none of them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return leave();
    if (!stream) listen();
    again();
  });
  if (Number(every)) setInterval(() => document.hidden || again(), 1000 * Number(every));
  addEventListener("pagehide", leave);
  tick();
}

/** Lets times go on as the server's clock does. */
function tick() {
  const { now } = document.body.dataset;
  if (!now) return;
  const ahead = Date.parse(now) - Date.now();
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const said = (span, both) => {
    const first = units.findIndex(([scale]) => span >= scale);
    if (first < 0) return "";
    const [[scale, name], below] = [units[first], units[first + 1]];
    const rest = below && both ? Math.floor((span % scale) / below[0]) : 0;
    return `${Math.floor(span / scale)} ${name}${rest && span / scale < 10 ? ` ${rest} ${below[1]}` : ""}`;
  };
  setInterval(() => {
    for (const time of document.querySelectorAll("time[datetime]")) {
      const span = (Date.parse(time.dateTime) - Date.now() - ahead) / 1000;
      const words = said(Math.abs(span), span > 0);
      const text = !words ? "now" : span > 0 ? `in ${words}` : `${words} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  }, 1000);
}

addEventListener("renew", again);

/** Brings what is active in a diagram that is larger than its place into sight, when it has come there. */
export function look(part) {
  for (const picture of part.querySelectorAll(".picture")) {
    const active = picture.querySelector(".sw-active:not(.sw-compound, .sw-parallel)");
    const state = active?.dataset.state ?? "";
    if (!active || picture.dataset.seen === state) continue;
    picture.dataset.seen = state;
    centre(picture, active);
  }
}

/** Scrolls a picture to one of its parts. */
export function centre(picture, one) {
  const [place, at] = [picture.getBoundingClientRect(), one.getBoundingClientRect()];
  picture.scrollBy(at.x + at.width / 2 - place.x - place.width / 2, at.y + at.height / 2 - place.y - place.height / 2);
}
