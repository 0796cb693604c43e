"use strict";

/** A drawing that is as wide as its place and is drawn again when that changes. */
class Plot {
  static space = { left: 44, right: 20, top: 14, bottom: 22 }; // panel.css lays the slider under it with the same left and right

  constructor(svg) {
    this.svg = svg;
    new ResizeObserver(() => this.resize()).observe(svg);
  }

  resize() {
    [this.width, this.height] = [this.svg.clientWidth || 360, this.svg.clientHeight || 150];
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    if (this.state) this.draw();
  }

  show(...state) {
    this.state = state;
    if (!this.width) this.resize();
    else this.draw();
  }

  /** From 0..1 to the drawing. */
  x(share) {
    return (Plot.space.left + share * (this.width - Plot.space.left - Plot.space.right)).toFixed(1);
  }

  y(share) {
    return (this.height - Plot.space.bottom - share * (this.height - Plot.space.top - Plot.space.bottom)).toFixed(1);
  }

  grid(lines) {
    const ends = `x1="${Plot.space.left}" x2="${this.width - Plot.space.right}"`;
    return lines.map(([share, text]) => `<line ${ends} y1="${this.y(share)}" y2="${this.y(share)}"/><text x="${
      Plot.space.left - 8}" y="${this.y(share)}" dy="0.35em" text-anchor="end">${text}</text>`).join("");
  }
}

/** The singular values of one change as bars, those that are kept filled; rings are those of the conv that was trained itself. */
class Spectrum extends Plot {
  constructor(svg, blocks) {
    super(svg);
    this.top = Math.ceil(Math.max(...blocks.flatMap(({ values, control }) => [...values, ...control])));
  }

  draw() {
    const [{ values, control }, rank] = this.state, step = 1 / values.length, width = (this.x(step) - this.x(0)) * 0.62;
    const bars = values.map((value, i) => {
      const [x, y] = [this.x((i + 0.5) * step) - width / 2, this.y(value / this.top)];
      return `<rect class="bar1 ${i < rank ? "" : "cut"}" x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${(this.y(0) - y).toFixed(1)}"/>`;
    });
    const rings = control.map((value, i) => `<circle class="ring" cx="${this.x((i + 0.5) * step)}" cy="${this.y(value / this.top)}" r="${
      Math.min(4.5, width / 2 + 1).toFixed(1)}"/>`);
    const numbers = [1, ...[2, 4, 8, 16, 32].filter((n) => n <= values.length)].map((n) =>
      `<text x="${this.x((n - 0.5) * step)}" y="${this.height - 6}" text-anchor="middle">${n}</text>`);
    this.svg.innerHTML = this.grid([[0, "0"], [0.5, this.top / 2], [1, this.top]]) + bars.join("") + rings.join("") + numbers.join("");
  }
}

/** How many images are right at every rank, the branch's change and the control's, and a point that can be dragged along. */
class Ranks extends Plot {
  /** `moved(index of the rank)` is called while the point is dragged. */
  constructor(svg, { right, ranks, held }, moved) {
    super(svg);
    Object.assign(this, { side: right.side.map((row) => row[row.length - 1] / held.of), control: right.control.map((n) => n / held.of), ranks });
    const drag = (event) => {
      const inside = this.width - Plot.space.left - Plot.space.right;
      const share = (event.clientX - svg.getBoundingClientRect().left - Plot.space.left) / inside;
      moved(Math.round(Math.min(1, Math.max(0, share)) * (ranks.length - 1)));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      drag(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && drag(event));
  }

  draw() {
    const [at] = this.state, last = this.ranks.length - 1;
    const path = (shares, name) => `<path class="${name}" d="M${shares.map((share, i) => `${this.x(i / last)} ${this.y(share)}`).join("L")}"/>`;
    const numbers = this.ranks.map((rank, i) => `<text x="${this.x(i / last)}" y="${this.height - 6}" text-anchor="middle">${rank}</text>`);
    const [x, y] = [this.x(at / last), this.y(this.side[at])];
    const names = `<text x="${this.x(1)}" y="${this.y(0.06)}" text-anchor="end">${this.control.length
      ? "solid: branch · dashed: the conv trained itself" : "right images when every change is cut to this rank"}</text>`;
    this.svg.innerHTML = this.grid([[0, "0"], [0.5, "50"], [1, "100 %"]]) + numbers.join("") + names
      + (this.control.length ? path(this.control, "control") : "") + path(this.side, "side")
      + `<circle class="halo" cx="${x}" cy="${y}" r="22"/><circle class="dot" cx="${x}" cy="${y}" r="9"/>`;
  }
}
