// A text as text: control characters shown, highlights counted in code points of the original.

// What is invisible, or turns the direction of what stands round it.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/u;

export function shownSign(sign) {
  // The pictures of control characters are in few fonts.
  return `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

// A word joiner between letters of a script that needs it is seen by its effect.
function unseen(sign, before, after) {
  if (!UNSEEN.test(sign)) return false;
  const joins = sign === "\u200d" || sign === "\u200c";
  return !(joins && before && after && before.codePointAt(0) > 0x24f && after.codePointAt(0) > 0x24f);
}

// Put signs (code points) into a node; each child says in data-at where it begins.
export function fill(node, text, marks = []) {
  node.replaceChildren();
  const signs = Array.from(text);
  const marked = (at) => marks.some(([start, end]) => start <= at && at < end);
  let run = "";
  let from = 0;
  let lit = false;
  const flush = (end) => {
    if (run) {
      const piece = document.createElement(lit ? "mark" : "span");
      piece.textContent = run;
      piece.dataset.at = from;
      node.append(piece);
    }
    run = "";
    from = end;
  };
  signs.forEach((sign, at) => {
    const now = marks.length > 0 && marked(at);
    const hidden = unseen(sign, signs[at - 1], signs[at + 1]);
    if (hidden || now !== lit) flush(at);
    lit = now;
    if (!hidden) {
      run += sign;
      return;
    }
    const piece = document.createElement(lit ? "mark" : "span");
    piece.className = "control";
    piece.textContent = shownSign(sign);
    piece.dataset.at = at;
    piece.dataset.sign = "1";
    node.append(piece);
    from = at + 1;
  });
  flush(signs.length);
}

// Return where a point of the DOM lies in the text, in code points.
function place(node, container, offset, isEnd) {
  if (container === node) {
    const child = node.childNodes[offset];
    return child ? Number(child.dataset.at) : Infinity;
  }
  const piece = container.nodeType === Node.TEXT_NODE ? container.parentNode : container;
  const at = Number(piece.dataset.at);
  if (piece.dataset.sign) return at + (isEnd && offset > 0 ? 1 : 0);
  if (container === piece) return at + (offset ? Array.from(piece.textContent).length : 0);
  return at + Array.from(container.data.slice(0, offset)).length;
}

// Return [start, end] of what is selected in a node; null: nothing is.
export function selected(node, text) {
  const selection = document.getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!node.contains(range.startContainer) || !range.intersectsNode(node)) return null;
  const length = Array.from(text).length;
  const inside = node.contains(range.endContainer);
  const start = place(node, range.startContainer, range.startOffset, false);
  const end = inside ? place(node, range.endContainer, range.endOffset, true) : length;
  return start < Math.min(end, length) ? [start, Math.min(end, length)] : null;
}

// Return pairs with one more: those that touch become one; the same once more goes away.
export function withMark(marks, added) {
  const same = marks.filter(([start, end]) => !(start === added[0] && end === added[1]));
  if (same.length < marks.length) return same;
  const [apart, touched] = [[], [added]];
  for (const pair of marks) (pair[0] <= added[1] && added[0] <= pair[1] ? touched : apart).push(pair);
  const start = Math.min(...touched.map((pair) => pair[0]));
  const end = Math.max(...touched.map((pair) => pair[1]));
  return [...apart, [start, end]].sort((a, b) => a[0] - b[0]);
}

// Arrows go by words in a text that nobody can write in: a selection without a mouse.
export function moveByWords(event, node) {
  const step = { ArrowLeft: "left", ArrowRight: "right" }[event.key];
  if (!step) return;
  event.preventDefault();
  const selection = document.getSelection();
  if (!selection.rangeCount || !node.contains(selection.anchorNode)) {
    selection.collapse(node.firstChild ? node.firstChild.firstChild : node, 0);
  }
  selection.modify(event.shiftKey ? "extend" : "move", step, "word");
}
