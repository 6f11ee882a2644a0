// The page: one example, what is decided about it, and the next one.

import { Refused, about, get, post } from "./api.js";
import { highlight, mark, screen, showEmpty, showExample } from "./example.js";
import { apart, show, training } from "./side.js";
import { moveByWords, selected } from "./text.js";

const at = (id) => document.getElementById(id);
let annotator = "";
let queue = "new";
let busy = false;
let retry = null; // what "try again" does
let last = null; // number of the decision that undo takes back
let overview = null;
let polling = false;
let turns = 0; // of overviews that were asked for: an older one does not replace a newer one

const kept = {
  get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } },
};

function say(...parts) {
  at("status").replaceChildren(...parts);
}

// Do one thing with the server at a time; `again` is what "try again" does.
async function attempt(work, again, prefix = "") {
  if (busy) return false;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  at("fault").hidden = true;
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const overtaken = error.status === 409;
    say();
    retry = overtaken ? () => reload() : again;
    at("fault-text").textContent = `${prefix}${error.message}`;
    at("retry").textContent = overtaken ? "Go on" : "Try again";
    at("fault").hidden = false;
    return false;
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

async function load(row, focus) {
  const words = { annotator, queue };
  if (row !== null) words.row = row;
  const handed = await get("/api/next", words);
  if (handed.item === null) await refresh(handed);
  screen.handed = handed;
  showExample(focus, decide);
}

// What stands beside the example comes behind it: the next decision need not wait.
async function reload(row = null, focus = true) {
  const go = () => reload(row, focus);
  if (!(await attempt(() => load(row, focus), go))) return;
  try {
    if (screen.handed.item !== null) await refresh();
  } catch (error) {
    if (!(error instanceof Refused)) throw error; // the next decision says what is wrong
  }
}

async function refresh(handed = screen.handed) {
  const turn = (turns += 1);
  const told = await get("/api/overview", { annotator });
  if (turn !== turns) return; // something was decided since
  overview = told;
  last = overview.last;
  at("undo").disabled = last === null;
  if (handed.item === null) showEmpty(handed, queue, overview);
  show(overview);
  if (overview.training.state === "running") poll();
}

// What undo takes back, until the overview says it too.
function expect(number) {
  turns += 1;
  last = number;
  at("undo").disabled = last === null;
}

async function decide(outcome, more = {}) {
  if (!screen.handed || !screen.handed.item) return;
  const { item, own } = screen.handed;
  const body = {
    annotator,
    id: item.id,
    outcome,
    comment: at("comment").value,
    highlights: screen.marks,
    seconds: Math.round(performance.now() - screen.begun) / 1000,
    replaces: own ? own.number : null,
    final: Boolean(screen.handed.answers),
    ...more,
  };
  const go = async () => {
    const work = async () => expect((await post("/api/decisions", body)).saved);
    if (!(await attempt(work, go, "Not saved: "))) return;
    say("Saved: ", apart(more.answer || outcome), ".");
    await reload();
  };
  await go();
}

async function undo() {
  const number = last;
  if (number === null) return;
  let row = null;
  const go = async () => {
    const work = async () => { row = (await post("/api/undo", { annotator, number })).id; };
    if (!(await attempt(work, go, "Not undone: "))) return;
    expect(null);
    say("Undone: example ", apart(row), " is here again.");
    await reload(row);
  };
  await go();
}

async function train(force) {
  const work = async () => training(await post("/api/training", { force }), overview);
  if (await attempt(work, () => train(force), "Not started: ")) poll();
}

async function poll() {
  if (polling) return;
  polling = true;
  try {
    for (;;) {
      await new Promise((done) => setTimeout(done, 1000));
      const told = await get("/api/training");
      training(told, overview);
      if (told.state !== "running") break;
    }
    if (screen.handed.item) await refresh();
    else await reload(null, false);
  } catch (error) {
    at("training-said").textContent = error.message;
  } finally {
    polling = false;
  }
}

function askName() {
  at("name").value = annotator || kept.get("annotator") || "";
  at("name-fault").textContent = "";
  at("name-dialog").showModal();
}

async function begin(name) {
  try {
    const told = await get("/api/overview", { annotator: name });
    annotator = told.annotator;
  } catch (error) {
    if (!at("name-dialog").open) askName();
    at("name-fault").textContent = error.message;
    return;
  }
  kept.set("annotator", annotator);
  at("who").textContent = annotator;
  if (at("name-dialog").open) at("name-dialog").close();
  await reload();
}

const KEYS = {
  s: () => decide("skip"),
  u: () => decide("unsure"),
  n: () => decide("no such label"),
  z: undo,
  c: () => at("comment").focus(),
  h: () => highlight(say),
  "?": () => at("help").showModal(),
};

function pressed(event) {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("textarea, input:not([type=radio]):not([type=checkbox])");
  const item = screen.handed && screen.handed.item;
  if (typing && event.key === "Escape") at("example-title").focus();
  if (event.ctrlKey && event.key === "Enter" && item && !item.options) at("free").requestSubmit();
  const held = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  if (typing || held || !at("keys-on").checked) return;
  const button = document.querySelector(`[aria-keyshortcuts="${CSS.escape(event.key)}"]`);
  const answer = /^[1-9]$/.test(event.key) && item && item.options && item.options[event.key - 1];
  const work = answer ? () => decide("answer", { answer }) : KEYS[event.key];
  if (!work || (button && button.hidden)) return;
  event.preventDefault();
  work();
}

function listen() {
  document.addEventListener("keydown", pressed);
  at("text").addEventListener("keydown", (event) => moveByWords(event, at("text")));
  at("queues").addEventListener("change", (event) => {
    queue = event.target.value;
    reload(null, false);
  });
  for (const button of document.querySelectorAll("[data-outcome]")) {
    button.addEventListener("click", () => decide(button.dataset.outcome));
  }
  at("free").addEventListener("submit", (event) => {
    event.preventDefault();
    decide("answer", { answer: at("answer").value });
  });
  at("filter").addEventListener("input", () => {
    const word = at("filter").value.toLowerCase();
    for (const button of at("options").children) {
      button.hidden = !button.lastChild.textContent.toLowerCase().includes(word);
    }
  });
  at("undo").addEventListener("click", undo);
  at("retry").addEventListener("click", () => retry());
  at("highlight").addEventListener("click", () => highlight(say));
  at("highlight").addEventListener("pointerdown", () => {
    screen.chosen = screen.handed && screen.handed.item ? selected(at("text"), screen.handed.item.text) : null;
  });
  at("clear-highlights").addEventListener("click", () => mark([]));
  at("train").addEventListener("click", () => train(false));
  at("train-less").addEventListener("click", () => train(true));
  at("change-name").addEventListener("click", askName);
  at("open-help").addEventListener("click", KEYS["?"]);
  at("close-help").addEventListener("click", () => at("help").close());
  at("keys-on").checked = kept.get("keys") !== "off";
  at("keys-on").addEventListener("change", () => kept.set("keys", at("keys-on").checked ? "on" : "off"));
  at("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(at("name").value);
  });
  setInterval(look, 15000);
  at("name-dialog").addEventListener("cancel", (event) => annotator || event.preventDefault());
}

async function open() {
  const work = async () => {
    const project = await about();
    at("project").textContent = project.name;
    document.title = `Annotate ${project.name}`;
  };
  if (!(await attempt(work, open))) return;
  const name = kept.get("annotator");
  if (name) await begin(name);
  else askName();
}

// What others do meanwhile, and rows that a training has chosen.
async function look() {
  if (busy || !annotator || document.hidden) return;
  try {
    await refresh();
    if (screen.handed.item === null && overview.queues[queue] > 0) await reload(null, false);
  } catch {
    // The next decision says so.
  }
}

// The token is in a cookie by now: out of the address, and of what is copied from it.
if (location.search) history.replaceState(null, "", "/");
listen();

open();
