// What stands beside the example: progress, training, curve, classes, agreement.

import { curve } from "./chart.js";

const at = (id) => document.getElementById(id);

export function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Text of people's: its direction stays its own.
export const apart = (text) => element("bdi", text);

function facts(told) {
  const list = at("facts");
  list.replaceChildren();
  const lines = [
    ["Labelled", `${told.labelled} of ${told.rows} rows`],
    ["For the test", `${told.of_them_test} of ${told.test_rows}`],
    ["Set aside", told.set_aside],
    ["Disagreements", told.conflicts],
    ["Rounds", `${told.curve.length} of ${told.rounds}`],
  ];
  if (told.budget !== null) lines.push(["Budget left", `${told.budget_left} of ${told.budget} labels`]);
  for (const [name, value] of lines) list.append(element("dt", name), element("dd", String(value)));
}

function progress(told) {
  const bar = at("bar");
  if (told.budget !== null) {
    bar.max = told.budget;
    bar.value = Math.min(told.labelled, told.budget);
    at("bar-label").textContent = `${told.labelled} of a budget of ${told.budget} labels`;
  } else {
    bar.max = Math.max(1, told.rows);
    bar.value = told.labelled;
    at("bar-label").textContent = `${told.labelled} of ${told.rows} rows are labelled`;
  }
}

function classes(told) {
  at("classes-part").hidden = told.by_class === null;
  const rows = Object.entries(told.by_class || {});
  const most = Math.max(1, ...rows.map(([, count]) => count));
  at("classes").replaceChildren(
    ...rows.map(([name, count]) => {
      const [row, head, cell] = [element("tr"), element("th", undefined, { scope: "row" }), element("td")];
      head.append(apart(name));
      cell.append(
        element("meter", undefined, { min: 0, max: most, value: count, "aria-hidden": "true" }),
        element("span", ` ${count}`),
      );
      row.append(head, cell);
      return row;
    }),
  );
}

function coefficient(value) {
  if (value.value === null) return `undefined: ${value.why}`;
  const rows = value.rows === 1 ? "1 row" : `${value.rows} rows`;
  return `${value.value.toFixed(2)} (${rows}, ${Math.round(100 * value.observed)} % equal)`;
}

function agreement(told) {
  const place = at("agreement");
  const people = element("ul");
  for (const [name, count] of Object.entries(told.annotators)) {
    const line = element("li");
    line.append(apart(name), element("span", `: ${count} ${count === 1 ? "row" : "rows"}`));
    people.append(line);
  }
  place.replaceChildren(people);
  if (Object.keys(told.annotators).length < 2) {
    place.append(element("p", "Agreement is shown when two have labelled the same rows.", { class: "quiet" }));
    return;
  }
  const list = element("dl");
  list.append(element("dt", "Krippendorff’s alpha"), element("dd", coefficient(told.agreement.alpha)));
  for (const pair of told.agreement.kappa) {
    const name = element("dt", "Cohen’s kappa, ");
    name.append(apart(pair.between[0]), element("span", " and "), apart(pair.between[1]));
    list.append(name, element("dd", coefficient(pair)));
  }
  place.append(list, element("p", "Of what each said alone; decisions that settle do not count.", { class: "quiet" }));
}

function seconds(count) {
  const minutes = Math.floor(count / 60);
  return minutes ? `${minutes} min ${Math.round(count % 60)} s` : `${Math.round(count)} s`;
}

let trainingSaid = "";

export function training(told, overview) {
  const running = told.state === "running";
  const bar = at("training-bar");
  bar.hidden = !running;
  if (told.percent === null) bar.removeAttribute("value");
  else bar.value = told.percent;
  const stage = told.stage ? `${told.stage}, ${told.percent} %` : "working";
  const said = {
    idle: "",
    running: `Training (${stage}). You can go on labelling.`,
    done: `Training ended after ${seconds(told.seconds)}.`,
    failed: `Training failed: ${told.error}`,
  }[told.state];
  const shown = at("training-said");
  shown.classList.toggle("failed", told.state === "failed");
  // What is said aloud: beginnings, stages and ends, not each percent.
  const spoken = told.state + told.stage;
  shown.setAttribute("aria-live", spoken === trainingSaid ? "off" : "polite");
  trainingSaid = spoken;
  if (shown.textContent !== said) shown.textContent = said;
  const short = overview.needed;
  at("train").disabled = running || overview.finished || short > 0 || Boolean(overview.fault);
  at("train-less").hidden = running || !overview.enough_by_force;
  const need = short === 1 ? "1 more decision is" : `${short} more decisions are`;
  const purpose = overview.for.startsWith("round") ? `before ${overview.for}` : `for the ${overview.for}`;
  const settle = overview.queues.new === 0 && overview.conflicts ? " Settle the disagreements." : "";
  at("training-need").textContent = overview.finished
    ? "All rounds are done."
    : running
      ? "What is labelled meanwhile counts in the next round."
      : short > 0
        ? `${need} needed ${purpose}.${settle}`
        : "All that is needed is decided.";
}

export function show(told) {
  progress(told);
  facts(told);
  classes(told);
  agreement(told);
  curve(at("curve"), told.curve);
  training(told.training, told);
  for (const node of document.querySelectorAll("[data-count]")) {
    node.textContent = told.queues[node.dataset.count];
  }
}
