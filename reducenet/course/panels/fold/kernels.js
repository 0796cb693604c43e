"use strict";

/** The convs of a block as matrices: kernel W, and the branch's product second · first. Cut to a rank, only `second` changes. */
const blocksOf = (net) => given.blocks.map((block) => {
  const [out, inside, width] = block.shape, place = (part) => net.names[`${block.name}.${part}`];
  const ops = { base: place("base"), first: place("first"), second: place("second") };
  const cut = (op, length) => net.given.slice(net.ops[op].weight, net.ops[op].weight + length);
  return { ...block, out, inside, width, ops, knob: `${block.name}.second`, directions: Net.numbers(block.directions),
    weight: cut(ops.base, out * inside), first: cut(ops.first, width * inside), trained: cut(ops.second, out * width) };
});

/** Row times column: [rows, inner] · [inner, columns]. */
function product(a, b, rows, inner, columns) {
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let k = 0; k < inner; k++)
      for (let j = 0; j < columns; j++) out[i * columns + j] += a[i * inner + k] * b[k * columns + j];
  return out;
}

/** `second` so that the product has this rank at most and is as near as can be: turned into the first directions and back. */
function cutTo(block, rank) {
  const { out, width, directions, trained, values } = block, all = values.length;
  const kept = new Float64Array(out * all).map((_, i) => (i % all < rank ? directions[i] : 0));
  const back = new Float64Array(all * out).map((_, i) => directions[(i % out) * all + Math.floor(i / out)]);
  block.second = rank >= all ? Float64Array.from(trained) : product(product(kept, back, out, all, out), trained, out, out, width);
  block.change = product(block.second, block.first, out, width, block.inside);
}

/** Orange where positive, blue where negative; the square root, so that small numbers are seen. */
function plate(name, values, rows, columns, top) {
  const canvas = $(name), image = new ImageData(columns, rows);
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  for (let i = 0; i < rows * columns; i++) {
    const share = Math.sqrt(Math.min(1, Math.abs(values[i]) / top)), light = values[i] > 0 ? [255, 160, 50] : [75, 165, 255];
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = 14 + share * (light[k] - 14);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
