"use strict";

/** A small image that can be drawn on with a finger, a mouse, or the keyboard: arrows move the pen, Space lowers and lifts it. */
class Pad {
  /** `changed()` is called after every stroke. `pixels` are 0..255, [C * H * W]; as long as they stay the same, so does `version`. */
  constructor(canvas, shape, changed) {
    [this.channels, this.height, this.width] = shape;
    Object.assign(this, { canvas, changed, pixels: new Uint8Array(this.channels * this.height * this.width), pen: null, down: false });
    [canvas.width, canvas.height] = [this.width, this.height];
    this.cursor = canvas.parentElement.querySelector(".pen");
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      event.preventDefault(); // no selection and no focus ring under a finger
      canvas.focus({ preventScroll: true, focusVisible: false });
      this.cursor.hidden = true;
      this.stroke(this.at(event), this.at(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.stroke(this.pen, this.at(one));
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => (this.cursor.hidden = true));
  }

  show(pixels) {
    this.pixels.set(pixels);
    this.down = false;
    this.draw();
  }

  at({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [((clientX - box.left) / box.width) * this.width, ((clientY - box.top) / box.height) * this.height];
  }

  /** A soft round pen, 2.6 pixels wide, from one place to another. */
  stroke(from, to) {
    const steps = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / 0.4) || 1;
    for (let i = 0; i <= steps; i++) this.dot(from[0] + ((to[0] - from[0]) * i) / steps, from[1] + ((to[1] - from[1]) * i) / steps);
    this.pen = to;
    this.draw();
    this.changed();
  }

  dot(x, y) {
    for (let v = Math.max(0, Math.floor(y - 2)); v < Math.min(this.height, y + 2); v++) {
      for (let u = Math.max(0, Math.floor(x - 2)); u < Math.min(this.width, x + 2); u++) {
        const ink = 255 * Math.min(1, Math.max(0, 1.8 - Math.hypot(u + 0.5 - x, v + 0.5 - y)));
        for (let c = 0; c < this.channels; c++) {
          const i = (c * this.height + v) * this.width + u;
          this.pixels[i] = Math.max(this.pixels[i], ink);
        }
      }
    }
  }

  key(event) {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const from = this.pen ?? [this.width / 2, this.height / 2];
    const inside = (value, size) => Math.min(size - 0.5, Math.max(0.5, value));
    this.pen = move ? [inside(from[0] + move[0], this.width), inside(from[1] + move[1], this.height)] : from;
    if (!move) this.down = !this.down;
    this.cursor.hidden = false;
    this.cursor.classList.toggle("down", this.down);
    this.cursor.style.left = `${(100 * this.pen[0]) / this.width}%`;
    this.cursor.style.top = `${(100 * this.pen[1]) / this.height}%`;
    if (this.down) this.stroke(from, this.pen);
  }

  draw() {
    this.version = {}; // another one for other pixels
    Pad.paint(this.canvas, this.pixels, [this.channels, this.height, this.width]);
  }

  /** Pixels 0..255, [C, H, W], on a canvas of that size; one channel is grey. */
  static paint(canvas, pixels, [channels, height, width]) {
    const size = height * width, image = new ImageData(width, height);
    for (let p = 0; p < size; p++) {
      for (let c = 0; c < 3; c++) image.data[4 * p + c] = pixels[channels === 3 ? c * size + p : p];
      image.data[4 * p + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}
