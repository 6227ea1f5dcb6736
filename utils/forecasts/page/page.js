"use strict";
const find = (id) => document.getElementById(id);
const values = JSON.parse(find("values").textContent);
const { lat, lon, fields } = values;
const position = new Map(values.cells.map((cell, at) => [cell, at]));  // among the cells with a forecast
const map = find("map"), mark = map.querySelector(".mark"), chart = find("chart");
const dayNumber = (day) => Date.parse(day) / 864e5, dayName = (number) => new Date(864e5 * number).toISOString();
let shown = values.start;

const number = (value, digits) => value === null ? "–" : value.toFixed(digits).replace("-", "−");
const moisture = (value) => value === null ? "–" : number(value / 1000, 3);
const signed = (value) => (value > 0 ? "+" : "") + moisture(value);
const percent = (value) => value === null ? "–" : `${value} %`;
const range = (low, high) => `${moisture(low)}–${moisture(high)}`;

function degrees(value, positive, negative) {
  const around = ((value + 180) % 360 + 360) % 360 - 180;
  return `${Number(Math.abs(around).toFixed(4))}° ${around < 0 ? negative : positive}`;
}

function add(parent, name, attributes, text = "") {  // to a drawing
  const element = document.createElementNS(chart.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return parent.appendChild(element);
}

function steps(low, high, most) {  // round numbers from low to high
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((size) => (high - low) / size <= most) ?? 1000;
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, i) => first + i * step);
}

function drawSeries(at) {
  const width = Math.max(chart.clientWidth, 280), height = 270;
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren();
  const past = values.days.map(dayNumber), ahead = values.valid.map(dayNumber), last = ahead[0] - values.leads[0];
  const dots = past.map((day, i) => [day, values.observed[i][at]]).filter(([, value]) => value !== null);
  const of = (name) => fields[name].map((lead) => lead[at]);
  const [mean, low90, high90, low50, high50, low, high] =
    ["mean", "low_90", "high_90", "low_50", "high_50", "usual_low", "usual_high"].map(of);
  const all = [...dots.map(([, value]) => value), ...low90, ...high90, ...low, ...high].filter((v) => v !== null);
  const bottom = Math.max(Math.min(...all) - 10, 0), top = Math.max(...all) + 10;
  const first = Math.min(past[0] ?? last, last), right = Math.max(...ahead) + 0.7;
  const x = (day) => 52 + (day - first + 0.5) / (right - first + 0.5) * (width - 72);
  const y = (value) => 8 + (top - value) / (top - bottom) * (height - 44);
  const line = (x1, y1, x2, y2, kind) => add(chart, "line", { x1, y1, x2, y2, class: kind });
  for (const value of steps(bottom, top, 5)) {
    line(52, y(value), width - 20, y(value), "grid");
    add(chart, "text", { x: 47, y: y(value) + 4, "text-anchor": "end" }, number(value / 1000, 2 + (value % 10 ? 1 : 0)));
  }
  for (const day of steps(0, Math.floor(right) - first, Math.floor(width / 70)).map((back) => Math.floor(right) - back)) {
    line(x(day), height - 36, x(day), height - 31, "tick");
    add(chart, "text", { x: x(day), y: height - 17, "text-anchor": "middle" }, dayName(day).slice(5, 10));
  }
  add(chart, "text", { x: 12, y: (height - 30) / 2, class: "title", transform: `rotate(-90 12 ${(height - 30) / 2})` },
    "soil moisture (m³ m⁻³)");
  line(x(last + 0.5), 8, x(last + 0.5), height - 36, "start");
  ahead.forEach((day, i) => {
    if (low[i] === null) return;
    add(chart, "rect", { x: x(day - 0.45), width: x(day + 0.45) - x(day - 0.45), y: y(high[i]),
      height: y(low[i]) - y(high[i]), class: "usual" });
  });
  for (const [day, value] of dots) add(chart, "circle", { cx: x(day), cy: y(value), r: 2.5, class: "dot" });
  ahead.forEach((day, i) => {
    line(x(day), y(low90[i]), x(day), y(high90[i]), "most");
    line(x(day), y(low50[i]), x(day), y(high50[i]), "half");
    add(chart, "circle", { cx: x(day), cy: y(mean[i]), r: 4, class: "mean" });
  });
  chart.setAttribute("aria-label", `Soil moisture of the last days and ${values.leads.length} forecasts; the table has the numbers`);
}

function fillTable(at) {
  const rows = {
    "soil moisture (m³ m⁻³)": (of) => moisture(of("mean")),
    "50 % interval": (of) => range(of("low_50"), of("high_50")),
    "90 % interval": (of) => range(of("low_90"), of("high_90")),
    "difference from usual": (of) => signed(of("anomaly")),
    "chance of unusually dry": (of) => percent(of("dry")),
    "chance of unusually wet": (of) => percent(of("wet")),
  };
  find("numbers").tBodies[0].replaceChildren(...Object.entries(rows).map(([name, text]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: name }));
    values.leads.forEach((_, i) => row.insertCell().textContent = text((field) => fields[field][i][at]));
    return row;
  }));
}

function show(cell) {
  shown = cell;
  const row = Math.floor(cell / lon.length), column = cell % lon.length, at = position.get(cell);
  const age = at === undefined ? 0 : values.age[at];
  find("place").textContent = `${degrees(lat[row], "N", "S")} ${degrees(lon[column], "E", "W")}`;
  find("age").textContent = at === undefined ? "This cell has no forecast."
    : age ? `Its last observation is ${age} day${age === 1 ? "" : "s"} older than the newest day of soil moisture.` : "";
  find("series").hidden = at === undefined;
  if (at !== undefined) { drawSeries(at); fillTable(at); }
  if (!mark) return;
  for (const rect of mark.children) {
    rect.setAttribute("x", values.x[column]);
    rect.setAttribute("y", values.y[row + 1]);
    rect.setAttribute("width", values.x[column + 1] - values.x[column]);
    rect.setAttribute("height", values.y[row] - values.y[row + 1]);
  }
}

function choosePicture() {
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  for (const image of map.querySelectorAll("img")) {
    image.hidden = image.dataset.part !== chosen("part") || image.dataset.lead !== chosen("lead");
  }
}

function cellAt(event) {  // under the pointer, if any
  const box = mark.getBoundingClientRect(), whole = mark.viewBox.baseVal;
  const px = (event.clientX - box.left) / box.width * whole.width;
  const py = (event.clientY - box.top) / box.height * whole.height;
  const column = values.x.findLastIndex((edge) => edge <= px), row = values.y.findLastIndex((edge) => edge >= py);
  const inside = column >= 0 && row >= 0 && column < lon.length && row < lat.length;
  return inside ? row * lon.length + column : null;
}

function neighbour(rows, columns) {  // the next cell with a forecast in this direction
  let row = Math.floor(shown / lon.length) + rows, column = shown % lon.length + columns;
  for (; row >= 0 && row < lat.length && column >= 0 && column < lon.length; row += rows, column += columns) {
    if (position.has(row * lon.length + column)) return row * lon.length + column;
  }
  return shown;
}

function nearest(axis, distance) {  // the position of the cell around a place, or −1
  const near = axis.map(distance), at = near.indexOf(Math.min(...near));
  const gaps = [at && axis[at] - axis[at - 1], at < axis.length - 1 && axis[at + 1] - axis[at]];
  return near[at] <= (axis.length > 1 ? Math.max(...gaps) : 1) / 2 + 1e-6 ? at : -1;
}

function goTo(form) {
  const wanted = [form.lat, form.lon].map((input) => Number(input.value));
  const row = nearest(lat, (value) => Math.abs(value - wanted[0]));
  const column = nearest(lon, (value) => Math.abs(((value - wanted[1] + 180) % 360 + 360) % 360 - 180));
  form.querySelector("output").textContent = row < 0 || column < 0 ? "outside the map" : "";
  if (row >= 0 && column >= 0) show(row * lon.length + column);
}

for (const element of document.querySelectorAll(".switch, .hint, #cell")) element.hidden = false;
for (const element of document.querySelectorAll("[data-usual]")) element.hidden = fields.usual_low.flat().every((v) => v === null);
if (mark) {
  mark.toggleAttribute("hidden", false);
  map.classList.add("live");
  Object.entries({ tabindex: 0, role: "group", "aria-label": "Map. The arrow keys go to the next cell with a forecast." })
    .forEach(([key, value]) => map.setAttribute(key, value));
  map.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell !== null) show(cell);
  });
  const arrows = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
  map.addEventListener("keydown", (event) => {
    if (!arrows[event.key]) return;
    event.preventDefault();
    show(neighbour(...arrows[event.key]));
  });
  find("goto").addEventListener("submit", (event) => { event.preventDefault(); goTo(event.target); });
  for (const input of document.querySelectorAll("#parts input, #leads input")) input.addEventListener("change", choosePicture);
  choosePicture();
} else {
  for (const input of document.querySelectorAll("#places input")) {
    input.addEventListener("change", () => show(Number(input.value)));
  }
}
show(shown);
addEventListener("resize", () => position.has(shown) && drawSeries(position.get(shown)));
