// Keeps a page up to date: when something has happened that it shows, it is asked for again, and the parts of it that
// say so by `data-live` are put in the place of those that are there. Whatever somebody is typing is in other parts.

import { arm } from "./act.js";

const EACH = 250; // milliseconds between two renewals at least
const SHARE = 10; // and so many times as long as the last one took
let waiting = null;
let busy = false;
let took = 0;
const shown = new WeakMap(); // the text of each part, as it came

/** Takes the page at `url` and puts its live parts in the place of those here. */
export async function renew(url = location.href) {
  if (busy) return again();
  busy = true;
  const began = performance.now();
  try {
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") return location.assign("/sign-in");
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
    if (fresh && fresh.innerHTML !== shown.get(part)) replace(part, fresh);
  }
}

function replace(part, fresh) {
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const kept = [...part.querySelectorAll("[data-keep]")].map((one) => [one.id, one.value]);
  const raw = fresh.innerHTML;
  part.replaceChildren(...document.adoptNode(fresh).childNodes);
  shown.set(part, raw);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, value] of kept) if (document.getElementById(id)) document.getElementById(id).value = value;
  if (focused) document.getElementById(focused)?.focus();
  arm(part);
  look(part.parentElement);
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
  const stream = new EventSource(address);
  let lost = false;
  stream.addEventListener("open", () => {
    say("live", "This page hears of changes");
    if (lost) again();
    lost = false;
  });
  stream.addEventListener("error", () => {
    lost = true;
    say("lost", "The server cannot be heard; trying again");
  });
  stream.addEventListener("changed", again);
  if (Number(every)) setInterval(() => document.hidden || again(), 1000 * Number(every));
  addEventListener("pagehide", () => stream.close());
}

addEventListener("renew", again);

/** Brings what is active in a diagram that is larger than its place into sight. */
export function look(part) {
  for (const picture of part.querySelectorAll(".picture")) {
    const [active, place] = [picture.querySelector(".sw-active:not(.sw-compound, .sw-parallel)"), picture.getBoundingClientRect()];
    if (!active) continue;
    const at = active.getBoundingClientRect();
    picture.scrollBy(at.x + at.width / 2 - place.x - place.width / 2, at.y + at.height / 2 - place.y - place.height / 2);
  }
}
