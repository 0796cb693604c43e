"use strict";

const AXES = ["cost", "macs"], EVERY = given.studies[0], { tickets } = given;
const state = { cost: given.steps, macs: given.steps, study: given.start, k: 1 };

/** A budget's value at a step of its slider: equal steps are equal factors. */
const budget = (axis) => given.ends[axis][0] * (given.ends[axis][1] / given.ends[axis][0]) ** (state[axis] / given.steps);

/** `1.60 G`: so many digits and a unit. */
function short(value, digits = 3) {
  const [unit, name] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => value >= size) ?? [1, ""];
  return `${digits ? (value / unit).toPrecision(digits) : Math.round(value / unit)} ${name}`;
}

const percent = (value) => `${value.toFixed(1)} %`;

/** The best mean on validation images; of equals the cheaper one. */
function bought(arms) {
  return arms.reduce((best, arm) => (!best || arm.chosen > best.chosen || (arm.chosen === best.chosen && arm.cost < best.cost) ? arm : best), null);
}

/** What each budget on this axis buys among these arms, the smallest first. */
function stairs(arms, axis) {
  const steps = [];
  for (const arm of arms.toSorted((one, other) => one[axis] - other[axis] || one.cost - other.cost)) {
    if (bought([...steps.slice(-1), arm]) !== arm) continue;
    if (steps.length && steps.at(-1)[axis] === arm[axis]) steps.pop();
    steps.push(arm);
  }
  return steps;
}

/** One plane: accuracy against what is paid on one axis, and a wall that can be dragged. */
class Plane {
  static space = { left: 42, right: 20, top: 12, bottom: 24 }; // panel.css lays the slider under it with the same left and right

  constructor(axis) {
    Object.assign(this, { axis, svg: $(`${axis}-plane`) });
    this.part = (name) => this.svg.querySelector(`.${name}`);
    const drag = (event) => {
      const share = (event.clientX - this.svg.getBoundingClientRect().left - Plane.space.left) / (this.width - Plane.space.left - Plane.space.right);
      change({ [axis]: Math.round(Math.min(1, Math.max(0, share)) * given.steps) });
    };
    this.svg.addEventListener("pointerdown", (event) => {
      this.svg.setPointerCapture(event.pointerId);
      drag(event);
    });
    this.svg.addEventListener("pointermove", (event) => this.svg.hasPointerCapture(event.pointerId) && drag(event));
    this.part("arms").innerHTML = given.arms.map((arm) => `<circle r="${arm.test.length < 5 ? 3.5 : 6}"/>`).join("");
    this.dots = [...this.part("arms").children];
    new ResizeObserver(() => (this.resize(), change({}))).observe(this.svg);
    this.resize();
  }

  resize() {
    [this.width, this.height] = [this.svg.clientWidth || 360, this.svg.clientHeight || 240];
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const { left, right, bottom } = Plane.space, [low, high] = given.accuracies, [cheap, dear] = given.ends[this.axis], lines = [];
    for (let y = low; y <= high; y += 5) {
      lines.push(`<line x1="${left}" x2="${this.width - right}" y1="${this.y(y)}" y2="${this.y(y)}"/>`
        + `<text class="y" x="${left - 7}" y="${this.y(y)}" dy="0.35em">${y}${y === high ? " %" : ""}</text>`);
    }
    let before = -100;
    for (let power = Math.floor(Math.log10(cheap)); power <= Math.log10(dear); power++) {
      for (const digit of [1, 2, 5]) {
        const value = digit * 10 ** power, x = this.x(value);
        if (value < cheap || value > dear || x - before < 48 || x > this.width - right - 10) continue;
        lines.push(`<text class="x" x="${x.toFixed(1)}" y="${this.height - bottom + 17}">${short(value, 0)}</text>`);
        before = x;
      }
    }
    this.part("grid").innerHTML = lines.join("");
    for (const [i, arm] of given.arms.entries()) this.place(this.dots[i], arm[this.axis], arm.mean);
  }

  place(node, value, accuracy) {
    node.setAttribute("transform", `translate(${this.x(value).toFixed(1)} ${this.y(accuracy).toFixed(1)})`);
  }

  x(value) {
    const { left, right } = Plane.space, [cheap, dear] = given.ends[this.axis];
    return left + (Math.log(value / cheap) / Math.log(dear / cheap)) * (this.width - left - right);
  }

  /** What is too low stands at the lower edge. */
  y(accuracy) {
    const { top, bottom } = Plane.space, [low, high] = given.accuracies;
    return top + ((high - Math.max(low, accuracy)) / (high - low)) * (this.height - top - bottom);
  }

  show(arms, inside, others, best) {
    const steps = stairs(others, this.axis), { top, bottom, right } = Plane.space, wall = this.x(budget(this.axis)), floor = this.height - bottom;
    const path = steps.map((arm, i) => {
      const to = this.x(i + 1 < steps.length ? steps[i + 1][this.axis] : Math.max(budget(this.axis), arm[this.axis]));
      return `${i ? "V" : `M${this.x(arm[this.axis]).toFixed(1)} `}${this.y(arm.mean).toFixed(1)}H${to.toFixed(1)}`;
    });
    this.part("stairs").setAttribute("d", path.join(""));
    for (const [i, arm] of given.arms.entries()) {
      this.dots[i].style.display = arms.includes(arm) ? "" : "none";
      this.dots[i].setAttribute("class", !inside.includes(arm) ? "out" : steps.includes(arm) ? "on" : "in");
    }
    this.part("beyond").outerHTML = `<rect class="beyond" x="${wall}" y="${top}" width="${Math.max(0, this.width - right - wall)}" height="${floor - top}"/>`;
    this.part("wall").setAttribute("transform", `translate(${wall.toFixed(1)} ${floor})`);
    this.svg.querySelector(".wall line").setAttribute("y2", top - floor);
    this.part("best").style.display = best ? "" : "none";
    if (best) this.place(this.part("best"), best[this.axis], best.mean);
    const x = best && this.x(best[this.axis]);
    this.part("seeds").innerHTML = !best ? "" : best.test.map((one) => `<line x1="${x + 12}" x2="${x + 22}" y1="${this.y(one)}" y2="${this.y(one)}"/>`).join("");
    if (this.axis === "cost") this.part("tickets").innerHTML = this.lottery();
  }

  lottery() {
    const at = tickets.worth.map((worth, i) => [this.x(tickets.cost * (i + 1)), this.y(worth)]);
    const marks = at.map(([x, y], i) => `<rect class="${i + 1 === state.k ? "drawn" : ""}" x="${x - 4}" y="${y - 4}" width="8" height="8"/>`);
    const [x, y] = at[state.k - 1];
    return `<path d="M${at.map((place) => place.join(" ")).join("L")}"/>${marks.join("")}`
      + `<text x="${Math.min(x, this.width - 32)}" y="${y + 22}" text-anchor="middle">${state.k} ${state.k === 1 ? "ticket" : "tickets"}</text>`;
  }
}

/** Every control comes through here. */
function change(part) {
  Object.assign(state, part);
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

function frame() {
  change.asked = false;
  const arms = given.arms.filter((arm) => state.study === EVERY || arm.studies.includes(state.study));
  const within = (axis) => (arm) => arm[axis] <= budget(axis);
  const inside = arms.filter(within("cost")).filter(within("macs")), best = bought(inside);
  for (const axis of AXES) planes[axis].show(arms, inside, inside, best);
  const front = stairs(inside, "cost"), count = best?.test.length;
  const said = {
    cost: short(budget("cost")), macs: short(budget("macs")), k: state.k,
    name: best ? best.label : "nothing: every arm costs more",
    sentence: best ? best.sentence : "",
    mean: best ? percent(best.mean) : "–",
    seeds: best ? best.test.map((one) => one.toFixed(1)).join(" · ") : "–",
    spent: best ? `${short(best.cost)} multiply-adds` : "–",
    size: best ? `${short(best.macs)} an image` : "–",
    caution: !best ? "" : count < 5 ? `${count} seeds: no result. A number needs 5.` : `${count} seeds, study ${best.studies.join(", ")}. The choice was made on validation images.`,
    inside: best ? `${inside.length} of ${arms.length} arms are inside. Each of these is the best that some training budget buys.` : "No arm is inside.",
    tickets: ticketsSay(arms),
  };
  for (const node of document.querySelectorAll("[data-says]")) write(node, String(said[node.dataset.says]));
  const rows = front.map((arm) => `<li><span></span><span>${short(arm.cost)}</span><span>${percent(arm.mean)}</span></li>`).join("");
  if ($("front").dataset.rows !== rows + front.map((arm) => arm.label)) {
    $("front").innerHTML = rows;
    for (const [i, arm] of front.entries()) $("front").children[i].firstChild.textContent = `${arm.label} (${arm.studies[0]})`;
    $("front").dataset.rows = rows + front.map((arm) => arm.label);
  }
  for (const [name, last] of [["cost", given.steps], ["macs", given.steps], ["k", tickets.n]]) {
    $(name).value = state[name];
    $(name).style.setProperty("--value", name === "k" ? (state.k - 1) / Math.max(1, last - 1) : state[name] / last);
  }
  for (const axis of AXES) $(axis).setAttribute("aria-valuetext", `at most ${said[axis]} multiply-adds`);
  $("k").setAttribute("aria-valuetext", `${state.k} of ${tickets.n}`);
  $("study").value = state.study;
  clearTimeout(frame.rest);
  frame.rest = setTimeout(() => write($("live"), `${said.inside.split(".")[0]}. The best: ${said.name}, ${said.mean}.`), 400);
}

/** How many tickets buy what a method buys? */
function ticketsSay(arms) {
  const cost = state.k * tickets.cost, worth = tickets.worth[state.k - 1], gain = worth - tickets.worth[0];
  const rival = bought(arms.filter((arm) => arm.cost <= cost && arm.macs <= tickets.macs));
  const drawn = state.k === 1 ? "One ticket" : `The best of ${state.k}`;
  const moved = state.k === 1 ? "" : `, ${Math.abs(gain).toFixed(2)} points ${gain < 0 ? "less" : "more"} than one`;
  const other = !rival ? "No arm is that cheap and that small." : rival.label === tickets.label ? "No arm here that is as cheap and as small is better on validation images."
    : `For no more training, and no larger: ${rival.label}, ${percent(rival.mean)}${rival.test.length < 5 ? ` (${rival.test.length} seeds, no result)` : ""}.`;
  return `${drawn}: ${worth.toFixed(2)} % expected${moved}, for ${short(cost)} multiply-adds. ${other} (${tickets.n} seeds: nothing is said of more tickets.)`;
}

/** The training wall walks a little way and back, until a hand takes over. */
function invite() {
  const start = performance.now();
  const walk = () => {
    const share = (performance.now() - start - 400) / 3600;
    if (state.touched || share > 1) return;
    if (share > 0) change({ cost: Math.round(given.steps * (1 - 0.75 * Math.sin(Math.PI * share) ** 2)) });
    requestAnimationFrame(walk);
  };
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, () => (state.touched = document.body.dataset.touched = true), true);
  if (!still.matches) walk();
}

const planes = Object.fromEntries(AXES.map((axis) => [axis, new Plane(axis)]));
for (const axis of [...AXES, "k"]) $(axis).addEventListener("input", ({ target }) => change({ [axis]: Number(target.value) }));
$("study").addEventListener("change", ({ target }) => change({ study: target.value }));
$("front").tabIndex = 0;
$("front").setAttribute("aria-label", "Arms on the front: name, training cost, test accuracy");
change({});
invite();
fit();
