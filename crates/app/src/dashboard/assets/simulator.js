// A conversation that is tried out: every step is added to those before, and all of them are played by the server. What
// was said stays with the tab, so that a page that is loaded again goes on where it was.

import { swap } from "./live.js";

const root = document.querySelector("[data-simulator]");
const trouble = document.getElementById("trouble");
// The server's clock, as the page came.
const [fresh, loaded] = [Date.parse(root.dataset.began), performance.now()];
const locale = document.getElementById("locale");
const kept = `conversation ${location.pathname}`;
let steps = [];

async function play(next) {
  const conversation = { began: root.dataset.began, steps: next };
  if (locale) conversation.locale = locale.value;
  const headers = { "content-type": "application/json", accept: "text/html" };
  const answer = await fetch(location.pathname, { method: "POST", headers, body: JSON.stringify(conversation) });
  const text = await answer.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  if (!answer.ok) {
    const told = answer.headers.get("content-type")?.includes("json") ? JSON.parse(text).detail : page.querySelector("main")?.innerText;
    trouble.textContent = told ?? `status ${answer.status}`;
    return;
  }
  trouble.textContent = "";
  steps = next;
  sessionStorage.setItem(kept, JSON.stringify({ ...conversation, began: root.dataset.began }));
  if (!steps.length) sessionStorage.removeItem(kept);
  swap(page);
  const chat = document.getElementById("chat");
  chat.scrollTop = chat.scrollHeight;
}

/** Plays once more what was said before the page was loaded again. */
function resume() {
  const before = JSON.parse(sessionStorage.getItem(kept) ?? "null");
  if (!before) return;
  root.dataset.began = before.began;
  if (locale && before.locale) locale.value = before.locale;
  queue(() => before.steps);
}

let last = Promise.resolve();

/** One after the other: each step is played after all that were said before it. */
function queue(next) {
  last = last.then(() => play(next())).catch((problem) => { trouble.textContent = problem.message; });
  return last;
}

const add = (step) => queue(() => [...steps, step]);

function form(id, step) {
  const found = document.getElementById(id);
  found.addEventListener("submit", async (event) => {
    event.preventDefault();
    await add(step(found));
  });
  return found;
}

form("say", (one) => {
  const text = one.elements.namedItem("text");
  const said = text.value;
  text.value = "";
  return { say: said };
});
form("advance", (one) => ({ advance: one.elements.namedItem("by").value }));
form("event", (one) => ({ event: one.elements.namedItem("event").value }));
document.getElementById("photo").addEventListener("click", () => add({ photo: "https://example.org/photo.jpg" }));
document.getElementById("back").addEventListener("click", () => queue(() => steps.slice(0, -1)));
document.getElementById("anew").addEventListener("click", () => queue(() => {
  root.dataset.began = new Date(fresh + performance.now() - loaded).toISOString();
  return [];
}));
locale?.addEventListener("change", () => queue(() => steps));
document.getElementById("buttons").addEventListener("click", (event) => {
  const id = event.target.dataset.press;
  if (id !== undefined) add({ press: id });
});
resume();
