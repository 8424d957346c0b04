// A conversation that is tried out: every step is added to those before, and all of them are played by the server.

import { swap } from "./live.js";

const root = document.querySelector("[data-simulator]");
const trouble = document.getElementById("trouble");
const locale = document.getElementById("locale");
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
  swap(page);
  const chat = document.getElementById("chat");
  chat.scrollTop = chat.scrollHeight;
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
document.getElementById("anew").addEventListener("click", () => queue(() => []));
locale?.addEventListener("change", () => queue(() => steps));
document.getElementById("buttons").addEventListener("click", (event) => {
  const id = event.target.dataset.press;
  if (id !== undefined) add({ press: id });
});
