"use strict";

/** Accuracy against the scaler: the curve as trained, the curve as it is now, and a point that can be dragged along it. */
class Chart {
  static space = { left: 44, right: 20, top: 14, bottom: 8 }; // panel.css lays the slider under it with the same left and right

  /** `moved(step)` is called while the point is dragged. */
  constructor(svg, steps, of, moved) {
    Object.assign(this, { svg, steps, of, still: matchMedia("(prefers-reduced-motion: reduce)") });
    this.part = (name) => svg.querySelector(`.${name}`);
    const drag = (event) => moved(Math.round(Math.min(1, Math.max(0, this.share(event))) * (steps - 1)));
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      drag(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && drag(event));
    new ResizeObserver(() => this.resize()).observe(svg);
    this.resize();
  }

  share(event) {
    return (event.clientX - this.svg.getBoundingClientRect().left - Chart.space.left) / (this.width - Chart.space.left - Chart.space.right);
  }

  x(step) {
    return Chart.space.left + (step / (this.steps - 1)) * (this.width - Chart.space.left - Chart.space.right);
  }

  y(right) {
    return this.height - Chart.space.bottom - (right / this.of) * (this.height - Chart.space.bottom - Chart.space.top);
  }

  resize() {
    [this.width, this.height] = [this.svg.clientWidth || 360, this.svg.clientHeight || 220];
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    const lines = [0, 0.25, 0.5, 0.75, 1].map((share) => {
      const y = this.y(share * this.of).toFixed(1);
      const says = { 0: "0", 0.5: "50", 1: "100 %" }[share] ?? "";
      const text = `<text x="${Chart.space.left - 8}" y="${y}" dy="0.35em">${says}</text>`;
      return `<line x1="${Chart.space.left}" x2="${this.width - Chart.space.right}" y1="${y}" y2="${y}"/>${text}`;
    });
    this.part("grid").innerHTML = lines.join("");
    if (this.state) this.draw();
  }

  /** How many of `of` are right at every step: as trained, and `now`; undefined where nobody recorded it. `at`, `traces`: see panel.js. */
  show(trained, now, step, at, traces) {
    const target = now ?? trained;
    if (this.state && this.state.target !== target && !this.still.matches) this.morph = { from: this.shown, since: performance.now() };
    this.state = { trained, now, target, step, at, traces };
    this.draw();
  }

  draw() {
    const { trained, now, target, step, at, traces } = this.state;
    const time = this.morph ? Math.min(1, (performance.now() - this.morph.since) / 600) : 1, eased = 1 - (1 - time) ** 3;
    const last = this.steps - 1;
    this.shown = this.morph ? target.map((value, i) => this.morph.from[i] + (value - this.morph.from[i]) * eased) : target;
    if (time === 1) this.morph = null;
    else requestAnimationFrame(() => this.draw());
    this.part("trained").setAttribute("d", this.path(trained));
    this.part("now").setAttribute("d", now ? this.path(this.shown) : "");
    const mark = ([where, right]) => `M${this.x(where).toFixed(1)} ${(this.y(right) - 5).toFixed(1)}l5 5-5 5-5-5z`;
    this.part("traces").setAttribute("d", traces.map(mark).join(""));
    this.svg.classList.toggle("measured", at !== null);
    this.part("at").setAttribute("transform", `translate(${this.x(at ?? 0)} ${this.y(0)})`);
    this.name("trained-name", last, trained, 22, "as trained");
    this.name("now-name", at ?? 0, this.shown, -28, `measured at ${((at ?? 0) / last).toFixed(2)}`);
    const [x, y] = [this.x(step), this.y(now ? this.shown[step] : 0)];
    this.part("point").setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
    const stem = this.part("stem");
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: y, y2: this.height })) stem.setAttribute(name, value.toFixed(2));
  }

  /** Names a curve at one of its steps, this many pixels below it. */
  name(part, step, curve, below, text) {
    const node = this.part(part);
    write(node, text);
    node.setAttribute("text-anchor", step < this.steps / 2 ? "start" : "end");
    node.setAttribute("transform", `translate(${this.x(step).toFixed(1)} ${(this.y(curve[step]) + below).toFixed(1)})`);
  }

  path(curve) {
    return `M${curve.map((right, step) => `${this.x(step).toFixed(1)} ${this.y(right).toFixed(1)}`).join("L")}`;
  }
}
