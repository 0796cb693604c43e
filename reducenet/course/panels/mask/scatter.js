"use strict";

/** Every mask as a dot: accuracy against multiply-adds. A dot can be pressed; arrows go through them in the order of their cost. */
class Scatter {
  static space = { left: 44, right: 14, top: 78, bottom: 34 }; // names stand in the room at the top

  /** `ends` are the lowest and the highest share ever shown; `picked(mask)` is called for the dot nearest to a finger, and by arrows. */
  constructor(svg, macs, of, order, ends, picked) {
    Object.assign(this, { svg, macs, of, order, picked, low: Math.floor(10 * ends[0]) / 10, high: Math.ceil(10 * ends[1]) / 10 });
    this.part = (name) => svg.querySelector(`.${name}`);
    this.dots = macs.map(() => this.part("dots").appendChild(document.createElementNS("http://www.w3.org/2000/svg", "circle")));
    const press = (event) => {
      const box = svg.getBoundingClientRect(), mask = this.nearest(event.clientX - box.left, event.clientY - box.top);
      if (mask !== state.mask) picked(mask); // as it is now: what is drawn may be a frame behind
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      press(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && press(event));
    svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(svg);
    this.resize();
  }

  key(event) {
    const last = this.order.length - 1, at = this.order.indexOf(state.mask);
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (this.order[to] !== undefined) this.picked(this.order[to]);
  }

  nearest(x, y) {
    const away = (mask) => Math.hypot(this.x(mask) - x, this.y(this.state.values[mask]) - y);
    return this.order.reduce((best, mask) => (away(mask) < away(best) ? mask : best));
  }

  x(mask) {
    const { left, right } = Scatter.space, low = this.macs[this.order[0]], high = this.macs[this.order.at(-1)];
    return left + 12 + ((this.macs[mask] - low) / (high - low)) * (this.width - left - right - 24);
  }

  y(right) {
    const { top, bottom } = Scatter.space;
    return this.height - bottom - ((right / this.of - this.low) / (this.high - this.low)) * (this.height - bottom - top);
  }

  resize() {
    [this.width, this.height] = [this.svg.clientWidth || 360, this.svg.clientHeight || 300];
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    if (this.state) this.draw();
  }

  /** `values` are how many of `of` are right, by mask; `labels` mask -> names; `rights` which dots are filled, null for all. */
  show(values, mask, labels, rights) {
    if (this.state && this.state.values !== values && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.morph = { from: this.shown, since: performance.now() };
    }
    this.state = { values, mask, labels, rights };
    this.draw();
  }

  draw() {
    const { values, mask, labels, rights } = this.state;
    const time = this.morph ? Math.min(1, (performance.now() - this.morph.since) / 700) : 1, eased = 1 - (1 - time) ** 3;
    this.shown = this.morph ? values.map((value, i) => this.morph.from[i] + (value - this.morph.from[i]) * eased) : values;
    if (time === 1) this.morph = null;
    else requestAnimationFrame(() => this.draw());
    this.grid();
    for (const [i, dot] of this.dots.entries()) {
      const peer = kept(i) === kept(mask);
      dot.setAttribute("class", `${peer ? "peer" : ""} ${rights && !rights[i] ? "wrong" : ""}`.trim());
      dot.setAttribute("r", peer ? 6 : 4);
      dot.setAttribute("cx", this.x(i).toFixed(1));
      dot.setAttribute("cy", this.y(this.shown[i]).toFixed(1));
    }
    this.part("lit").setAttribute("transform", `translate(${this.x(mask).toFixed(1)} ${this.y(this.shown[mask]).toFixed(1)})`);
    this.names(labels);
    this.svg.setAttribute("aria-valuenow", this.order.indexOf(mask));
    const share = ((100 * values[mask]) / this.of).toFixed(1);
    this.svg.setAttribute("aria-valuetext", `${kept(mask)} ReLUs stay, ${this.macs[mask].toLocaleString("en")} multiply-adds, ${share} % right`);
  }

  grid() {
    const { left, right } = Scatter.space, lines = [];
    for (let share = this.low; share < this.high + 0.01; share += 0.1) {
      const y = this.y(share * this.of).toFixed(1), says = Math.round(100 * share);
      lines.push(`<line x1="${left}" x2="${this.width - right}" y1="${y}" y2="${y}"/>`);
      lines.push(`<text class="y" x="${left - 6}" y="${y}" dy="0.35em">${says} %</text>`);
    }
    for (const mask of [this.order[0], this.order.at(-1)]) {
      const says = `${Math.round(this.macs[mask] / 1000)}k`;
      lines.push(`<text class="x" x="${this.x(mask).toFixed(1)}" y="${this.height - 15}">${says}</text>`);
    }
    lines.push(`<text class="x" x="${this.width / 2}" y="${this.height - 15}">multiply-adds an image, deployed</text>`);
    if (this.drawn !== (this.drawn = lines.join(""))) this.part("grid").innerHTML = this.drawn;
  }

  /** Who chooses which dot: names above the cloud, in rows where they would cover each other, each with a line to its dot. */
  names(labels) {
    const rows = [], lines = [];
    const dots = [...labels].map(([mask, names]) => ({ x: this.x(mask), y: this.y(this.shown[mask]), text: names.join(", ") }));
    for (const { x, y, text } of dots.sort((a, b) => a.x - b.x)) {
      const half = 3.5 * text.length + 8, at = Math.min(this.width - Scatter.space.right - half, Math.max(half, x));
      const free = rows.findIndex((end) => end < at - half), row = free < 0 ? rows.length : free;
      rows[row] = at + half;
      lines.push(`<line x1="${x.toFixed(1)}" y1="${(y - 7).toFixed(1)}" x2="${x.toFixed(1)}" y2="${17 + 15 * row}"/>`,
        `<text x="${at.toFixed(1)}" y="${13 + 15 * row}" text-anchor="middle">${text}</text>`);
    }
    this.part("names").innerHTML = lines.join("");
  }
}
