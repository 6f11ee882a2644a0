// The learning curve: accuracy over labels, ± its standard error. Made of DOM calls, no markup.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 190, 40, 12, 10, 36];

function add(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// Return round numbers from low to high, five at most.
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-6; k += 1) found.push(k * step);
  return found;
}

function words(point) {
  const [mean, error] = [point.accuracy, point.accuracy_stderr].map((x) => x.toFixed(3));
  return `${point.labeled} labels: accuracy ${mean} ± ${error}`;
}

function axes(svg, x, y, columns, rows) {
  for (const value of rows) {
    add(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) });
    add(svg, "text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2));
  }
  for (const value of columns) {
    add(svg, "text", { class: "tick", x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(Math.round(value)));
  }
  const middle = (LEFT + WIDTH - RIGHT) / 2;
  add(svg, "text", { class: "tick", x: middle, y: HEIGHT - 4, "text-anchor": "middle" }, "labels");
}

export function curve(place, points) {
  place.replaceChildren();
  if (!points.length) {
    const none = document.createElement("p");
    none.className = "quiet";
    none.textContent = "No round is trained yet.";
    place.append(none);
    return;
  }
  const counts = points.map((p) => p.labeled);
  const lows = points.map((p) => Math.max(0, p.accuracy - p.accuracy_stderr));
  const highs = points.map((p) => Math.min(1, p.accuracy + p.accuracy_stderr));
  let [low, high] = [Math.min(...lows), Math.max(...highs)];
  if (high - low < 0.1) [low, high] = [Math.max(0, low - 0.05), Math.min(1, high + 0.05)];
  const [first, final] = [Math.min(...counts), Math.max(...counts)];
  const span = final - first || 1;
  const x = (n) => (first === final ? (LEFT + WIDTH - RIGHT) / 2 : LEFT + 8 + ((n - first) / span) * (WIDTH - LEFT - RIGHT - 16));
  const y = (a) => TOP + ((high - a) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const last = points[points.length - 1];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Accuracy over labels, ${points.length} rounds. Last: ${words(last)}`);
  const columns = first === final ? [first] : ticks(first, final).filter(Number.isInteger);
  axes(svg, x, y, columns, ticks(low, high));
  add(svg, "polyline", { class: "line", points: points.map((p) => `${x(p.labeled)},${y(p.accuracy)}`).join(" ") });
  points.forEach((p, k) => {
    const at = x(p.labeled);
    add(svg, "line", { class: "error", x1: at, x2: at, y1: y(lows[k]), y2: y(highs[k]) });
    for (const end of [lows[k], highs[k]]) add(svg, "line", { class: "error", x1: at - 4, x2: at + 4, y1: y(end), y2: y(end) });
    const dot = add(svg, "circle", { class: "dot", cx: at, cy: y(p.accuracy), r: 4 });
    add(dot, "title", {}, words(p));
  });
  const note = document.createElement("details");
  const head = document.createElement("summary");
  head.textContent = `Accuracy ${last.accuracy.toFixed(3)} ± ${last.accuracy_stderr.toFixed(3)} after ${last.labeled} labels`;
  const list = document.createElement("ol");
  for (const point of points) {
    const line = document.createElement("li");
    line.textContent = words(point);
    list.append(line);
  }
  const meaning = document.createElement("p");
  meaning.className = "quiet";
  meaning.textContent = "± one standard error, on the test rows.";
  note.append(head, list, meaning);
  place.append(svg, note);
}
