"use strict";

/** The image that everything speaks of, in the section see.html.j2: picked from the held-out ones, or drawn. */
class Picker {
  /** `changed(index)` is called for every other image: its place in `given.held`, null for one that is drawn. */
  constructor(changed) {
    this.held = images(given.held.pixels);
    this.thumbs = [...document.querySelectorAll("[name=class]")];
    this.pad = new Pad($("pad"), given.shape, () => this.draw());
    this.changed = changed;
    for (const [label, thumb] of this.thumbs.entries()) {
      const first = given.held.labels.indexOf(label);
      thumb.parentElement.hidden = first < 0; // few images need not have every class
      if (first < 0) continue;
      thumb.addEventListener("click", () => this.pick(thumb.image));
      this.face(thumb, first);
    }
    $("another").addEventListener("click", () => this.another());
    $("clear").addEventListener("click", () => {
      this.pad.show(new Uint8Array(pixels));
      this.draw();
    });
  }

  /** The true class of what is shown; null where it was drawn. */
  get label() {
    return this.image === null ? null : given.held.labels[this.image];
  }

  /** Any image of any class; the thumbnail of its class is this one from now on. */
  pick(image) {
    const thumb = this.thumbs[given.held.labels[image]];
    thumb.checked = true;
    this.face(thumb, image);
    this.last = this.image = image;
    this.pad.show(this.held[image]);
    this.changed(image);
  }

  face(thumb, image) {
    thumb.image = image;
    Pad.paint(thumb.parentElement.querySelector("canvas"), this.held[image], given.shape);
  }

  /** The next image of the class that was picked last. */
  another() {
    const label = given.held.labels[this.last], own = [...this.held.keys()].filter((i) => given.held.labels[i] === label);
    this.pick(own[(own.indexOf(this.last) + 1) % own.length]);
  }

  draw() {
    for (const thumb of this.thumbs) thumb.checked = false;
    this.image = null;
    this.changed(null);
  }

  /** What is said of an answer: right, wrong and what it is, or that you drew it. */
  verdict(answer) {
    if (this.label === null) return "you drew it";
    return answer === this.label ? "right" : `wrong, it is: ${given.classes[this.label]}`;
  }
}
