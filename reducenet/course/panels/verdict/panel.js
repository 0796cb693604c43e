"use strict";

const [least, most] = given.seeds;
const state = { claim: given.start, n: least };
const claim = () => given.claims[state.claim];
const space = { left: 14, right: 14, top: 4, row: 48, foot: 26 };
const tallest = Math.max(...Object.values(given.claims).map((one) => one.rows.length));
const points = (value, digits = 2) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

/** How many seeds the first contrast has. */
const measured = () => claim().rows[0]?.n ?? 0;

/** The scale of a claim's plot: all its contrasts and near controls, with the interval of every seed that there is. */
function scale() {
  const { rows, margin, view } = claim(), ends = [-2 * margin, 2 * margin], near = (value) => Math.min(view[1], Math.max(view[0], value));
  for (const row of rows.filter((one) => one.n > 1 && !one.far)) ends.push(...[...row.seeds, ...row.intervals[Math.min(row.n, most) - least].slice(1)].map(near));
  const low = Math.min(...ends), high = Math.max(...ends), air = 0.08 * (high - low);
  return [low - air, high + air];
}

/** Every control comes through here. */
function change(part) {
  Object.assign(state, part);
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

function frame() {
  change.asked = false;
  const { rows, detectable } = claim(), there = measured(), at = state.n - least;
  plot();
  const said = { ...claim(), id: state.claim, n: state.n, stage: stage(there), power: "", empty: "" };
  said.expects = `${claim().expects}, in every contrast, with ${given.claim} paired seeds and every control`;
  said.missing = claim().missing.join("; ") || (rows.length || claim().regime ? "none: all are arms of the study" : "–");
  said.regime ||= "–";
  said.cost ||= "–";
  const minus = rows.length ? ` minus ${rows[0].against},` : ",";
  said.axis = `${claim().metric}${minus} same seed, in points; the band is what does not matter, ±${claim().margin}`;
  if (there < 2) {
    said.empty = claim().regime ? "No rows yet. The study is planned; page and panel fill themselves when it has run." : "No study holds this contrast yet.";
    said.power = "Without seeds there is no spread, and nothing to say of what more of them would find.";
  } else {
    const [mean, low, high] = rows[0].intervals[at], half = (high - low) / 2;
    const would = state.n > there ? `With ${state.n} seeds and the spread of the ${there} that there are, the interval to expect is` : `The first ${state.n} seeds:`;
    said.power = `${would} ${points(mean)} ± ${half.toFixed(2)} points. A difference of ${detectable[at].toFixed(2)} points would be found with 80 % power, adjusted for the whole family.`;
  }
  for (const node of document.querySelectorAll("[data-says]")) write(node, String(said[node.dataset.says]));
  document.querySelector(".stamp").dataset.kind = claim().kind;
  document.querySelector(`[name=claim][value="${state.claim}"]`).checked = true;
  $("n").value = state.n;
  $("n").style.setProperty("--value", (state.n - least) / (most - least));
  $("n").setAttribute("aria-valuetext", `${state.n} seeds, ${said.stage}`);
  $("plot").setAttribute("aria-label", rows.map((row) => `${row.arm} minus ${row.against}: ${row.n ? `${points(row.mean)} points` : "no rows"}, ${row.reading}`).join("; ") || said.empty);
  clearTimeout(frame.rest);
  frame.rest = setTimeout(() => write($("live"), `${state.claim}: ${claim().text}. ${said.power}`), 500);
}

function stage(there) {
  const seeds = state.n < given.result ? "no result: too few" : state.n < given.claim ? "a result, no verdict" : "enough for a verdict";
  return `· ${seeds}${there >= 2 ? `; measured: ${there}` : ""}`;
}

function plot() {
  const svg = $("plot"), width = svg.clientWidth || 360, { rows, margin } = claim(), [low, high] = scale();
  const height = space.top + tallest * space.row + space.foot, x = (value) => space.left + ((value - low) / (high - low)) * (width - space.left - space.right);
  const clip = (value) => Math.min(width + 20, Math.max(-20, x(value)));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.height = `${height}px`;
  const floor = space.top + Math.max(1, rows.length) * space.row;
  const step = [0.5, 1, 2, 5, 10, 20].find((one) => (high - low) / one <= width / 55), ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) ticks.push(Math.round(value * 10) / 10);
  svg.querySelector(".grid").innerHTML = ticks.map((value) => `<line x1="${x(value)}" x2="${x(value)}" y1="${space.top}" y2="${floor}"/>`
    + `<text x="${x(value)}" y="${floor + 17}">${value === 0 ? "0" : points(value, step < 1 ? 1 : 0)}</text>`).join("");
  for (const [name, value] of Object.entries({ x: x(-margin), width: x(margin) - x(-margin), y: space.top, height: floor - space.top })) {
    svg.querySelector(".margin").setAttribute(name, value);
  }
  for (const [name, value] of Object.entries({ x1: x(0), x2: x(0), y1: space.top, y2: floor })) svg.querySelector(".zero").setAttribute(name, value);
  svg.querySelector(".rows").innerHTML = rows.map((row, i) => drawnRow(row, space.top + i * space.row, clip)).join("");
  for (const [i, node] of [...svg.querySelectorAll(".rows text")].entries()) node.textContent = labelled(rows[i]);
}

function labelled(row) {
  const name = row.arm + (row.against === claim().rows[0].against ? "" : ` minus ${row.against}`);
  if (!row.n) return `${name}: no rows yet`;
  const [low, high] = scale(), out = row.seeds.slice(0, state.n).filter((one) => one < low || one > high).length;
  if (row.far) return `${name}: ${row.mean < low ? "◂" : "▸"} off the scale at ${points(row.mean, 1)}`;
  return `${name}: ${row.reading}${out ? `, ${out} ${out === 1 ? "seed" : "seeds"} off the scale` : ""}`;
}

function drawnRow(row, top, clip) {
  const kind = row.contrast ? "contrast" : "control", y = top + 33, text = `<text x="${space.left}" y="${top + 14}"></text>`;
  if (row.n < 2 || row.far) return `<g class="${kind}">${text}</g>`;
  const shown = row.seeds.slice(0, state.n), [mean, from, to] = row.intervals[state.n - least];
  const strokes = shown.map((one, i) => `<line class="seed ${i + 1 === state.n ? "last" : ""}" x1="${clip(one)}" x2="${clip(one)}" y1="${y - 9}" y2="${y + 9}"/>`);
  const line = `<line class="line ${state.n > row.n ? "dashed" : ""}" x1="${clip(from)}" x2="${clip(to)}" y1="${y}" y2="${y}"/>`;
  const mark = row.contrast ? `<circle class="mean" cx="${clip(mean)}" cy="${y}" r="7"/>` : `<rect class="mean" x="${clip(mean) - 5}" y="${y - 5}" width="10" height="10"/>`;
  return `<g class="${kind}">${text}${strokes.join("")}${line}${mark}</g>`;
}

/** What the slider passes: a result, a claim. */
function marks() {
  const width = $("marks").clientWidth || 360, x = (n) => 14 + ((n - least) / (most - least)) * (width - 28);
  const told = [[least, String(least)], [given.result, "a result"], [given.claim, "a claim"], [16, "16"], [24, "24"], [most, String(most)]];
  if (width < 560) told[1][1] = String(given.result);
  $("marks").innerHTML = told.map(([n, text]) => `<line x1="${x(n)}" x2="${x(n)}" y1="0" y2="6"/><text x="${x(n)}" y="19">${text}</text>`).join("");
}

/** Seeds fall in one by one until all are there. */
function fall() {
  const run = {}, goal = Math.min(Math.max(measured(), least), most);
  fall.last = run;
  if (still.matches || measured() < 2) return change({ n: goal });
  const start = performance.now();
  const step = () => {
    if (fall.last !== run) return;
    const n = Math.min(goal, least + Math.floor((performance.now() - start - 300) / 420));
    change({ n: Math.max(least, n) });
    if (n < goal) requestAnimationFrame(step);
  };
  step();
}

for (const radio of document.querySelectorAll("[name=claim]")) {
  radio.addEventListener("change", () => {
    change({ claim: radio.value });
    fall();
  });
}
$("n").addEventListener("input", ({ target }) => {
  fall.last = null;
  change({ n: Number(target.value) });
});
new ResizeObserver(() => (marks(), change({}))).observe($("plot"));
marks();
fall();
fit();
