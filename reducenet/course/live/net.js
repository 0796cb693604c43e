"use strict";

/**
 * A network as data (see program.py), run on one image. Nothing is computed before it is asked for, and nothing twice:
 *
 *   const net = new Net(program);
 *   net.show(pixels);                   // Float32Array [C * H * W], normalised
 *   net.turn("stage1.0.branch1.5", 0);  // a knob; what depends on it is stale, all else stays
 *   net.get("logits");                  // Float32Array; so is every other named value
 *   for (const done of net.measure(images)) …;  // BN statistics anew, in slices; done goes from 0 to 1
 *   net.restore();                      // BN statistics as they came
 */
class Net {
  constructor(program) {
    this.names = program.names;
    this.knobs = { ...program.knobs };
    this.given = Net.numbers(program.weights);
    this.ops = program.ops.map((op) => ({ ...op, size: op.shape.reduce((a, b) => a * b) }));
    for (const op of this.ops) op.from = op.in.map((i) => this.ops[i].shape);
    this.values = this.ops.map((op) => new Float32Array(op.size));
    this.fresh = this.ops.map(() => false);
    this.restore();
  }

  static numbers(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new Float32Array(bytes.buffer); // little-endian, as every browser's machine is
  }

  restore() {
    this.weights = this.given.slice();
    this.stale((op) => op.op === "bn");
  }

  show(pixels) {
    this.values[0].set(pixels);
    this.stale((op) => op.op === "input");
    this.fresh[0] = true;
  }

  turn(knob, value) {
    if (!(knob in this.knobs)) throw new Error(`no knob ${knob}; there are: ${Object.keys(this.knobs).join(", ")}`);
    if (this.knobs[knob] === value) return;
    this.knobs[knob] = value;
    this.stale((op) => op.knob === knob);
  }

  get(name) {
    if (!(name in this.names)) throw new Error(`no value ${name}`);
    return this.value(this.names[name]);
  }

  /** These operations, and all that read them, have to be done again. */
  stale(chosen) {
    const hit = [];
    for (const [i, op] of this.ops.entries()) {
      hit.push(chosen(op) || op.in.some((j) => hit[j]));
      if (hit[i]) this.fresh[i] = false;
    }
  }

  value(i) {
    if (this.fresh[i]) return this.values[i];
    const op = this.ops[i];
    if (op.op === "scale" && this.knobs[op.knob] === 0) this.values[i].fill(0); // what is not needed is not computed: this is the student
    else this.run(op, op.in.map((j) => this.value(j)), this.values[i]);
    this.fresh[i] = true;
    return this.values[i];
  }

  run(op, inputs, out, weights = this.weights, knobs = this.knobs) {
    Net.kernels[op.op](op, inputs[0], inputs[1], out, weights, knobs[op.knob] ?? 0);
  }

  /**
   * Every BN's statistics become those of these images, one batch: the mean, and the unbiased variance. While it is measured a BN
   * normalises with the batch's own, as in training. Yields the share that is done, after each image of each operation; the network
   * stays as it is until the last slice, so whoever stops asking has changed nothing.
   */
  *measure(images) {
    const last = this.ops.map((_, i) => this.ops.reduce((found, op, k) => (op.in.includes(i) ? k : found), i)); // who reads a value last
    const batch = this.weights.slice(), measured = this.weights.slice(), knobs = { ...this.knobs };
    const maps = [images];
    for (let i = 1; i < this.ops.length; i++) {
      const op = this.ops[i];
      if (op.op === "bn") Net.statistics(op, maps[op.in[0]], batch, measured);
      maps[i] = [];
      for (const n of images.keys()) {
        maps[i].push(new Float32Array(op.size));
        this.run(op, op.in.map((j) => maps[j][n]), maps[i][n], batch, knobs);
        yield (i + (n + 1) / images.length) / this.ops.length;
      }
      for (const j of op.in) if (j && last[j] === i) maps[j] = null;
    }
    this.weights = measured;
    this.stale((op) => op.op === "bn");
  }

  /** Into `now` the mean and the variance of a batch, into `later` the mean and the unbiased variance. */
  static statistics(op, batch, now, later) {
    const [channels, height, width] = op.shape, pixels = height * width, count = pixels * batch.length;
    for (let c = 0; c < channels; c++) {
      let sum = 0, squares = 0;
      for (const map of batch) for (let p = c * pixels; p < (c + 1) * pixels; p++) sum += map[p];
      const mean = sum / count;
      for (const map of batch) for (let p = c * pixels; p < (c + 1) * pixels; p++) squares += (map[p] - mean) ** 2;
      const at = op.weight + 2 * channels + c;
      now[at] = later[at] = mean;
      now[at + channels] = squares / count;
      later[at + channels] = squares / (count - 1);
    }
  }
}

/** One function an operation: (op, x, y, out, weights, knob). */
Net.kernels = {
  /** The windows of all output pixels as rows, then a product of matrices in tiles of four channels and two pixels. */
  conv(op, x, _, out, weights) {
    const [channels, height, width] = op.from[0], [outs, tall, wide] = op.shape, pixels = tall * wide, { groups } = op;
    const inside = channels / groups, outside = outs / groups, length = inside * op.kernel[0] * op.kernel[1];
    if (Net.rows.length < (pixels + 1) * length) Net.rows = new Float32Array((pixels + 1) * length);
    for (let g = 0; g < groups; g++) {
      Net.windows(op, x, g * inside, (g + 1) * inside, height, width);
      for (let o = g * outside; o < (g + 1) * outside; ) {
        const step = o + 4 <= (g + 1) * outside ? 4 : 1;
        (step === 4 ? Net.tile4 : Net.tile1)(weights, op.weight + o * length, op.bias + o, length, pixels, out, o * pixels);
        o += step;
      }
    }
  },

  bn(op, x, _, out, weights) {
    const [channels, height, width] = op.shape, pixels = height * width;
    for (let c = 0; c < channels; c++) {
      const [gamma, beta, mean, variance] = [0, 1, 2, 3].map((k) => weights[op.weight + k * channels + c]);
      const factor = gamma / Math.sqrt(variance + op.eps), shift = beta - factor * mean;
      for (let p = c * pixels; p < (c + 1) * pixels; p++) out[p] = factor * x[p] + shift;
    }
  },

  relu(op, x, _, out, weights, lam) {
    for (let i = 0; i < out.length; i++) out[i] = x[i] > 0 ? x[i] : lam * x[i];
  },

  scale(op, x, _, out, weights, knob) {
    for (let i = 0; i < out.length; i++) out[i] = knob * x[i];
  },

  add(op, x, y, out) {
    for (let i = 0; i < out.length; i++) out[i] = x[i] + y[i];
  },

  max(op, x, _, out) {
    const [, height, width] = op.from[0], [channels, tall, wide] = op.shape;
    for (let c = 0, i = 0; c < channels; c++) {
      for (let top = -op.padding[0], row = 0; row < tall; row++, top += op.stride[0]) {
        for (let left = -op.padding[1], column = 0; column < wide; column++, left += op.stride[1], i++) {
          out[i] = -Infinity;
          for (let v = Math.max(top, 0); v < Math.min(top + op.kernel[0], height); v++)
            for (let u = Math.max(left, 0); u < Math.min(left + op.kernel[1], width); u++)
              out[i] = Math.max(out[i], x[(c * height + v) * width + u]);
        }
      }
    }
  },

  mean(op, x, _, out) {
    const pixels = op.from[0][1] * op.from[0][2];
    for (let c = 0; c < out.length; c++) {
      let sum = 0;
      for (let p = c * pixels; p < (c + 1) * pixels; p++) sum += x[p];
      out[c] = sum / pixels;
    }
  },
};

Net.rows = new Float32Array(0);

/** What each output pixel sees of the channels `from` to `to`, a row of `Net.rows` for each; beyond the map there are zeros. */
Net.windows = ({ kernel, stride, padding, shape }, x, from, to, height, width) => {
  const rows = Net.rows;
  let i = 0;
  for (let y = 0; y < shape[1]; y++) {
    for (let column = 0; column < shape[2]; column++) {
      const top = y * stride[0] - padding[0], left = column * stride[1] - padding[1];
      for (let c = from; c < to; c++) {
        for (let v = top; v < top + kernel[0]; v++) {
          const row = (c * height + v) * width, outside = v < 0 || v >= height;
          for (let u = left; u < left + kernel[1]; u++) rows[i++] = outside || u < 0 || u >= width ? 0 : x[row + u];
        }
      }
    }
  }
};

/** Four channels of a product of matrices: out[o, p] = bias[o] + sum_k weight[o, k] rows[p, k], two pixels at once. */
Net.tile4 = (weight, at, bias, length, pixels, out, to) => {
  const rows = Net.rows, b = at + length, c = b + length, d = c + length;
  for (let p = 0; p < pixels; p += 2) {
    let a0 = weight[bias], b0 = weight[bias + 1], c0 = weight[bias + 2], d0 = weight[bias + 3];
    let a1 = a0, b1 = b0, c1 = c0, d1 = d0;
    const one = p * length, two = one + length;
    for (let k = 0; k < length; k++) {
      const x0 = rows[one + k], x1 = rows[two + k];
      const wa = weight[at + k], wb = weight[b + k], wc = weight[c + k], wd = weight[d + k];
      a0 += wa * x0; a1 += wa * x1;
      b0 += wb * x0; b1 += wb * x1;
      c0 += wc * x0; c1 += wc * x1;
      d0 += wd * x0; d1 += wd * x1;
    }
    const i = to + p;
    out[i] = a0; out[i + pixels] = b0; out[i + 2 * pixels] = c0; out[i + 3 * pixels] = d0;
    if (p + 1 < pixels) {
      out[i + 1] = a1; out[i + 1 + pixels] = b1; out[i + 1 + 2 * pixels] = c1; out[i + 1 + 3 * pixels] = d1;
    }
  }
};

Net.tile1 = (weight, at, bias, length, pixels, out, to) => {
  for (let p = 0; p < pixels; p++) {
    let sum = weight[bias];
    for (let k = 0, i = p * length; k < length; k++, i++) sum += weight[at + k] * Net.rows[i];
    out[to + p] = sum;
  }
};
