"use strict";

const last = given.steps - 1;

/** All that is shown follows from this and the pixels on the pad. */
const state = { step: given.start.step, net: Object.keys(given.nets)[0], padding: "first" };
const networks = new Map(); // name -> the network and what belongs to it, made when it is first asked for

function chosen() {
  const about = given.nets[state.net];
  const made = () => ({
    ...about,
    net: new Net(about.program),
    convs: Object.fromEntries(Object.entries(about.convs).map(([name, program]) => [name, new Net(program)])),
    seen: null,
  });
  if (!networks.has(state.net)) networks.set(state.net, made());
  return networks.get(state.net);
}

/** Every control comes through here. */
function change(part) {
  Object.assign(state, part);
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

/** The image into the network, and what the first pair reads of it into the pair and into the one conv. */
function look(all) {
  const { net, convs } = all;
  all.seen = pad.version;
  net.show(normalised(pad.pixels));
  const read = net.value(all.source);
  for (const one of Object.values(convs)) one.show(read);
  for (const name of ["first", "second"]) for (const knob of Object.keys(convs[name].knobs)) convs[name].turn(knob, 0);
  all.top = Math.max(...["first", "second", "one"].map((name) => largest(convs[name].get("logits"))));
  all.farthest = apart(all, "first").inside;
}

function frame() {
  change.asked = false;
  const all = chosen(), { net, convs } = all, lam = state.step / last;
  if (all.seen !== pad.version) look(all);
  for (const one of [net, convs.first, convs.second]) for (const knob of Object.keys(one.knobs)) one.turn(knob, lam);
  const { label } = picker, found = bars.show(net.get("logits"), label), answer = given.classes[found], verdict = picker.verdict(found);
  const share = `${((100 * all.curve[state.step]) / given.held.of).toFixed(1)} %`;
  const kind = state.step === 0 ? "ReLU" : state.step === last ? "identity" : "between the two";
  const gap = apart(all, state.padding);

  chart.show(given.nets[other()]?.curve ?? all.curve, all.curve, state.step, 0, []);
  showKernels(all);
  showMaps(all, gap);
  bend(all, lam);
  document.body.style.setProperty("--blur", state.step === last || all.farthest === 0 ? 0 : apart(all, "first").inside / all.farthest);
  document.body.dataset.exact = exact(gap);
  $("lam").value = lam;
  $("lam").style.setProperty("--value", lam);
  $("lam").setAttribute("aria-valuetext", `${lam.toFixed(2)}, ${kind}`);
  for (const name of ["net", "padding"]) document.querySelector(`[name=${name}][value="${state[name]}"]`).checked = true;
  const said = { lam: lam.toFixed(2), kind, share, answer, verdict, tale: tale(all), ...inside(all, gap, lam) };
  for (const node of document.querySelectorAll("[data-says]")) write(node, said[node.dataset.says]);
  document.body.dataset.verdict = label === null ? "open" : verdict.slice(0, 5);
  const sentence = `lam ${said.lam}, ${kind}. The network ${all.title} says ${answer}: ${verdict}. Of all held-out images: ${share}. `
    + `One convolution instead of two is off by ${said.inside} inside, ${said.ring} on the ring.`;
  clearTimeout(frame.rest);
  frame.rest = setTimeout(() => write($("live"), sentence), 400);
}

function other() {
  return Object.keys(given.nets).find((name) => name !== state.net);
}

/** What the section below says. */
function inside({ net, pair, costs }, gap, lam) {
  const values = net.get(`${pair}.1`), negative = values.filter((value) => value < 0).length / values.length, merged = state.step === last;
  return {
    slope: `below 0: times ${lam.toFixed(2)}`,
    below: `${Math.round(100 * negative)} % of the values here lie below 0`,
    equals: exact(gap) ? "=" : "≠",
    inside: difference(gap.inside),
    ring: difference(gap.ring),
    macs: costs[merged ? "one" : "two"][1].toLocaleString("en"),
    deploy: merged ? "as one conv a pair" : "two convs a pair: there is no one conv at this lam",
    reason: state.padding === "first" ? "Behind the 3×3 the 1×1 sees no border: nothing can go wrong there."
      : "Here the pair has zeros on its border, where one conv would have computed something from the image. merge refuses.",
  };
}

function tale({ home }) {
  if (state.step === 0) return home === 0 ? "As it was trained, a ReLU in every pair. Drag to 1: they are taken out by force, nothing is trained."
    : "It was trained away from here: its pairs have not been ReLUs since its first steps.";
  if (state.step < last) return "Every pair has the curve below, all at once. No weight moves.";
  return home === 1 ? "Here its training ended: each pair is one conv, and it works." : "Each pair is one conv, exactly. But what comes out of it is not what the layers behind were trained on.";
}

/** x -> lam x below 0, x above; and the values that this image sends through it. */
function bend({ net, pair }, lam) {
  const low = 59 + 55 * lam, values = net.get(`${pair}.1`), bins = new Array(48).fill(0);
  for (const value of values) bins[Math.min(47, Math.max(0, Math.floor((value + 4) * 6)))]++;
  const path = bins.map((count, i) => `V${(114 - 90 * Math.sqrt(count / values.length)).toFixed(1)}H${8 * (i + 1)}`).join("");
  document.querySelector("#bend .values").setAttribute("d", `M0 114${path}V114Z`);
  document.querySelector("#bend .curve").setAttribute("d", `M0 ${low.toFixed(1)}L192 59L384 4`);
}

/** Drawn again only where another network is shown. */
function showKernels({ convs, channels: [ins, inner, outs] }) {
  if (showKernels.of === convs) return;
  showKernels.of = convs;
  const [first, second] = [0, 1].map((n) => kernels(convs.first, n)), one = kernels(convs.one, 0);
  tiles($("kernel-first"), ins, inner, 3, (row, column) => first(column, row));
  tiles($("kernel-second"), outs, inner, 1, second);
  tiles($("kernel-one"), outs, ins, 3, one);
}

function showMaps({ convs, top }, gap) {
  maps.two.show(signs(convs[state.padding].get("logits")), top);
  maps.one.show(signs(convs.one.get("logits")), top);
  maps.gap.show([[gap.map, lights.gap]], top);
}

/** The point slides to 1 and back, until a hand takes over: it can be moved. */
function invite() {
  const start = performance.now(), from = state.step, to = from > last / 2 ? 0 : last;
  const slide = () => {
    const share = (performance.now() - start - 600) / 3600;
    if (state.touched || share > 1) return;
    if (share > 0) change({ step: Math.round(from + (to - from) * Math.sin(Math.PI * share) ** 2) });
    requestAnimationFrame(slide);
  };
  const touched = () => (state.touched = document.body.dataset.touched = true);
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, touched, true);
  if (!still.matches) slide();
}

/** Accuracy against lam: a curve for each network, named where its training ended. */
class Curves extends Chart {
  name(part, _, curve) {
    const name = part === "now-name" ? state.net : other();
    super.name(part, name === undefined ? 0 : given.nets[name].home * last, curve, -12, name === undefined ? "" : given.nets[name].title);
  }
}

const picker = new Picker(() => change({})), { pad } = picker;
const chart = new Curves($("chart"), given.steps, given.held.of, (step) => change({ step }));
const bars = new Bars($("logits"), given.limits);
const made = chosen().convs.one.ops.at(-1).shape, few = [Math.min(8, made[0]), made[1], made[2]];
const maps = { two: new Maps($("maps-two"), few), one: new Maps($("maps-one"), few), gap: new Maps($("maps-gap"), [1, ...few.slice(1)]) };

document.body.style.setProperty("--side", made[2]);
$("lam").addEventListener("input", ({ target }) => change({ step: Math.round(target.value * last) }));
for (const name of ["net", "padding"]) {
  for (const radio of document.querySelectorAll(`[name=${name}]`)) radio.addEventListener("change", () => change({ [name]: radio.value }));
}
picker.pick(given.start.image);
invite();
fit();
