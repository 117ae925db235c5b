// @ts-check
/**
 * The explorer page: one picture, any part of it, redrawn by the service at the size of the screen.
 *
 * Everything that is shown follows from `state`, and `state` from the link.
 */

import { Api, Problem, sleep } from "./api.js";
import { element, onClick } from "./dom.js";
import { listenToKeys, listenToPointers } from "./gestures.js";
import { Jobs } from "./jobs.js";
import { askKey } from "./key_dialog.js";
import { readLink, writeLink } from "./link.js";
import { Loader } from "./loader.js";
import { Motion } from "./motion.js";
import { OrderDialog } from "./order.js";
import { Panel } from "./panel.js";
import { Download, copyIiif, copyLink, showIiif } from "./share.js";
import { frameOf } from "./source.js";
import { Stage } from "./stage.js";
import { Notice, describePicture, describeView } from "./status.js";
import { WHOLE, clamp, clampView, pan, placement, scaled, zoom } from "./view.js";

const KEY_ZOOM = 1.5;
const KEY_PAN = 0.1; // of the canvas
const LINK_MILLISECONDS = 250; // browsers refuse to rewrite the address often
const POLL_MILLISECONDS = 1000;
const PATIENCE_MILLISECONDS = 2000;
const NARROW = "(max-width: 640px)"; // as style.css

/** More pixels than this are not asked for: on larger screens a pixel of the canvas covers several. */
let maxPixels = 2560 * 1600;

/** Where a server allows less than this, there is nothing to be shown. */
const MIN_PIXELS = 256 * 256;

/** @type {import("./api.js").Model[]} */
let models = [];
/** @type {import("./link.js").State} */
let state = { picture: { model: "", seed: 0, psi: 1, classIndex: null }, view: WHOLE, job: null };
let liveView = WHOLE; // while a job is open: what was in view before
let opened = false; // whether the state is that of a link, and models are known
let busy = false;
let linkTimer = 0;
let patience = 0;

const canvas = element("canvas", HTMLCanvasElement);
const stage = new Stage(canvas);
const notice = new Notice(tryAgain);
const panel = new Panel((picture) => setState({ picture, view: state.job ? liveView : state.view, job: null }));
const motion = new Motion((view) => setState({ ...state, view }));
const api = new Api({ askKey, tellWaiting: (message) => notice.wait(message) });
const download = new Download(api);
const jobs = new Jobs(api, openJob);
const order = new OrderDialog(api, (job) => jobs.add(job));
const loader = new Loader(api, { onLoaded, onError, onBusy });

async function start() {
  try {
    models = await api.models();
  } catch (error) {
    notice.fail(/** @type {Error} */ (error).message);
    return;
  }
  if (models.length === 0) {
    notice.fail("No network is served: put a checkpoint into the folder of models.");
    return;
  }
  panel.setModels(models);
  await waitForWorker();
  notice.clear();
  opened = true;
  element("panel", HTMLElement).inert = false;
  openLink();
  jobs.refresh();
}

async function waitForWorker() {
  while (!(await api.ready())) {
    notice.wait("Waiting for a worker …");
    await sleep(POLL_MILLISECONDS);
  }
}

async function openLink() {
  if (!opened) return;
  const { picture, view, jobId } = readLink(location.hash, models);
  const job = jobId === null ? null : await jobs.find(jobId);
  panel.setPicture(picture);
  state = { picture, view, job };
  motion.jump(clampView(jobId !== null && job === null ? WHOLE : view, stage.size));
}

/** Shows what a job has made, or again what is drawn live. @param {import("./source.js").Stored | null} job */
function openJob(job) {
  if (state.job === null) liveView = state.view;
  state = { ...state, job };
  motion.jump(clampView(job ? WHOLE : liveView, stage.size));
}

/** Shows a state. @param {import("./link.js").State} next */
function setState(next) {
  if (!opened) return;
  state = { ...next, view: clampView(next.view, stage.size) };
  stage.look(state.view);
  describeView(state, stage.size);
  showIiif(state);
  jobs.showOpen(state.job?.id ?? null);
  element("order", HTMLButtonElement).disabled = state.job !== null;
  placeFrame();
  load();
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => history.replaceState(null, "", writeLink(state)), LINK_MILLISECONDS);
}

function load() {
  loader.load({ ...state, size: stage.size });
}

/** Outlines the unit square, the picture as it was trained, or what the job has made. */
function placeFrame() {
  const box = canvas.getBoundingClientRect();
  const { left, top, width, height } = placement(frameOf(state.job), state.view, box);
  const margin = 8; // far edges wait just out of sight: a browser does not lay out boxes of 10⁹ pixels
  const [x0, x1] = [left, left + width].map((x) => clamp(x, -margin, box.width + margin));
  const [y0, y1] = [top, top + height].map((y) => clamp(y, -margin, box.height + margin));
  const { style } = element("frame", HTMLElement);
  Object.assign(style, { left: `${x0}px`, top: `${y0}px`, width: `${x1 - x0}px`, height: `${y1 - y0}px` });
}

/** @param {import("./loader.js").Loaded} loaded */
function onLoaded(loaded) {
  notice.clear();
  stage.add(loaded);
  if (loaded.full) describePicture(loaded);
}

/** @param {Error} error */
function onError(error) {
  if (error instanceof Problem && error.status === 413 && maxPixels > MIN_PIXELS) {
    maxPixels /= 2; // the server's limit is lower than ours
    resize();
  } else {
    notice.fail(error.message);
  }
}

/** @param {boolean} now */
function onBusy(now) {
  if (now === busy) return;
  busy = now;
  canvas.ariaBusy = String(busy);
  notice.setBusy(busy);
  clearTimeout(patience);
  if (busy) patience = setTimeout(explainDelay, PATIENCE_MILLISECONDS);
}

async function explainDelay() {
  const ready = await api.ready();
  if (!busy) return;
  if (!ready) notice.wait("Waiting for a worker …");
  clearTimeout(patience);
  patience = setTimeout(explainDelay, PATIENCE_MILLISECONDS);
}

function tryAgain() {
  notice.clear();
  if (opened) load();
  else start();
}

function resize() {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = Math.min(devicePixelRatio, Math.sqrt(maxPixels / (width * height)));
  stage.resize(scaled({ width, height }, ratio));
  download.setScreenSize(stage.size);
  setState(state);
}

/** @param {number} factor @param {import("./view.js").Point} [anchor] */
function glideZoom(factor, anchor = { x: stage.size.width / 2, y: stage.size.height / 2 }) {
  motion.glide(state.view, zoom(motion.goal, stage.size, anchor, factor));
}

/** @param {number} right share of the canvas @param {number} down */
function glidePan(right, down) {
  const by = { x: -right * stage.size.width, y: -down * stage.size.height };
  motion.glide(state.view, pan(motion.goal, stage.size, by));
}

const showWhole = () => motion.glide(state.view, clampView(WHOLE, stage.size));
const zoomIn = () => glideZoom(KEY_ZOOM);
const zoomOut = () => glideZoom(1 / KEY_ZOOM);

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

function toggleSettings() {
  const open = element("panel", HTMLElement).classList.toggle("open");
  element("toggle", HTMLButtonElement).setAttribute("aria-expanded", String(open));
}

listenToPointers(canvas, {
  pan: (by) => motion.jump(pan(state.view, stage.size, by)),
  zoom: (anchor, factor) => motion.jump(zoom(state.view, stage.size, anchor, factor)),
  glideZoom: (anchor, factor) => glideZoom(factor, anchor),
});
listenToKeys({
  "+": zoomIn,
  "=": zoomIn,
  "-": zoomOut,
  0: showWhole,
  Home: showWhole,
  ArrowLeft: () => glidePan(-KEY_PAN, 0),
  ArrowRight: () => glidePan(KEY_PAN, 0),
  ArrowUp: () => glidePan(0, -KEY_PAN),
  ArrowDown: () => glidePan(0, KEY_PAN),
  r: () => panel.setRandomSeed(),
});
onClick("zoom-in", zoomIn);
onClick("zoom-out", zoomOut);
onClick("whole", showWhole);
onClick("full-screen", toggleFullScreen);
onClick("toggle", toggleSettings);
onClick("copy", () => copyLink(state));
onClick("copy-iiif", copyIiif);
onClick("order", () => order.open(state, stage.size));
onClick("download", () => download.toggle(state, stage.size));
element("full-screen", HTMLElement).hidden = !document.fullscreenEnabled;
if (matchMedia(NARROW).matches) {
  toggleSettings();
  jobs.toggle(false);
}
window.addEventListener("hashchange", openLink);
new ResizeObserver(resize).observe(canvas);
start();
