// One line a claim: sorted by a click on a column's head, filtered by verdict. The page says the same without it.
const table = document.querySelector("h2 + .wide table"), body = table.tBodies[0], rows = [...body.rows];
const kind = (row) => row.cells[2].textContent.trim();
const number = (text) => parseFloat(text.replace("−", "-").replace("H", ""));
[...table.tHead.rows[0].cells].forEach((head, column) => {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.onclick = () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const points = (row) => row.cells[3].querySelector("svg")?.dataset.points ?? row.cells[4].textContent.trim();
    const key = (row) => (column === 3 || column === 4 ? points(row) : row.cells[column].textContent.trim());
    const order = (a, b) => Number.isNaN(number(key(a))) || Number.isNaN(number(key(b)))
      ? (key(a) === "") - (key(b) === "") || key(a).localeCompare(key(b)) : number(key(a)) - number(key(b));
    body.append(...rows.toSorted((a, b) => (up ? 1 : -1) * order(a, b)));
  };
});
const filter = document.createElement("p");
filter.className = "filter";
const kinds = ["all", ...new Set(rows.map(kind))];
for (const one of kinds) {
  const button = document.createElement("button");
  const count = one === "all" ? rows.length : rows.filter((row) => kind(row) === one).length;
  button.textContent = `${one} (${count})`;
  button.setAttribute("aria-pressed", one === "all");
  button.onclick = () => {
    for (const other of filter.children) other.setAttribute("aria-pressed", other === button);
    for (const row of rows) row.hidden = one !== "all" && kind(row) !== one;
  };
  filter.append(button);
}
table.closest(".wide").before(filter);
