// The page: one example, what is decided about it, and the next one.

import { Refused, about, get, post } from "./api.js";
import { apart, element, show, training } from "./side.js";
import { fill, moveByWords, selected, withMark } from "./text.js";

const at = (id) => document.getElementById(id);
const EMPTY = {
  new: ["Nothing new is open", "All that was asked for is decided. Train now, or look at another list."],
  second: ["Nothing to compare", "You have seen all that others decided."],
  aside: ["Nothing is set aside", "Skipped and unsure rows come here."],
  settle: ["No disagreements", "Rows on which annotators differ come here, to be settled."],
};

let annotator = "";
let queue = "new";
let handed = null; // what /api/next gave
let marks = [];
let chosen = null; // selected when the button was pressed, which may take the selection away
let begun = 0;
let busy = false;
let retry = null; // what "try again" does
let last = null; // number of the decision that undo takes back
let overview = null;
let polling = false;

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
    retry = overtaken ? () => reload(handed.item.id) : again;
    at("fault-text").textContent = `${prefix}${error.message}`;
    at("retry").textContent = overtaken ? "Show what stands" : "Try again";
    at("fault").hidden = false;
    return false;
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function mark(pairs) {
  marks = pairs;
  fill(at("text"), handed.item.text, marks);
  at("clear-highlights").hidden = marks.length === 0;
  at("highlight-count").textContent = marks.length ? `${marks.length} highlighted` : "";
}

function options(names) {
  const own = handed.own && handed.own.answer;
  at("options").replaceChildren(
    ...names.map((name, k) => {
      const button = element("button", undefined, { type: "button", class: "option" });
      if (k < 9) {
        button.append(element("kbd", String(k + 1)));
        button.setAttribute("aria-keyshortcuts", String(k + 1));
      }
      button.append(apart(name));
      if (name === own) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => decide("answer", { answer: name }));
      return button;
    }),
  );
  at("filter-line").hidden = names.length < 13;
  at("filter").value = "";
}

// What annotators said of a row to be settled; a free answer can be taken over.
function answers() {
  const given = Object.entries(handed.answers || {});
  at("answers").hidden = given.length === 0;
  at("answers-list").replaceChildren(
    ...given.map(([name, said]) => {
      const line = element("li");
      line.append(apart(name), element("span", ": "), element("strong", undefined));
      line.lastChild.append(apart(said));
      if (!handed.item.options && said !== "no such label") {
        const take = element("button", "Take this answer", { type: "button" });
        take.addEventListener("click", () => decide("answer", { answer: said, like: name }));
        line.append(" ", take);
      }
      return line;
    }),
  );
}

function showExample(focus) {
  const { item, own, left, held } = handed;
  at("example").hidden = item === null;
  at("empty").hidden = item !== null;
  if (item === null) {
    const [title, text] = EMPTY[queue];
    const waiting = held === 1 ? "The last row is" : `The last ${held} rows are`;
    at("empty-title").textContent = left ? "Others are at it" : title;
    at("empty-text").textContent = left ? `${waiting} on other annotators’ screens.` : text;
    if (focus) at("empty").focus();
    return;
  }
  at("example-title").replaceChildren("Example ", apart(item.id));
  at("left").textContent = left > 1 ? `${left} left in this list` : left ? "the last of this list" : "";
  at("comment").value = own ? own.comment : "";
  mark(own ? own.highlights : []);
  at("text").scrollTop = 0;
  at("choice").hidden = item.options === null;
  at("free").hidden = item.options !== null;
  at("choice-title").textContent = handed.answers ? "Settle it: the label is" : "Label";
  if (item.options) options(item.options);
  else at("answer").value = (own && own.answer) || "";
  for (const button of document.querySelectorAll("[data-outcome]")) {
    // A conflict is settled by an answer, or by saying that there is none.
    button.hidden = Boolean(handed.answers) && button.dataset.outcome !== "no such label";
  }
  answers();
  begun = performance.now();
  if (focus) at("example-title").focus();
}

async function load(row = null, focus = true) {
  const words = { annotator, queue };
  if (row !== null) words.row = row;
  handed = await get("/api/next", words);
  showExample(focus);
  await refresh();
}

const reload = (row = null, focus = true) => attempt(() => load(row, focus), () => reload(row, focus));

async function refresh() {
  overview = await get("/api/overview", { annotator });
  last = overview.last;
  at("undo").disabled = last === null;
  if (overview.fault) {
    at("empty-text").textContent = overview.fault;
  }
  show(overview);
  if (overview.training.state === "running") poll();
}

async function decide(outcome, more = {}) {
  if (!handed || !handed.item) return;
  const { item, own } = handed;
  const body = {
    annotator,
    id: item.id,
    outcome,
    comment: at("comment").value,
    highlights: marks,
    seconds: Math.round(performance.now() - begun) / 1000,
    replaces: own ? own.number : null,
    final: Boolean(handed.answers),
    ...more,
  };
  const go = async () => {
    if (!(await attempt(() => post("/api/decisions", body), go, "Not saved: "))) return;
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
    await refresh();
    if (!handed.item) await load(null, false);
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

function highlight() {
  if (!handed || !handed.item) return;
  const pair = chosen || selected(at("text"), handed.item.text);
  chosen = null;
  if (pair === null) {
    say("Select some of the text first: with the mouse, or in the text with Shift and the arrows.");
    return;
  }
  mark(withMark(marks, pair));
  document.getSelection().removeAllRanges();
  say("Highlighted; it is saved with the decision.");
}

const KEYS = {
  s: () => decide("skip"),
  u: () => decide("unsure"),
  n: () => decide("no such label"),
  z: undo,
  c: () => at("comment").focus(),
  h: highlight,
  "?": () => at("help").showModal(),
};

function pressed(event) {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("textarea, input:not([type=radio]):not([type=checkbox])");
  const item = handed && handed.item;
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
  at("highlight").addEventListener("click", highlight);
  at("highlight").addEventListener("pointerdown", () => {
    chosen = handed && handed.item ? selected(at("text"), handed.item.text) : null;
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

// The token is in a cookie by now: out of the address, and of what is copied from it.
if (location.search) history.replaceState(null, "", "/");
listen();

open();
