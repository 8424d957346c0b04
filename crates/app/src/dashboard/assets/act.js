// What somebody does on a page: a form of class `act` is sent to the HTTP interface as JSON, first as a trial where it
// offers one, and what came of it is told in its `output`. Beside it stands the same as curl and as a command line.
//
//   data-url      where it is sent, by data-method (POST unless it says otherwise); a button may have its own
//   data-trial    where its trial is sent; data-trial-wrap puts the body under one more name there, and data-trial-with
//                 adds what it says
//   data-leads    where what is begun has its page, by the id in the answer
//   data-command  the command line: {run: [words], args: [words and [field]s], flags: [[flag, field]]}
//   data-ask      a question to be confirmed first
//
// A field of type JSON has `data-json`; an empty field is left out.

import { objectIn } from "./json.js";
import { centre, renew } from "./live.js";

/** A key that is kept until what was sent with it has its answer, so that a second click is no second input. */
function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.value === "" || (field.type === "checkbox" && !field.checked)) continue;
    if (field.dataset.json !== undefined) body[field.name] = objectIn(field);
    else body[field.name] = field.type === "checkbox" ? true : field.value;
  }
  return body;
}

/** A word as a shell takes it, whatever is in it. */
const word = (text) => (/^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const signedIn = () => document.querySelector("form[action='/sign-out']");

function curl(form, body) {
  const method = form.dataset.method ?? "POST";
  form.dataset.key ??= fresh();
  const parts = [`curl -X ${method} ${word(location.origin + form.dataset.url)}`];
  if (signedIn()) parts.push(`-H "Authorization: Bearer $STATEWRIGHT_API_KEY"`);
  parts.push(`-H 'Idempotency-Key: ${form.dataset.key}'`);
  if (Object.keys(body).length) parts.push(`-d ${word(JSON.stringify(body))}`);
  return parts.join(" \\\n  ");
}

function command(form) {
  const { run, args, flags } = JSON.parse(form.dataset.command);
  const value = (name) => form.elements.namedItem(name)?.value ?? "";
  const words = flags.map(([flag, name]) => [flag, value(name)]).filter(([, value]) => value !== "").flat();
  words.push("--server", location.origin);
  const last = args.map((one) => (Array.isArray(one) ? value(one[0]) : one));
  if (last.some((one) => one.startsWith("-"))) words.push("--");
  return [...run, ...words, ...last].map((one) => word(one)).join(" ");
}

function write(form) {
  const told = form.querySelector("[data-curl]");
  if (!told) return;
  let body = {};
  try {
    body = read(form);
  } catch (problem) {
    // What is being typed is no JSON yet.
    problem.field?.removeAttribute("aria-invalid");
  }
  told.textContent = curl(form, body) + (form.dataset.command ? `\n\n${command(form)}` : "");
}

let hiding = 0;

/** Says what came of something, as text: nothing that somebody has sent becomes part of the page. */
export function tell(output, mark, lines) {
  // What is told in a part that is about to be renewed is told beside it as well.
  const aside = document.getElementById("said");
  if (aside && mark === "good") {
    aside.textContent = lines.filter(Boolean).join(" ");
    aside.hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { aside.hidden = true; }, 8000);
  }
  output.className = `told ${mark}`;
  output.replaceChildren(...lines.filter(Boolean).map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  }));
}

/** A link to what has been begun. */
function lead(form, output, id) {
  if (!form.dataset.leads || !id) return;
  const [paragraph, link] = [document.createElement("p"), document.createElement("a")];
  link.href = form.dataset.leads + encodeURIComponent(id);
  link.textContent = id;
  paragraph.append("See ", link);
  output.append(paragraph);
}

const reason = (problem) => {
  if (problem.status === 401) return ["You are not signed in any more: sign in in another tab, and do it again here."];
  const lines = [`${problem.title ?? "It did not work"}: ${problem.detail ?? ""}`];
  if (problem.allowed?.length) lines.push(`What it takes: ${problem.allowed.join(", ")}`);
  for (const considered of problem.explain ?? []) {
    if (considered.verdict) lines.push(`${considered.transition ?? considered.event ?? ""} ${considered.verdict}`);
  }
  return lines;
};

function outcome(answer) {
  const lines = [];
  if (answer.transition?.from) lines.push(`${answer.transition.from} → ${answer.transition.to}, by ${answer.transition.event}`);
  else if (answer.transition) lines.push(`Begun in ${answer.transition.to}`);
  if (answer.session_id && !location.pathname.endsWith(encodeURIComponent(answer.session_id)) && location.pathname.startsWith("/instances/")) lines.push(`In the session ${answer.session_id}`);
  if (answer.outcome) lines.push(`Outcome: ${answer.outcome}${answer.why ? `, by rule ${answer.why.rule}` : ""}`);
  for (const moved of answer.moved ?? []) lines.push(`${moved.phase}: ${moved.from} → ${moved.to}`);
  if (answer.replaced) lines.push(`Leaves ${answer.replaced.state}; keeps ${answer.replaced.kept.join(", ") || "no field"}`);
  for (const reply of answer.reply ?? []) if (reply.text) lines.push(`Says: ${reply.text}`);
  if (answer.closure_reason) lines.push(`Closed: ${answer.closure_reason}`);
  if (answer.moves) lines.push(...migration(answer));
  if (!lines.length && (answer.state ?? answer.status)) lines.push(`In ${answer.state ?? answer.status}`);
  return lines;
}

/** What became of open instances, or would become of them. */
function migration({ to, already, migrated, parked, left, moves, found }) {
  const parts = [[migrated, "have their place there"], [parked, "go where the definition sends those that have none"], [left, "stay as they are"], [already, "are there already"]];
  const said = parts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  const lines = [`To version ${to.version}: ${said.join(", ") || "no instance is open"}.`];
  for (const move of moves) lines.push(`From version ${move.from_version}, ${move.from} → ${move.to}: ${move.count}`);
  const named = found.slice(0, 20);
  for (const one of named) lines.push(`${one.outcome === "left" ? "Stays" : "Is sent elsewhere"}: ${one.id}, in ${one.state}: ${one.reason}`);
  if (found.length > named.length) lines.push(`… and ${found.length - named.length} more; the command names all`);
  return lines;
}

/** As one report, what two of them say, the second going on where the first ended. */
function together(first, second) {
  const moves = [...first.moves];
  for (const one of second.moves) {
    const same = moves.findIndex((move) => ["from_version", "from", "to"].every((name) => move[name] === one[name]));
    if (same < 0) moves.push(one);
    else moves[same] = { ...one, count: moves[same].count + one.count };
  }
  const whole = { ...second, moves, found: [...first.found, ...second.found] };
  for (const name of ["already", "migrated", "parked", "left"]) whole[name] += first[name];
  return whole;
}

/** Draws the transition that would be taken into the diagram, dashed; without one, none is. */
function would(transition) {
  for (const edge of document.querySelectorAll(".sw-would")) edge.classList.remove("sw-would");
  if (!transition) return;
  const own = transition.from.split(",");
  for (const edge of document.querySelectorAll(".sw-edge[data-event]")) {
    const events = edge.dataset.event.split(" ");
    const from = own.some((path) => path === edge.dataset.from || path.startsWith(`${edge.dataset.from}.`) || edge.dataset.from === "");
    const to = transition.to.split(",").some((path) => path === edge.dataset.to || path.startsWith(`${edge.dataset.to}.`));
    if (!events.includes(transition.event) || !from || !to) continue;
    edge.classList.add("sw-would");
    centre(edge.closest(".picture"), edge.querySelector(".sw-head") ?? edge);
  }
}

async function ask(form, url, body) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  form.dataset.key ??= fresh();
  headers["idempotency-key"] = form.dataset.key;
  const method = form.dataset.method ?? "POST";
  const answer = await fetch(url, { method, headers, body: method === "DELETE" ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  const told = text ? JSON.parse(text) : {};
  if (!answer.ok || !told.moves || !told.next_cursor) return [answer, told];
  // A report that ended before all was looked at says where to go on.
  const [last, rest] = await ask(form, url, { ...body, cursor: told.next_cursor });
  return [last, last.ok ? together(told, rest) : rest];
}

async function trial(form, output) {
  const wrap = form.dataset.trialWrap;
  const body = { ...(wrap ? { [wrap]: read(form) } : read(form)), ...JSON.parse(form.dataset.trialWith ?? "{}") };
  const [answer, told] = await ask(form, form.dataset.trial, body);
  if (!answer.ok) return tell(output, "bad", reason(told));
  const inner = told.answer ? Object.values(told.answer)[0] : told;
  if (told.refusal || told.accepted === false) {
    would(null);
    return tell(output, "bad", [`It would be refused: ${told.refusal?.detail ?? told.refusal?.message ?? told.refusal?.code ?? ""}`, ...reason(told.refusal ?? {}).slice(1)]);
  }
  would(inner.transition);
  tell(output, "", ["Nothing has happened yet. It would be:", ...outcome(inner)]);
}

async function send(form, output, url) {
  if (form.dataset.ask && !confirm(form.dataset.ask)) return;
  const [answer, told] = await ask(form, url, read(form));
  // Whatever is not known to be done may be sent again under the same key.
  if (answer.status < 500) delete form.dataset.key;
  if (!answer.ok) return tell(output, "bad", reason(told));
  would(null);
  tell(output, "good", ["Done.", ...outcome(told)]);
  lead(form, output, told.id);
  for (const field of form.querySelectorAll("[data-once]")) field.value = "";
  dispatchEvent(new Event("renew"));
}

/** Puts the cursor where a field is wrong. */
function point({ field, at }) {
  field.focus();
  field.setSelectionRange(at, at);
}

const armed = new WeakSet();

/** Makes the forms within `part` work. */
export function arm(part) {
  for (const form of part.querySelectorAll("form.act")) {
    const output = form.querySelector("output");
    if (armed.has(form)) continue;
    armed.add(form);
    form.addEventListener("input", (event) => {
      delete form.dataset.key;
      event.target.removeAttribute("aria-invalid");
      write(form);
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const act = event.submitter?.value === "trial" ? trial : send;
      const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
      for (const button of buttons) button.disabled = true;
      try {
        await act(form, output, event.submitter?.dataset.url ?? form.dataset.url);
      } catch (problem) {
        const away = problem instanceof TypeError;
        if (problem.field) point(problem);
        tell(output, "bad", [away ? "The server cannot be reached. Done a second time, it counts once." : problem.message]);
      } finally {
        for (const button of buttons) button.disabled = false;
        write(form);
      }
    });
    write(form);
  }
  for (const slider of part.querySelectorAll("input[data-travel]")) travel(slider);
}

document.addEventListener("click", (event) => {
  const name = event.target.closest?.("[data-event-name]")?.dataset.eventName;
  const field = document.getElementById("event-name");
  if (!name || !field) return;
  field.value = name;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
});

/** A slider through the revisions of an instance: the page as it was then, without leaving it. */
function travel(slider) {
  if (armed.has(slider)) return;
  armed.add(slider);
  slider.addEventListener("change", async () => {
    const url = new URL(location.href);
    if (slider.value === slider.max) url.searchParams.delete("revision");
    else url.searchParams.set("revision", slider.value);
    for (const place of ["cursor", "page", "trail"]) url.searchParams.delete(place);
    history.replaceState(null, "", url);
    await renew();
  });
}
