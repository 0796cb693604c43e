"use strict";

const full = given.costs.macs.length - 1, count = given.blocks.length;
const kept = (mask) => [...Array(count).keys()].filter((i) => (mask >> i) & 1).length;
const order = [...given.costs.macs.keys()].sort((a, b) => given.costs.macs[a] - given.costs.macs[b] || a - b);
const reads = { "as-is": "nothing done after", anew: "BN measured anew", trained: "trained one epoch more" };

/** All that is shown follows from this and the pixels on the pad. `chooser` is null where a hand chose the mask. */
const state = { mask: full, reading: "as-is", chooser: null, job: null };
const net = new Net(given.program), probe = new Net(given.program); // the one shown, and one that tries every mask on the image
let measured = null, seen = null, rights = null; // the mask whose statistics `net` has, null as trained; which masks get the image right

/** Every control comes through here. What is being measured is for the state that was: it ends. */
function change(part) {
  if ("mask" in part && !("chooser" in part)) part.chooser = null;
  Object.assign(state, part, { job: null });
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

/** Knobs for a mask: lam 0 is a ReLU, lam 1 is none. */
function turn(one, mask) {
  for (const [i, acts] of given.acts.entries()) for (const act of acts) one.turn(act, (mask >> i) & 1 ? 0 : 1);
}

function frame() {
  change.asked = false;
  if (seen !== picker.pad.version) look();
  turn(net, state.mask);
  const anew = state.reading !== "as-is";
  if (!anew && measured !== null) {
    net.restore();
    measured = null;
  }
  if (anew && measured !== state.mask) measure();
  else answer();
  document.body.toggleAttribute("data-measuring", Boolean(state.job));

  scatter.show(values(), state.mask, labelled(), anew ? null : rights);
  showNet();
  showChoosers();
  showCosts();
  const k = kept(state.mask), peers = order.filter((mask) => kept(mask) === k), share = percent(state.mask);
  const place = `rank ${rank(state.mask)} of ${peers.length}`;
  write($("cohort"), `${state.reading === "as-is" ? "Filled: this image is right. " : ""}${
    peers.length > 1 ? `Blue: all ${peers.length} masks with ${ReLUs(k)}; this one has ${place}, ${reads[state.reading]}.` : `${
      k ? "No ReLU is gone" : "No ReLU inside a block is left"}: there is one such mask.`}`);
  write($("which"), state.reading === "as-is" ? `This image is right with ${rights.filter(Boolean).length} of ${rights.length} masks, no weight moved.`
    : `The image meets the trained weights and BN statistics measured anew on ${given.batch.count} training images, here.${
      state.reading === "trained" ? " The networks trained on are not in this file; their accuracy was recorded." : ""}`);
  for (const node of document.querySelectorAll("[data-says=share]")) write(node, share);
  const sentence = () => `${switches()}: ${ReLUs(k)}, ${place}. ${share} are right, ${reads[state.reading]}. The answer is ${$$("answer")}, ${$$("verdict")}.`;
  clearTimeout(frame.rest);
  frame.rest = setTimeout(() => write($("live"), sentence()), 400);
}

const $$ = (name) => document.querySelector(`[data-says=${name}]`).textContent;
const ReLUs = (k) => (k === 1 ? "1 ReLU" : `${k || "no"} ReLUs`);
const switches = () => `Blocks with a ReLU: ${[...Array(count).keys()].filter((i) => (state.mask >> i) & 1).map((i) => i + 1).join(", ") || "none"}`;
const values = () => given.record[state.reading];
const percent = (mask) => `${((100 * values()[mask]) / given.held.of).toFixed(1)} %`;

/** 1 for the best of all masks that keep as many, by what is shown; equals share a rank. */
function rank(mask) {
  return 1 + order.filter((other) => kept(other) === kept(mask) && values()[other] > values()[mask]).length;
}

/** Another image: shown to the network, and tried with every mask, the last block turning fastest. */
function look() {
  const image = normalised(picker.pad.pixels);
  net.show(image);
  probe.show(image);
  seen = picker.pad.version;
  const answers = [];
  for (let i = 0; i <= full; i++) {
    const mask = [...Array(count).keys()].reduce((sum, b) => sum | (((i >> b) & 1) << (count - 1 - b)), 0);
    turn(probe, mask);
    const logits = probe.get("logits");
    answers[mask] = logits.indexOf(Math.max(...logits));
  }
  const truth = picker.label ?? answers[full]; // of a drawing nobody knows the class: right is what the whole network says
  rights = answers.map((one) => one === truth);
}

function answer() {
  const said = bars.show(net.get("logits"), picker.label), verdict = picker.verdict(said);
  for (const [name, text] of Object.entries({ answer: given.classes[said], verdict })) write(document.querySelector(`[data-says=${name}]`), text);
  document.body.dataset.verdict = picker.label === null ? "open" : verdict.slice(0, 5);
}

/** The statistics anew for the network with this mask: in slices, so that the page stays alive. */
async function measure() {
  const { mask } = state, job = (state.job = {});
  measure.images ??= images(given.batch.pixels).map(normalised);
  let until = performance.now() + 10;
  for (const _ of net.measure(measure.images)) {
    if (performance.now() < until) continue;
    await new Promise(requestAnimationFrame);
    if (state.job !== job) return;
    until = performance.now() + 10;
  }
  measured = mask;
  change({ chooser: state.chooser });
}

/** The mask that somebody would choose who may keep `k`; undefined where nobody recorded it. */
function choice(chooser, k) {
  if (k === count) return full;
  if (chooser !== "best") return given.record.chosen[chooser]?.[k];
  return order.filter((mask) => kept(mask) === k).reduce((best, mask) => (values()[mask] > values()[best] ? mask : best));
}

const choosers = ["learned", "greedy", "magnitude", "random", "best"];

/** mask -> who chooses it, of those that keep as many as now. */
function labelled() {
  const k = kept(state.mask), found = new Map();
  if (k === count || k === 0) return found;
  for (const chooser of choosers) {
    const mask = choice(chooser, k);
    if (mask !== undefined) found.set(mask, [...(found.get(mask) ?? []), chooser]);
  }
  return found;
}

function showNet() {
  for (const [i, block] of blocks.entries()) block.setAttribute("aria-checked", Boolean((state.mask >> i) & 1));
  document.querySelector(`[name=keep][value="${kept(state.mask)}"]`).checked = true;
  document.querySelector(`[name=reading][value="${state.reading}"]`).checked = true;
}

function showChoosers() {
  const k = kept(state.mask), peers = order.filter((mask) => kept(mask) === k).length;
  for (const radio of document.querySelectorAll("[name=chooser]")) {
    const mask = choice(radio.value, k);
    radio.disabled = mask === undefined;
    radio.checked = radio.value === state.chooser && mask === state.mask;
    write(document.querySelector(`[data-rank=${radio.value}]`), mask === undefined ? "not recorded" : peers > 1 ? `${rank(mask)} of ${peers}` : "");
  }
}

function showCosts() {
  const all = { ...given.costs, seconds: given.record.seconds };
  for (const [name, row] of Object.entries(all)) {
    const says = (mask) => (row === null ? "not recorded" : name === "seconds" ? `${(1000 * row[mask]).toFixed(2)} ms` : row[mask].toLocaleString("en"));
    write($(`${name}-all`), says(full));
    write($(`${name}-now`), says(state.mask));
    $(`${name}-bar`).style.transform = `scaleX(${row === null ? 0 : Math.min(1, row[state.mask] / row[full])})`;
  }
}

/** A ReLU goes and comes back, until a hand takes over: these are switches. */
function invite() {
  const touched = () => (state.touched = document.body.dataset.touched = true);
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, touched, true);
  if (still.matches) return;
  const start = state.mask;
  [start & ~1, start & ~3, start & ~1, start].forEach((mask, i) => setTimeout(() => state.touched || change({ mask }), 500 + 900 * i));
}

const blocks = [...document.querySelectorAll(".block")];
const picker = new Picker(() => change({ chooser: state.chooser }));
const bars = new Bars($("logits"), given.limits);
const shares = Object.keys(reads).flatMap((name) => given.record[name] ?? []).map((right) => right / given.held.of);
const ends = [Math.min(...shares), Math.max(...shares)];
const scatter = new Scatter($("scatter"), given.costs.macs, given.held.of, order, ends, (mask) => change({ mask }));

const highest = Math.max(...given.blocks.map((block) => block.wide));
for (const [i, block] of blocks.entries()) {
  for (const part of ["wide", "one", "narrow", "after"]) block.style.setProperty(`--${part}`, `${(96 * given.blocks[i][part]) / highest}px`);
  block.addEventListener("click", () => change({ mask: state.mask ^ (1 << i) }));
}
for (const radio of document.querySelectorAll("[name=keep]")) {
  radio.addEventListener("change", () => {
    const chooser = [state.chooser ?? "best", "best"].find((name) => choice(name, Number(radio.value)) !== undefined);
    change({ mask: choice(chooser, Number(radio.value)), chooser });
  });
}
for (const radio of document.querySelectorAll("[name=chooser]")) {
  radio.addEventListener("change", () => change({ mask: choice(radio.value, kept(state.mask)), chooser: radio.value }));
}
for (const radio of document.querySelectorAll("[name=reading]")) {
  radio.disabled = !given.record[radio.value];
  radio.addEventListener("change", () => change({ reading: radio.value, chooser: state.chooser }));
}
write($("machine"), given.record.machine ? `Time: eager PyTorch, one image at a time, one thread, ${given.record.machine}; the fastest of several medians.`
  : "The time of this network was not recorded.");
picker.pick(given.start.image);
invite();
fit();
