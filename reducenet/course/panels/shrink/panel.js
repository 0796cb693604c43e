"use strict";

/** All that is shown follows from these and from the image. `playing` is the timer of the step that comes next. */
const state = { step: 0, playing: null };
const nets = given.steps.map(() => null), seen = [];
const PAUSE = 2100; // milliseconds a step: five steps are ten seconds

function net() {
  nets[state.step] ??= new Net(given.steps[state.step].program);
  return nets[state.step];
}

function show() {
  const step = given.steps[state.step], runs = net();
  if (seen[state.step] !== picker.pad.version) runs.show(normalised(picker.pad.pixels));
  seen[state.step] = picker.pad.version;
  const answer = bars.show(runs.get("logits"), picker.label), verdict = picker.verdict(answer);
  const said = { title: `${step.title}.`, text: step.text, answer: given.classes[answer], verdict };
  for (const node of document.querySelectorAll("[data-says]")) write(node, said[node.dataset.says]);
  document.body.dataset.verdict = picker.label === null ? "open" : verdict.slice(0, 5);
  document.body.dataset.step = step.name;
  document.querySelector(`[name=step][value="${state.step}"]`).checked = true;
  write($("play"), state.playing ? "Pause" : state.step === given.steps.length - 1 ? "Again" : "Play");
  count(step);
  clearTimeout(show.rest);
  const share = `${((100 * step.right) / given.held.of).toFixed(1)} %`;
  show.rest = setTimeout(write, 400, $("live"), `${step.title}. ${share} right. The answer is ${said.answer}: ${verdict}.`);
}

/** Numbers run to their place. */
function count(step) {
  const from = count.shown ?? step, start = performance.now(), token = (count.token = {});
  const tick = () => {
    if (token !== count.token) return;
    const time = still.matches ? 1 : Math.min(1, (performance.now() - start) / 700), eased = 1 - (1 - time) ** 3;
    count.shown = {};
    for (const name of ["right", "macs", "parameters", "layers"]) {
      const value = from[name] + (step[name] - from[name]) * eased, most = name === "right" ? given.held.of : given.steps[0][name];
      count.shown[name] = value;
      write($(name), name === "right" ? `${((100 * value) / most).toFixed(1)} %` : Math.round(value).toLocaleString("en"));
      $(`${name}-bar`).style.transform = `scaleX(${value / most})`;
    }
    if (time < 1) requestAnimationFrame(tick);
  };
  tick();
}

function go(step, playing = null) {
  clearTimeout(state.playing);
  Object.assign(state, { step, playing });
  show();
}

/** From here to the end, a step every two seconds. */
function play() {
  const next = state.step + 1;
  if (next >= given.steps.length) return go(state.step);
  state.playing = setTimeout(() => {
    state.step = next;
    play();
    show();
  }, PAUSE);
}

const bars = new Bars($("logits"), given.limits);
const picker = new Picker(() => show());
$("play").addEventListener("click", () => {
  if (state.playing) return go(state.step);
  if (state.step === given.steps.length - 1) state.step = 0;
  play();
  show();
});
for (const radio of document.querySelectorAll("[name=step]")) radio.addEventListener("change", () => go(Number(radio.value)));
picker.pick(given.start);
if (!still.matches) {
  play();
  show();
}
fit();
