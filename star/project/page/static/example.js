// The example on the screen: its text, options, answers of others, highlights.

import { apart, element } from "./side.js";
import { fill, selected, withMark } from "./text.js";

const at = (id) => document.getElementById(id);

const EMPTY = {
  new: ["Nothing new is open", "All that was asked for is decided. Train now, or look at another list."],
  second: ["Nothing to compare", "You have seen all that others decided."],
  aside: ["Nothing is set aside", "Skipped and unsure rows come here."],
  settle: ["No disagreements", "Rows on which annotators differ come here, to be settled."],
};

// What is on the screen: `handed` as /api/next gave it, highlights, when it came, and what was
// selected when the button was pressed, which may take the selection away.
export const screen = { handed: null, marks: [], begun: 0, chosen: null };

export function mark(pairs) {
  screen.marks = pairs;
  fill(at("text"), screen.handed.item.text, screen.marks);
  at("clear-highlights").hidden = screen.marks.length === 0;
  at("highlight-count").textContent = screen.marks.length ? `${screen.marks.length} highlighted` : "";
}

function options(names, decide) {
  const own = screen.handed.own && screen.handed.own.answer;
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
function answers(decide) {
  const given = Object.entries(screen.handed.answers || {});
  at("answers").hidden = given.length === 0;
  at("answers-list").replaceChildren(
    ...given.map(([name, said]) => {
      const line = element("li");
      line.append(apart(name), element("span", ": "), element("strong", undefined));
      line.lastChild.append(apart(said));
      if (!screen.handed.item.options && said !== "no such label") {
        const take = element("button", "Take this answer", { type: "button" });
        take.addEventListener("click", () => decide("answer", { answer: said, like: name }));
        line.append(" ", take);
      }
      return line;
    }),
  );
}

export function showExample(focus, decide) {
  const { item, own, left } = screen.handed;
  at("example").hidden = item === null;
  at("empty").hidden = item !== null;
  if (item === null) {
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
  at("choice-title").textContent = screen.handed.answers ? "Settle it: the label is" : "Label";
  if (item.options) options(item.options, decide);
  else at("answer").value = (own && own.answer) || "";
  for (const button of document.querySelectorAll("[data-outcome]")) {
    // A conflict is settled by an answer, or by saying that there is none.
    button.hidden = Boolean(screen.handed.answers) && button.dataset.outcome !== "no such label";
  }
  answers(decide);
  screen.begun = performance.now();
  if (focus) at("example-title").focus();
}

// Say why there is no row.
export function showEmpty({ left, held }, queue, overview) {
  let [title, text] = EMPTY[queue];
  if (overview.fault) [title, text] = ["Nothing can be asked", overview.fault];
  else if (left) {
    title = "Others are at it";
    text = held === 1 ? "The last row is on another annotator’s screen." : `The last ${held} rows are on other annotators’ screens.`;
  } else if (queue === "new" && overview.finished) text = "All rounds are trained.";
  else if (queue === "new" && overview.training.state === "running") text = "The training chooses what is asked next.";
  else if (queue === "new" && overview.needed) text = "What training still waits for are disagreements: settle them.";
  if (at("empty-title").textContent !== title) at("empty-title").textContent = title;
  if (at("empty-text").textContent !== text) at("empty-text").textContent = text;
}

export function highlight(say) {
  if (!screen.handed || !screen.handed.item) return;
  const pair = screen.chosen || selected(at("text"), screen.handed.item.text);
  screen.chosen = null;
  if (pair === null) {
    say("Select some of the text first: with the mouse, or in the text with Shift and the arrows.");
    return;
  }
  mark(withMark(screen.marks, pair));
  document.getSelection().removeAllRanges();
  say("Highlighted; it is saved with the decision.");
}
