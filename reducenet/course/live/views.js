"use strict";

/** The logits as bars around a zero line, on a scale that never changes. */
class Bars {
  constructor(list, [low, high]) {
    this.rows = [...list.children].map((row) => ({ row, ...Object.fromEntries([...row.children].map((node) => [node.className, node])) }));
    Object.assign(this, { low, high });
    list.style.setProperty("--zero", `${(100 * -low) / (high - low)}%`);
  }

  /** The index of the largest is the answer; `label` is the true class, or null where there is none. */
  show(logits, label) {
    const answer = logits.indexOf(Math.max(...logits));
    const kind = label === null ? "free" : answer === label ? "right" : "wrong";
    for (const [i, { row, track, value, tag }] of this.rows.entries()) {
      track.firstChild.style.transform = `scaleX(${Math.min(this.high, Math.max(this.low, logits[i])) / this.high})`;
      write(value, signed(logits[i]));
      row.className = i === answer ? kind : i === label ? "true" : "";
      write(tag, { free: "answer", right: "✓ answer", wrong: "✗ answer", true: "true class" }[row.className] ?? "");
    }
    return answer;
  }
}

/** The maps of a value side by side on one canvas, bright where they are large. */
class Maps {
  static lights = [[70, 165, 255], [70, 225, 150]]; // branch1 and branch2; the sum of both is the sum of their light

  constructor(canvas, [channels, height, width]) {
    Object.assign(this, { canvas, channels, height, width });
    [canvas.width, canvas.height] = [channels * (width + 1) - 1, height];
    this.image = new ImageData(canvas.width, height);
  }

  /** `layers` are pairs (values, light); `top` is the value that shines fully. */
  show(layers, top) {
    const { channels, height, width, image } = this, { data } = image, factor = top > 0 ? 1 / top : 0;
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < height * width; p++) {
        const at = 4 * (Math.floor(p / width) * image.width + c * (width + 1) + (p % width));
        data[at] = data[at + 1] = data[at + 2] = 14;
        for (const [values, light] of layers) {
          const share = Math.sqrt(Math.max(0, values[c * height * width + p]) * factor);
          for (let k = 0; k < 3; k++) data[at + k] += share * light[k];
        }
        data[at + 3] = 255;
      }
    }
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

/** Text of a node, written only where it changes: what is not touched is not laid out again. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** One digit behind the point, with a true minus. */
function signed(value) {
  return value.toFixed(1).replace("-0.0", "0.0").replace("-", "−");
}
