"use strict";

/** Two convolutions and one: their numbers as tiles of light, and how far apart they are. Above 0 is blue, below is orange. */
const lights = { above: [70, 165, 255], below: [255, 150, 60], gap: [255, 225, 150] };

function signs(values) {
  return [[values, lights.above], [values.map((value) => -value), lights.below]];
}

function largest(values) {
  return values.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
}

/** The pair, padded like this, less the one conv: the largest over all channels at each pixel, and inside and on the ring. */
function apart({ convs }, padding) {
  const pair = convs[padding].get("logits"), one = convs.one.get("logits"), [channels, height, width] = convs.one.ops.at(-1).shape;
  const map = new Float32Array(height * width), found = { map, inside: 0, ring: 0 };
  for (let i = 0; i < channels * map.length; i++) map[i % map.length] = Math.max(map[i % map.length], Math.abs(pair[i] - one[i]));
  for (const [p, value] of map.entries()) {
    const [y, x] = [Math.floor(p / width), p % width], where = x % (width - 1) && y % (height - 1) ? "inside" : "ring";
    found[where] = Math.max(found[where], value);
  }
  return found;
}

/** But for rounding: the networks here compute in float32. */
function exact({ inside, ring }) {
  return inside < 1e-4 && ring < 1e-4;
}

/** What is left of rounding in float32 is said as such. */
function difference(value) {
  return value === 0 ? "0" : value < 1e-4 ? `0 (${value.toExponential(0).replace("-", "−")})` : value.toFixed(2);
}

/** (o, i) -> the kernel with which the n-th conv of a net reads channel i for channel o. */
function kernels(net, n) {
  const op = net.ops.filter((one) => one.op === "conv")[n], size = op.kernel[0] * op.kernel[1];
  return (o, i) => net.weights.subarray(op.weight + (o * op.from[0][0] + i) * size).subarray(0, size);
}

/** A tile of `size` x `size` numbers in every row and column, a dark line between them. */
function tiles(canvas, rows, columns, size, of) {
  const step = size + 1, all = [];
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) all.push(of(r, c));
  [canvas.width, canvas.height] = [columns * step - 1, rows * step - 1];
  const image = new ImageData(canvas.width, canvas.height), top = Math.max(...all.map(largest));
  for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
  for (const [n, tile] of all.entries()) {
    for (const [p, value] of tile.entries()) {
      const at = 4 * ((Math.floor(n / columns) * step + Math.floor(p / size)) * image.width + (n % columns) * step + (p % size));
      const light = value > 0 ? lights.above : lights.below, share = Math.sqrt(Math.abs(value) / top);
      for (let k = 0; k < 3; k++) image.data[at + k] = 14 + share * (light[k] - 14);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
