"""The style and the script of `utils.study.html_page`; the page is readable without either."""

STYLE = """
:root { --paper: #fff; --ink: #1f2328; --soft: #57606a; --line: #d5d9dd; --link: #0b4f8a; --band: #f5f6f7;
  --warn: #fff1d6; --on-warn: #5c2d00; --warn-line: #b45309; color-scheme: light dark; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e3e5e8; --soft: #a6aeb6; --line: #3a4046; --link: #8ec5ff; --band: #1e2226;
    --warn: #3a2a0c; --on-warn: #ffd899; --warn-line: #f0a63c; }
}
* { box-sizing: border-box; }
html { font: 100%/1.6 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif;
  background: var(--paper); color: var(--ink); text-size-adjust: 100%; -webkit-text-size-adjust: 100%; }
body { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1rem 5rem; overflow-wrap: break-word; }
h1, h2, h3, p, ul, ol, pre, dl, figcaption { max-width: 38rem; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: clamp(1.6rem, 5vw, 2.2rem); margin: 0 0 1.25rem; letter-spacing: -0.01em; }
h2 { font-size: 1.35rem; margin: 0 0 0.75rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 0.25rem; }
p, ul, ol { margin: 0 0 1rem; }
section { margin-top: 3rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
a { color: var(--link); text-underline-offset: 0.15em; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav { margin: 2rem 0 0; }
nav ol, main ul, main ol { padding-left: 1.4rem; }
nav li, main li { margin: 0.2rem 0; }
.notice { background: var(--warn); color: var(--on-warn); border: 1px solid var(--warn-line);
  border-left-width: 0.5rem; padding: 0.75rem 1rem; }
.answer { font-size: 1.1rem; }
.note, figcaption, .unit, output { color: var(--soft); font-size: 0.875rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 1.5rem; }
figure { margin: 0; min-width: 0; flex: 0 1 100%; }
figure.single { flex-basis: 30.2rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; }
figcaption { margin-top: 0.6rem; line-height: 1.5; }
.filter { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.25rem 1rem; max-width: none;
  margin: 0 0 0.5rem; }
.filter[hidden], tr[hidden] { display: none; }
input, button { font: inherit; color: inherit; }
input { background: var(--paper); border: 1px solid var(--soft); border-radius: 3px; padding: 0.2rem 0.5rem;
  width: 15rem; max-width: 100%; }
.box { overflow: auto; width: fit-content; max-width: 100%; max-height: min(85vh, 48rem);
  border: solid var(--line); border-width: 1px 0; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.85rem; line-height: 1.125rem;
  width: max-content; font-variant-numeric: tabular-nums; }
th, td { padding: 0.375rem 0.75rem; text-align: left; vertical-align: top; font-weight: normal; max-width: 20rem; }
.number { text-align: right; }
:is(td, tbody th).number { white-space: nowrap; }
thead th { position: sticky; top: 0; background: var(--paper); border-bottom: 1px solid var(--soft); font-weight: 600;
  vertical-align: bottom; z-index: 1; max-width: 9rem; }
tbody th, thead th:first-child { position: sticky; left: 0; background: var(--paper); }
thead th:first-child { z-index: 2; }
thead .unit { display: block; font-size: inherit; font-weight: normal; white-space: nowrap; }
thead th:has(button) { padding: 0; }
th button { background: none; border: 0; padding: 0.375rem 0.75rem; margin: 0; width: 100%; text-align: inherit;
  font-weight: inherit; cursor: pointer; line-height: inherit; }
th button:hover { color: var(--link); }
th button:focus-visible { outline-offset: -2px; }
th { --arrow: "↕"; --arrow-ink: var(--soft); }
th[aria-sort=ascending] { --arrow: "▲"; --arrow-ink: var(--link); }
th[aria-sort=descending] { --arrow: "▼"; --arrow-ink: var(--link); }
th:not(.number) button .label::after, .number button .label::before { content: var(--arrow); color: var(--arrow-ink);
  display: inline-block; width: 1em; margin: 0 0.2em; text-align: center; font-weight: normal; }
tbody tr:hover > * { background: var(--band); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
.unsure > * { color: var(--soft); }
.mark { font-style: italic; white-space: nowrap; }
.box + .note { margin-top: 0.5rem; }
code, pre { font: 0.875em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: var(--band); border: 1px solid var(--line); padding: 1rem;
  margin: 0 0 0.75rem; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr); gap: 0.3rem 1.5rem; margin: 0; }
dl dl { grid-template-columns: minmax(5rem, max-content) minmax(0, 1fr); }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.copy { background: var(--band); border: 1px solid var(--soft); border-radius: 3px; padding: 0.3rem 0.9rem;
  cursor: pointer; }
@media (max-width: 36rem) {
  body { padding-top: 1.5rem; }
  dl, dl dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dt { margin-top: 0.6rem; }
  dl dl { padding-left: 1rem; border-left: 2px solid var(--line); }
  th, td, th button { padding-left: 0.5rem; padding-right: 0.5rem; }
}
@page { size: A4; margin: 18mm 16mm; }
@page wide { size: A4 landscape; margin: 16mm; }
@media print {
  html { font-size: 10pt; line-height: 1.45; }
  body { max-width: none; padding: 0; }
  h1, h2, h3, p, ul, ol, pre, dl, figcaption { max-width: none; }
  h1, h2, h3 { break-after: avoid; }
  section { margin-top: 1.5rem; padding-top: 1rem; }
  a { color: inherit; text-decoration: none; }
  .filter, .copy { display: none; }
  figure, thead, tr, .notice, .citation { break-inside: avoid; }
  figure.single { flex-basis: calc(50% - 0.75rem); }
  figure img { max-height: 200mm; width: auto; }
  .notice { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .wide { page: wide; }
  .box { overflow: visible; max-height: none; border: 0; }
  table { width: auto; max-width: 100%; font-size: 7pt; line-height: 1.3; }
  th, td, thead th:has(button) { padding: 1pt 3pt; max-width: none; position: static !important; }
  th button { display: contents; }
  th button .label::before, th button .label::after { content: none !important; }
  tr[hidden] { display: table-row; }
}
"""

SCRIPT = """
"use strict";
const button = (text) => Object.assign(document.createElement("button"), { type: "button", textContent: text });

function compare(a, b, sign, numeric) {  // a missing value is last, whatever the order
  const missing = ["", "–"];
  if (missing.includes(a) || missing.includes(b)) return missing.includes(a) - missing.includes(b);
  return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const sorter = button("");
    sorter.append(...head.childNodes);
    head.append(sorter);
    sorter.addEventListener("click", () => {
      const order = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order !== "none") head.setAttribute("aria-sort", order);
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const sign = { ascending: 1, descending: -1, none: 0 }[order], numeric = head.classList.contains("number");
      body.append(...(sign ? [...rows].sort((a, b) => compare(key(a), key(b), sign, numeric)) : rows));
    });
  });
  const filter = table.closest(".table").querySelector(".filter");
  if (!filter) continue;
  const input = filter.querySelector("input"), count = filter.querySelector("output");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
  };
  filter.hidden = false;
  input.addEventListener("input", apply);
  apply();
}

for (const citation of document.querySelectorAll(".citation")) {
  const copy = button("Copy");
  copy.className = "copy";
  citation.after(copy);
  copy.addEventListener("click", async () => {
    getSelection().selectAllChildren(citation);
    try {
      await navigator.clipboard.writeText(citation.textContent);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected: copy it with Ctrl+C";
    }
  });
}
"""
