"use strict";
const button = (text) => Object.assign(document.createElement("button"), { type: "button", textContent: text });

function compare(a, b, sign, numeric) {  // a missing value is last, whatever the order
  const missing = ["", "–"];
  if (missing.includes(a) || missing.includes(b)) return missing.includes(a) - missing.includes(b);
  return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
}

for (const table of document.querySelectorAll(".table table")) {
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
    const words = input.value.toLowerCase().split(/\s+/);
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
