"use strict";

const HALF = 10, full = given.ranks.length - 1;

/** All that is shown follows from this and the pixels on the pad. Steps 0 to 10 let the branch in, 10 to 20 fold it. */
const state = { step: HALF, rank: given.start.rank, temperature: given.start.temperature, block: 0 };
const scale = () => (state.step <= HALF ? state.step : 2 * HALF - state.step) / HALF; // of the branch
const moved = () => Math.max(0, state.step - HALF) / HALF; // into the kernel

/** `now` is folded and unfolded; `open` has its branch as trained, `alone` has none: it is compared with them. */
const nets = { now: new Net(given.student), open: new Net(given.student), alone: new Net(given.student), teacher: new Net(given.teacher) };
for (const knob of Object.keys(nets.alone.knobs)) nets.alone.turn(knob, 0);
const blocks = blocksOf(nets.now);

/** Other numbers in one conv of a network: what depends on it is stale. */
function put(net, place, numbers) {
  net.weights.set(numbers, net.ops[place].weight);
  net.stale((op) => op === net.ops[place]);
}

function change(part) {
  Object.assign(state, part);
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

/** The networks become what the state says. */
function turn() {
  const rank = given.ranks[state.rank], share = moved();
  for (const block of blocks) {
    if (turn.rank !== rank) {
      cutTo(block, rank);
      for (const net of [nets.now, nets.open]) put(net, block.ops.second, block.second);
    }
    if (turn.rank !== rank || turn.share !== share) put(nets.now, block.ops.base, block.weight.map((w, i) => w + share * block.change[i]));
    nets.now.turn(block.knob, scale());
  }
  if (turn.seen !== picker.pad.version) for (const net of Object.values(nets)) net.show(normalised(picker.pad.pixels));
  Object.assign(turn, { rank, share, seen: picker.pad.version });
}

function frame() {
  change.asked = false;
  turn();
  const logits = Object.fromEntries(Object.entries(nets).map(([name, net]) => [name, [...net.get("logits")]]));
  const { label } = picker, best = logits.now.indexOf(Math.max(...logits.now)), verdict = picker.verdict(best);
  const gap = Math.max(...logits.now.map((value, i) => Math.abs(value - logits.open[i])));
  const right = given.right.side[state.rank][Math.min(state.step, HALF)], share = right === null ? "not recorded" : percent(right);
  const rank = given.ranks[state.rank], [parameters, macs] = state.step === 2 * HALF || state.step === 0 ? given.costs.folded : given.costs.opened;
  const said = { share, answer: given.classes[best], verdict, ...movement(gap), rank, temperature: given.temperatures[state.temperature],
    rankIs: state.rank === full ? "all of the change" : rank ? "the rest is cut" : "nothing is left", ...softly(logits, label),
    parameters: parameters.toLocaleString("en"), macs: macs.toLocaleString("en"), ...kernels() };
  for (const node of document.querySelectorAll("[data-says]")) write(node, String(said[node.dataset.says]));
  document.body.dataset.verdict = label === null ? "open" : verdict.slice(0, 5);
  document.body.style.setProperty("--branch", scale());
  $("cost").style.transform = `scaleX(${macs / given.costs.opened[1]})`;
  spectrum.show(blocks[state.block], rank);
  ranks.show(state.rank);
  energy(blocks[state.block], rank);
  slide("step", state.step, 2 * HALF, `${said.stage}, ${said.moved}`);
  slide("rank", state.rank, full, `rank ${rank}, ${said.rankIs}`);
  slide("temperature", state.temperature, given.temperatures.length - 1, `temperature ${said.temperature}`);
  document.querySelector(`[name=block][value="${state.block}"]`).checked = true;
  clearTimeout(frame.rest);
  frame.rest = setTimeout(() => write($("live"), `${said.stage}, rank ${rank}. ${said.moved} The answer is ${said.answer}: ${verdict}. ${
    ""}Of all held-out images: ${share}.`), 400);
}

/** How far the logits are from those with the branch as trained, and why. */
function movement(gap) {
  const folding = state.step > HALF, rest = state.step === HALF;
  document.body.dataset.still = folding ? "yes" : rest ? "rest" : "no";
  document.body.dataset.branch = scale() === 0 ? "none" : "there";
  const number = gap >= 0.05 ? gap.toFixed(1) : gap === 0 ? "0" : `${(gap * 1e6).toFixed(1)} millionths`;
  const stage = state.step === 0 ? "Student alone" : state.step === 2 * HALF ? "Folded" : rest ? "With its branch"
    : folding ? `${Math.round(100 * moved())} % folded` : `${Math.round(100 * scale())} % of the branch`;
  const moves = rest ? "This is what folding has to keep." : folding ? `No logit moved by more than ${number}.`
    : `The logits are up to ${number} away.`;
  const because = rest ? "Conv and branch read the same x, and what they make is added. Drag to the right to fold."
    : state.step === 2 * HALF ? "The branch is gone; the network is as small as the student alone. What is left is rounding."
      : folding ? `${Math.round(100 * moved())} % of the branch lies in the conv, the branch does the rest. What moves is rounding.`
        : "What the branch learned from the teacher is missing, in part or all of it.";
  return { stage, moved: moves, because };
}

/** Probabilities at the temperature, and how far the student's are from the teacher's. */
function softly(logits, label) {
  const heat = given.temperatures[state.temperature];
  const logs = (values) => {
    const top = Math.max(...values), sum = Math.log(values.reduce((all, value) => all + Math.exp((value - top) / heat), 0));
    return values.map((value) => (value - top) / heat - sum);
  };
  const [teacher, alone, now] = [logits.teacher, logits.alone, logits.now].map(logs), best = now.indexOf(Math.max(...now));
  for (const [i, row] of [...$("soft").children].entries()) {
    [teacher, alone, now].forEach((all, k) => (row.children[1].children[k].style.transform = `scaleX(${Math.exp(all[i])})`));
    write(row.children[2], `${(100 * Math.exp(now[i])).toFixed(1)} %`);
    row.className = [i === best ? "said" : "", i === label ? "label" : ""].join(" ");
  }
  const kl = (student) => (heat ** 2 * teacher.reduce((all, p, i) => all + Math.exp(p) * (p - student[i]), 0)).toFixed(2);
  return { klAlone: kl(alone), klNow: kl(now) };
}

/** The matrices of one block. Light on a black ground is a number far from 0, on one scale for all but the factors. */
function kernels() {
  const { weight, change: product, first, second, out, inside, width } = blocks[state.block], s = scale(), share = moved();
  const top = Math.max(...weight.map((w, i) => Math.max(Math.abs(w), Math.abs(product[i]), Math.abs(w + product[i]))));
  const peak = (values) => Math.max(1e-9, ...values.map(Math.abs));
  plate("kernel", weight.map((w, i) => w + share * product[i]), out, inside, top);
  plate("first", first, width, inside, peak(first));
  plate("second", second.map((b) => s * b), out, width, peak(blocks[state.block].trained));
  plate("change", product.map((d) => s * d), out, inside, top);
  plate("sum", weight.map((w, i) => w + (share + s) * product[i]), out, inside, top);
  return { kernelIs: share === 1 ? "W and the branch" : share ? "W, part of the branch" : "W, frozen",
    firstIs: s === 0 ? "gone" : `→ ${width} channels` };
}

function energy({ values, control, called }, rank) {
  const held = (all) => all.slice(0, rank).reduce((sum, s) => sum + s * s, 0) / all.reduce((sum, s) => sum + s * s, 0);
  const also = control.length ? `; of what training that conv itself changed they hold ${Math.round(100 * held(control))} %` : "";
  const many = Math.min(rank, values.length), word = many === 1 ? "The largest direction holds" : `The ${many} largest directions hold`;
  write($("energy"), many ? `${called}: ${word} ${Math.round(100 * held(values))} % of the branch's change (squares)${also}.`
    : `${called}: nothing of the change is kept; this is the student alone, whatever the branch is.`);
}

const percent = (right) => `${((100 * right) / given.held.of).toFixed(1)} %`;

function slide(name, value, last, text) {
  $(name).value = value;
  $(name).style.setProperty("--value", value / last);
  $(name).setAttribute("aria-valuetext", text);
}

/** The branch folds and unfolds once, until a hand takes over: it can be moved. */
function invite() {
  const start = performance.now(), touched = () => (state.touched = document.body.dataset.touched = true);
  const play = () => {
    const share = (performance.now() - start - 600) / 3200;
    if (state.touched || share > 1) return;
    if (share > 0) change({ step: HALF + Math.round(HALF * Math.sin(Math.PI * share) ** 2) });
    requestAnimationFrame(play);
  };
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, touched, true);
  if (!still.matches) play();
}

const picker = new Picker(() => change({}));
const spectrum = new Spectrum($("spectrum"), blocks);
const ranks = new Ranks($("ranks"), given, (rank) => change({ rank, step: Math.max(state.step, HALF) }));

$("step").addEventListener("input", ({ target }) => change({ step: Number(target.value) }));
$("rank").addEventListener("input", ({ target }) => change({ rank: Number(target.value) }));
$("temperature").addEventListener("input", ({ target }) => change({ temperature: Number(target.value) }));
for (const radio of document.querySelectorAll("[name=block]")) radio.addEventListener("change", () => change({ block: Number(radio.value) }));
picker.pick(given.start.image);
invite();
fit();
