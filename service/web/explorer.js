// @ts-check
/**
 * The explorer page: shows any part of an image, rendered by the service at the resolution of the screen.
 *
 * The page shows `state`, which is also its address.
 *
 * @typedef {import("./link.js").Image} Image
 * @typedef {import("./link.js").State} State
 * @typedef {import("./panels/job_card.js").Job} Job
 * @typedef {import("./history.js").How} How
 */

import { Api, Problem, sleep } from "./api/client.js";
import { Latents } from "./api/latents.js";
import { Orders } from "./api/orders.js";
import { askKey } from "./dialogs/key.js";
import { HelpDialog } from "./dialogs/help.js";
import { SaveDialog } from "./dialogs/save.js";
import { ShareDialog } from "./dialogs/share.js";
import { VideoDialog } from "./dialogs/video.js";
import { element, onClick, onToggle } from "./dom.js";
import { Player } from "./film/player.js";
import { Steps } from "./history.js";
import { readLink, writeLink } from "./link.js";
import { Notice } from "./notice.js";
import { dimensions } from "./numbers.js";
import { Compare } from "./panels/compare.js";
import { Dock } from "./panels/dock.js";
import { FilmPanel } from "./panels/film.js";
import { FilmOrder } from "./panels/film_order.js";
import { Gallery, imageName, thumbnailOf } from "./panels/gallery.js";
import { Jobs } from "./panels/jobs.js";
import { LatentsPanel } from "./panels/latents.js";
import { PicturePanel } from "./panels/picture.js";
import { listenToDrops } from "./panels/projection.js";
import { SeedSheet } from "./panels/seed_sheet.js";
import { ShapePanel } from "./panels/shape.js";
import { listenToKeys } from "./picture/gestures.js";
import { snap } from "./picture/grid.js";
import { Minimap } from "./picture/minimap.js";
import { Motion } from "./picture/motion.js";
import { Navigation } from "./picture/navigation.js";
import { liveSource, storedSource } from "./picture/sources.js";
import { describeDetail, describeMagnification, describeReply, describeView, forgetReply } from "./picture/status.js";
import { UNIT_SQUARE, clampView, fit, turnAbout } from "./picture/view.js";
import { Viewer } from "./picture/viewer.js";
import { Waiting } from "./picture/waiting.js";
import { shapeOf, turned } from "./shape.js";

const POLL_MILLISECONDS = 1000;
const PATIENCE_MILLISECONDS = 2000;
const VISIT_MILLISECONDS = 1000; // after which a picture counts as seen

/** Most pixels to request: on larger screens a canvas pixel covers several screen pixels. */
let maxPixels = 2560 * 1600;

/** Two periods of a picture that repeats, with the picture in the middle. @type {import("./picture/view.js").Region} */
const TILES = [-0.5, -0.5, 1.5, 1.5];

/** If the server allows fewer pixels than this, its error is shown. */
const MIN_PIXELS = 256 * 256;

/** @type {import("./api/client.js").Model[]} */
let models = [];
/** @type {State} */
let state = { image: { model: "", seed: 0, psi: 1, classIndex: null }, view: null, job: null, keys: [] };
/** @type {State | null} what was shown before a job was opened */
let live = null;
/** Whether models are loaded and the link is read; a link that cannot be shown is not, until the user says so. */
let opened = false;
/** Whether the view follows the size of the canvas, which is no step of the user. */
let fitting = false;
let busy = false;
let patience = 0;
let changes = 0; // of the image, by the user
let visit = 0;

const api = new Api({ askKey: askUser, tellWaiting: (message) => notice.wait(message) });
const notice = new Notice();
const viewer = new Viewer(element("viewer", HTMLElement), api, { onLoaded, onPrefetched: showMinimap, onError, onBusy });
const waiting = new Waiting(() => viewer.loader.expected(viewer.size.width * viewer.size.height));
const motion = new Motion(fit(UNIT_SQUARE, viewer.size), () => viewer.size, showView);
const navigation = new Navigation(motion, () => source().frame, turn);
const minimap = new Minimap(({ x, y }) => motion.follow(clampView({ ...motion.view, x, y }, viewer.size)));
const steps = new Steps(openLink);
const dock = new Dock();
const latents = new Latents(api);
const panel = new PicturePanel(changeImage, (text, field) => notice.offer(text, "OK", () => field.focus()));
const sheet = new SeedSheet(api, (seed) => panel.setSeed(seed));
const player = new Player(api, onError);
const latentsPanel = new LatentsPanel(api, latents, player, {
  stylesOf: (model) => models.find(({ name }) => name === model)?.styles ?? 0,
  seen: () => ({ view: motion.goal, size: viewer.size }),
  onChange: changeImage,
});
const shapePanel = new ShapePanel(showShape, () => motion.glide(fit(TILES, viewer.size)));
const film = new FilmPanel(api, latents, player, {
  seen: () => ({ ...state, size: viewer.size }),
  onChange: changeKeys,
  onOpen: ({ image, view }) => changeImage(image, "step", view),
  offerUndo: (text) => notice.offer(text, "Undo", () => steps.undo()),
});
const compare = new Compare(api, resize, onError);
const gallery = new Gallery({
  onOpen: (image) => changeImage(image),
  onCompare: (image) => latents.resolve(image).then((resolved) => compare.open(resolved), onError),
  current: () => ({ image: state.image, thumbnail: thumbnailOf(viewer.layers, source().frame) }),
});
const video = new VideoDialog(api);
const jobs = new Jobs(api, imageOf, (job) => (job ? openJob(job) : backToLive()), (job, title) => video.open(job, title));
const orders = new Orders(api);
const save = new SaveDialog(api, orders, (pixels) => viewer.loader.expected(pixels), showOrder);
new FilmOrder(orders, film, () => viewer.size, showOrder);
const share = new ShareDialog(api);
const help = new HelpDialog();

async function start() {
  try {
    [models, save.limits] = await Promise.all([api.models(), api.limits()]);
  } catch (error) {
    notice.fail(/** @type {Error} */ (error).message, "Try again", start);
    return;
  }
  if (models.length === 0) {
    notice.fail("No network is served: put a checkpoint into the folder of models.", "Try again", start);
    return;
  }
  maxPixels = Math.min(maxPixels, save.limits.max_image_pixels);
  panel.setModels(models);
  await waitForWorker();
  notice.clear();
  for (const id of ["panel-picture", "panel-latents", "panel-shape", "panel-film", "seeds"]) element(id, HTMLElement).inert = false;
  resize();
  openLink();
  jobs.refresh();
}

async function waitForWorker() {
  while (!(await api.ready())) {
    notice.wait("Waiting for a worker …");
    await sleep(POLL_MILLISECONDS);
  }
}

/** Show what the address of the page says, or tell why that cannot be. */
async function openLink() {
  if (models.length === 0) return;
  const { image, view, jobId, keys, faults } = readLink(location, models);
  const job = jobId === null ? null : await jobs.find(jobId);
  const resolved = await latents.resolve(image).catch((error) => {
    faults.push(`its latent cannot be used (${error.message})`);
    return { ...image, recipe: undefined };
  });
  if (jobId !== null && job === null) faults.push("its stored picture has been removed");
  const open = () => {
    setState({ image: job ? imageOf(job) : resolved, view: jobId !== null && !job ? null : view, job, keys });
    steps.replace(writeLink(state));
  };
  notice.clear();
  if (faults.length === 0) {
    open();
    return;
  }
  setOpened(false);
  viewer.layers.clear();
  viewer.stage.redraw();
  panel.setImage(image);
  notice.offer(`This link cannot be shown: ${faults.join("; ")}.`, `Show ${imageName(image)} instead`, open);
}

/** Show an image once the service keeps its latent; of several that follow each other, the last.
 * @param {Image} image @param {How} [how] @param {State["view"]} [view] default: as it is */
async function changeImage(image, how = "step", view = viewOfLive()) {
  const change = ++changes;
  if (!image.recipe) {
    showImage(image, how, view);
    return;
  }
  try {
    const resolved = await latents.resolve(image);
    if (change === changes) showImage(resolved, how, view);
  } catch (error) {
    if (change === changes) onError(/** @type {Error} */ (error));
  }
}

/** Show a live image. @param {Image} image @param {How} how @param {State["view"]} [view] default: as it is */
function showImage(image, how, view = viewOfLive()) {
  setState({ ...state, image, view, job: null });
  steps.take(writeLink(state), how);
}

function viewOfLive() {
  return state.job ? (live?.view ?? null) : state.view;
}

/** @param {import("./shape.js").Shape | undefined} shape of the image that is shown @param {import("./history.js").How} how */
function showShape(shape, how) {
  const { shape: before, ...image } = state.image;
  const showsCopies = motion.goal.extent > fit(UNIT_SQUARE, viewer.size).extent;
  const leaves = before?.wrap && !shape?.wrap && showsCopies; // there is nothing around the picture any more
  showImage(shape ? { ...image, shape } : image, how, leaves ? null : viewOfLive());
}

/** Turn the picture about a point of the canvas. @param {number} degrees clockwise
 * @param {import("./picture/view.js").Point} anchor */
function turn(degrees, anchor) {
  if (!opened || state.job) return;
  const { shape: _, ...image } = state.image;
  const shape = turned(state.image.shape, degrees);
  const view = turnAbout(motion.view, viewer.size, anchor, degrees);
  setState({ ...state, image: shape ? { ...image, shape } : image }, () => motion.follow(view, anchor));
  steps.settle(writeLink(state));
}

/** @param {import("./link.js").Key[]} keys of the film @param {import("./history.js").How} how */
function changeKeys(keys, how) {
  state = { ...state, keys };
  steps.take(writeLink(state), how);
}

/** @param {Job} job that was ordered just now */
function showOrder(job) {
  jobs.add(job);
  dock.open("jobs");
}

/** Show the output of a job. @param {Job} job */
function openJob(job) {
  if (state.job === null) live = state;
  setState({ ...state, image: imageOf(job), view: null, job });
  steps.add(writeLink(state));
}

/** Show what was shown before a job was opened, or its image. */
function backToLive() {
  setState(live ? { ...live, keys: state.keys } : { ...state, view: null, job: null });
  steps.add(writeLink(state));
}

/** @param {Job} job @returns {Image} */
function imageOf(job) {
  const name = models.find(({ digest }) => digest === job.model)?.name ?? job.model.slice(0, 12);
  const shape = shapeOf(job);
  const image = { model: name, seed: job.seed ?? 0, psi: job.truncation_psi ?? 1, classIndex: job.class_index ?? null };
  return shape ? { ...image, shape } : image;
}

/** Only what is shown can be saved and shared. @param {boolean} now */
function setOpened(now) {
  opened = now;
  for (const id of ["save", "share"]) element(id, HTMLButtonElement).disabled = !now;
}

function source() {
  return state.job ? storedSource(state.job) : liveSource(state.image);
}

/** Set and show a state. @param {State} next @param {() => void} [move] the view, if it is not that of the state */
function setState(next, move) {
  const isOther = !opened || source().key !== (next.job ? storedSource(next.job) : liveSource(next.image)).key;
  state = next;
  setOpened(true);
  notice.clear();
  panel.setImage(state.image);
  latentsPanel.setImage(state.image);
  shapePanel.show(state.image.shape);
  film.setKeys(state.keys);
  sheet.setImage(state.image);
  jobs.showOpen(state.job?.id ?? null);
  gallery.setImage(state.image);
  const name = imageName(state.image);
  element("heading", HTMLElement).textContent = element("compared", HTMLElement).textContent = name;
  document.title = `${name} – CREPS Explorer`;
  element("stored", HTMLElement).hidden = state.job === null;
  element("stored-text", HTMLElement).textContent = state.job ? `Viewing a stored picture, ${dimensions(state.job)}` : "";
  if (isOther) forgetReply();
  if (move) move();
  else motion.jump(snap(state.view ?? fit(source().frame, viewer.size), viewer.size));
}

/** Show a view of the state. @param {import("./picture/view.js").View} view */
function showView(view) {
  if (!opened) return;
  player.stop();
  const { goal } = motion;
  const whole = snap(fit(source().frame, viewer.size), viewer.size);
  const isWhole = whole.extent === goal.extent && whole.x === goal.x && whole.y === goal.y;
  const before = writeLink(state);
  state = { ...state, view: isWhole ? null : goal };
  if (writeLink(state) !== before) steps.settle(writeLink(state), fitting);
  viewer.show(source(), view, goal);
  compare.show(view, goal);
  describe(view);
}

/** @param {import("./picture/view.js").View} view */
function describe(view) {
  const { frame } = source();
  const model = models.find(({ name }) => name === state.image.model);
  const resolution = model ? Math.round(model.resolution * model.max_scale) : null;
  describeMagnification(view, viewer.size, frame);
  describeDetail(view, state.job ? null : resolution);
  describeView(view, viewer.size, state.job);
  showMinimap();
}

function showMinimap() {
  minimap.show(viewer.layers, source(), motion.view, viewer.size);
}

/** @param {import("./picture/loader.js").Loaded} loaded */
function onLoaded(loaded) {
  if (loaded.part.source.key !== source().key) return;
  notice.settle();
  waiting.preview = loaded.part.preview;
  if (!loaded.part.preview) describeReply(loaded);
  showMinimap();
}

/** @param {Error} error */
function onError(error) {
  if (error instanceof Problem && error.status === 413 && maxPixels > MIN_PIXELS) {
    maxPixels /= 2; // the server has a lower limit
    resize();
  } else {
    notice.fail(error.message, "Try again", () => motion.jump(motion.goal));
  }
}

/** @param {boolean} now */
function onBusy(now) {
  if (now === busy) return;
  busy = now;
  waiting.setBusy(busy);
  clearInterval(patience);
  clearTimeout(visit);
  if (busy) {
    waiting.preview = false;
    patience = setInterval(explainDelay, PATIENCE_MILLISECONDS);
  } else if (!state.job && viewer.layers.source === source().key) {
    const entry = { image: state.image, thumbnail: thumbnailOf(viewer.layers, UNIT_SQUARE) };
    visit = setTimeout(() => gallery.pictures.visit(entry), VISIT_MILLISECONDS);
  }
}

async function explainDelay() {
  const ready = await api.ready();
  if (busy && !ready) notice.wait("Waiting for a worker …");
}

/** @param {boolean} refused */
async function askUser(refused) {
  element("key-button", HTMLElement).hidden = false;
  return askKey(refused);
}

async function changeKey() {
  if (!(await api.changeKey())) return;
  if (models.length === 0) start();
  else motion.jump(motion.goal);
}

function resize() {
  element("compared", HTMLElement).hidden = compare.image === null;
  if (!viewer.resize(maxPixels)) return;
  compare.viewer.resize(maxPixels);
  if (!opened) return;
  fitting = true;
  motion.jump(snap(state.view ?? fit(source().frame, viewer.size), viewer.size));
  fitting = false;
}

const openSave = () => opened && save.open(state, viewer.size);

for (const each of [viewer, compare.viewer]) navigation.listen(each.canvas);
listenToKeys({
  ...navigation.keys,
  r: () => panel.setRandomSeed(),
  n: () => element("next", HTMLElement).click(),
  p: () => element("previous", HTMLElement).click(),
  f: () => gallery.toggleFavourite(),
  h: () => dock.toggle(),
  s: openSave,
  "?": () => help.open(),
  Escape: () => (player.playing ? player.stop() : compare.close()),
  "Control+z": () => steps.undo(),
  "Control+Z": () => steps.redo(),
  "Control+y": () => steps.redo(),
});
onClick("share", () => opened && share.open(state, viewer.size));
onClick("save", openSave);
onClick("back-to-live", backToLive);
onClick("key-button", changeKey);
onToggle("dim", (on) => document.body.classList.toggle("dim", on));
onToggle("show-numbers", (on) => (element("numbers", HTMLElement).hidden = !on));
listenToDrops((file) => {
  if (!opened) return;
  player.stop();
  dock.open("latents");
  latentsPanel.projection.open(file);
});
new ResizeObserver(resize).observe(viewer.element);
start();
