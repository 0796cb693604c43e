"use strict";

/** What every panel starts from: what it was given, and how it lies in a host. */
const given = JSON.parse(document.getElementById("material").textContent);
const $ = (name) => document.getElementById(name);
const pixels = given.shape?.reduce((a, b) => a * b), still = matchMedia("(prefers-reduced-motion: reduce)");

/** Images 0..255 as they were handed over. */
function images(base64) {
  const all = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return Array.from({ length: all.length / pixels }, (_, i) => all.subarray(i * pixels, (i + 1) * pixels));
}

/** As the network wants it. */
function normalised(image) {
  const channel = (i) => Math.floor((i * given.shape[0]) / pixels);
  return Float32Array.from(image, (value, i) => (value / 255 - given.mean[channel(i)]) / given.std[channel(i)]);
}

/** In a notebook's frame: as high as it needs to be, and the picture beside it, which is for hosts without scripts, goes. */
function fit() {
  const outside = window.frameElement, height = () => document.documentElement.offsetHeight;
  if (!outside) {
    // A page that frames this file, from a folder, say, cannot be reached: it hears the height and does the same.
    if (parent !== window) new ResizeObserver(() => parent.postMessage({ height: height() }, "*")).observe(document.documentElement);
    return;
  }
  outside.parentElement.querySelectorAll("[data-without-scripts]").forEach((node) => (node.hidden = true));
  new ResizeObserver(() => (outside.style.height = `${height()}px`)).observe(document.documentElement);
}
