// One action on all instances that are chosen: each is asked for by itself, and each result is reported.

import { tell } from "./act.js";

const form = document.querySelector("[data-bulk]");
const results = document.getElementById("bulk-results");
const boxes = () => [...document.querySelectorAll("[data-choose]")];
const chosen = new Set();
const said = form.querySelector("[data-chosen]");

let visible = new Set();

function show() {
  const now = new Set(boxes().map((box) => box.value));
  // What has left the list is not what somebody meant to move.
  for (const id of visible) if (!now.has(id)) chosen.delete(id);
  visible = now;
  for (const box of boxes()) box.checked = chosen.has(box.value);
  const all = document.querySelector("[data-choose-all]");
  if (all) all.checked = now.size > 0 && [...now].every((id) => chosen.has(id));
  said.textContent = chosen.size;
}

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches("[data-choose-all]")) for (const one of boxes()) box.checked ? chosen.add(one.value) : chosen.delete(one.value);
  else if (box.matches("[data-choose]")) box.checked ? chosen.add(box.value) : chosen.delete(box.value);
  else return;
  show();
});
new MutationObserver(show).observe(document.getElementById("rows"), { childList: true });

/** What the page's own filter finds, on all pages. */
async function found() {
  const filter = new URLSearchParams(location.search);
  const query = new URLSearchParams({ limit: "1000" });
  for (const name of ["machine", "state", "subject", "subject_contains", "expiring_within"]) if (filter.get(name)) query.set(name, filter.get(name));
  if (filter.get("life")) query.set("closed", filter.get("life") === "closed");
  if (filter.get("only")) query.set(filter.get("only"), "true");
  const answer = await fetch(`/v1/instances?${query}`);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told.data.map((one) => one.id);
}

form.querySelector("[data-choose-filter]").addEventListener("click", async () => {
  try {
    for (const id of await found()) chosen.add(id);
  } catch (problem) {
    tell(results, "bad", [problem.message]);
  }
  show();
});

function request(action, word, id, trial) {
  const at = `/v1/instances/${encodeURIComponent(id)}`;
  if (action === "recover") return trial ? [`${at}/explain`, { recover: { reason: word } }] : [`${at}/recover`, { reason: word }];
  return trial ? [`${at}/explain`, { event: word }] : [`${at}/events`, { event: word }];
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const trial = event.submitter?.value === "trial";
  const [action, word] = [form.elements.namedItem("action").value, form.elements.word.value];
  results.replaceChildren();
  const summary = document.createElement("div");
  results.append(summary);
  if (!chosen.size) return tell(summary, "bad", ["Choose instances first: tick the boxes before them."]);
  if (!trial && action === "recover" && !confirm(`Recover ${chosen.size} instances?`)) return;
  const run = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  let [well, ill] = [0, 0];
  const list = document.createElement("ul");
  results.append(list);
  for (const id of chosen) {
    const [url, body] = request(action, word, id, trial);
    const headers = { "content-type": "application/json", "idempotency-key": `bulk-${run}` };
    const line = document.createElement("li");
    list.append(line);
    try {
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      const told = await answer.json();
      const fine = answer.ok && told.accepted !== false;
      fine ? well++ : ill++;
      const inner = told.answer ? Object.values(told.answer)[0] : told;
      line.textContent = fine ? `${id}: ${trial ? "would be" : "now"} in ${inner.state}` : `${id}: ${told.detail ?? told.refusal?.detail ?? told.refusal?.code}`;
      line.className = fine ? "" : "bad";
    } catch (problem) {
      ill++;
      line.textContent = `${id}: ${problem.message}`;
      line.className = "bad";
    }
    tell(summary, ill ? "bad" : "good", [`${trial ? "Nothing has happened yet. Would be taken" : "Taken"}: ${well}; refused: ${ill}; of ${chosen.size}.`]);
  }
  dispatchEvent(new Event("renew"));
});
show();
