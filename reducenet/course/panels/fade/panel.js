"use strict";

const last = given.steps - 1;

/** All that is shown follows from this, the pixels on the pad, and the statistics in the networks. `image` is null where it is drawn. */
const state = { step: given.start.scaler, expansion: String(given.start.expansion), image: 0, job: null };
const networks = new Map(); // expansion -> the network and what belongs to it, made when it is first asked for

/**
 * `at` is the step at which the statistics were measured, null as trained; `traces` what was found where they were measured so far;
 * `top` the brightest pixel of either branch, at any scaler.
 */
function chosen() {
  const about = given.nets[state.expansion];
  const made = () => ({ ...about, net: new Net(about.program), at: null, traces: [], seen: null, ms: {} });
  if (!networks.has(state.expansion)) networks.set(state.expansion, made());
  return networks.get(state.expansion);
}

/** Every control comes through here. What is being measured is for the state that was: it ends. */
function change(part) {
  Object.assign(state, part, { job: null });
  if (!change.asked) requestAnimationFrame(frame);
  change.asked = true;
}

function frame() {
  change.asked = false;
  const all = chosen(), { net } = all, scaler = state.step / last;
  for (const knob of Object.keys(net.knobs)) net.turn(knob, scaler);
  if (all.seen !== pad.version) {
    net.show(normalised(pad.pixels));
    all.seen = pad.version;
    all.top = null;
  }
  all.top ??= Math.max(...all.branches.map((name) => Math.max(...net.get(name))));
  const { label } = picker, found = bars.show(net.get("logits"), label), answer = given.classes[found], verdict = picker.verdict(found);
  const counts = all.at === null ? all.curves.trained : all.curves.measured[all.at];
  const share = counts ? `${((100 * counts[state.step]) / given.held.of).toFixed(1)} %` : "not recorded";
  const kind = scaler === 0 ? "student" : scaler === all.home ? "teacher" : "between the two";

  chart.show(all.curves.trained, counts, state.step, all.at, all.traces);
  showMaps(all, scaler);
  showCosts(all);
  showStatistics(all);
  document.body.style.setProperty("--scaler", scaler);
  document.body.style.setProperty("--expansion", state.expansion);
  $("scaler").value = scaler;
  $("scaler").style.setProperty("--value", scaler);
  document.querySelector(`[name=expansion][value="${state.expansion}"]`).checked = true;
  $("scaler").setAttribute("aria-valuetext", `${scaler.toFixed(2)}, ${kind}`);
  const said = { scaler: scaler.toFixed(2), expansion: state.expansion, share, kind, answer, verdict };
  for (const node of document.querySelectorAll("[data-says]")) write(node, said[node.dataset.says]);
  document.body.dataset.verdict = label === null ? "open" : verdict.slice(0, 5);
  const sentence = `Scaler ${said.scaler}, ${kind}. The answer is ${answer}: ${verdict}. Of all held-out images: ${share}.`;
  clearTimeout(frame.rest);
  frame.rest = setTimeout(atRest, 400, all, sentence);
}

function showMaps({ net, branches, top }, scaler) {
  const [one, two] = branches.map((name) => net.get(name)), faded = one.map((value) => scaler * value);
  maps.one.show([[faded, Maps.lights[0]]], top);
  maps.two.show([[two, Maps.lights[1]]], top);
  maps.sum.show([[faded, Maps.lights[0]], [two, Maps.lights[1]]], top);
}

function showCosts({ costs, ms }) {
  const student = state.step === 0, rows = { trained: costs.teacher, deployed: student ? costs.deployed : costs.fused };
  for (const [name, [parameters, macs]] of Object.entries(rows)) {
    write($(`${name}-parameters`), parameters.toLocaleString("en"));
    write($(`${name}-macs`), macs.toLocaleString("en"));
    $(`${name}-bar`).style.transform = `scaleX(${macs / costs.teacher[1]})`;
  }
  write($("deployed-how"), student ? "branch 1 deleted, BatchNorms folded into the convs" : "BatchNorms folded into the convs");
  write($("ms"), ms[student] ? `${ms[student].toFixed(1)} ms` : "…");
}

function showStatistics({ at }) {
  const here = at === state.step, where = at === null ? "" : (at / last).toFixed(2);
  document.body.dataset.statistics = state.job ? "measuring" : at === null ? "trained" : "measured";
  $("measure").setAttribute("aria-disabled", here || Boolean(state.job));
  $("restore").setAttribute("aria-disabled", at === null);
  write($("measure"), state.job ? "Measuring …" : "Re-estimate BN");
  const question = state.step > last / 2 ? "" : "Is the knowledge gone, or only its scale? Measure them anew.";
  write($("statistics"), state.job ? `${given.batch.count} training images run through the network, here.`
    : at === null ? `BatchNorm statistics: as trained, with the whole branch. ${question}`
    : `BatchNorm statistics: measured at scaler ${where}. No weight moved.${here ? "" : " Here the maps have others."}`);
}

/** The statistics anew for the network as it is now: in slices, so that the page stays alive. */
async function measure() {
  const all = chosen(), step = state.step, job = {};
  if (all.at === step || state.job) return;
  change({});
  state.job = job;
  $("measure").style.setProperty("--done", 0);
  measure.images ??= images(given.batch.pixels).map(normalised);
  let until = performance.now() + 10;
  for (const share of all.net.measure(measure.images)) {
    if (performance.now() < until) continue;
    $("measure").style.setProperty("--done", share);
    await new Promise(requestAnimationFrame);
    if (state.job !== job) return;
    until = performance.now() + 10;
  }
  all.at = step;
  all.top = null;
  if (all.curves.measured[step]) all.traces.push([step, all.curves.measured[step][step]]);
  change({});
}

function restore() {
  const all = chosen();
  if (all.at === null) return;
  all.net.restore();
  all.at = all.top = null;
  change({});
}

/** Once nothing moves any more: what it says, for those who listen, and how long one image takes. */
function atRest(all, text) {
  write($("live"), text);
  if (state.job || all !== chosen()) return;
  const runs = 16, image = normalised(pad.pixels), start = performance.now();
  for (let i = 0; i < runs; i++) {
    all.net.show(image);
    all.net.get("logits");
  }
  all.ms[state.step === 0] = (performance.now() - start) / runs;
  showCosts(all);
}

/** The point slides a little way and back, until a hand takes over: it can be moved. */
function invite() {
  const start = performance.now(), from = state.step;
  const slide = () => {
    const share = (performance.now() - start - 600) / 2400;
    if (state.touched || share > 1) return;
    if (share > 0) change({ step: Math.round(from + (from > last / 2 ? -1 : 1) * 0.4 * last * Math.sin(Math.PI * share) ** 2) });
    requestAnimationFrame(slide);
  };
  const touched = () => (state.touched = document.body.dataset.touched = true);
  for (const event of ["pointerdown", "keydown"]) addEventListener(event, touched, true);
  if (!still.matches) slide();
}

const picker = new Picker((image) => change({ image })), { pad, held } = picker;
const chart = new Chart($("chart"), given.steps, given.held.of, (step) => change({ step }));
const bars = new Bars($("logits"), given.limits);
const maps = Object.fromEntries(["one", "two", "sum"].map((name) => [name, new Maps($(`maps-${name}`), chosen().maps)]));

$("scaler").addEventListener("input", ({ target }) => change({ step: Math.round(target.value * last) }));
$("measure").addEventListener("click", measure);
$("restore").addEventListener("click", restore);
for (const radio of document.querySelectorAll("[name=expansion]")) {
  radio.addEventListener("change", () => change({ expansion: radio.value }));
}
picker.pick(given.start.image);
invite();
fit();
