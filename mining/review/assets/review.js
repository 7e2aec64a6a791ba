// The review page: keys and buttons that judge boxes, and what the server answers.

import { chooseClass, setClasses, setUpClasses } from "./classes.js";
import { Grid } from "./grid.js";
import { ACTIONS, actionOf, keyName, setUpKeys, takesKey } from "./keys.js";
import { Overlay, iou } from "./overlay.js";
import { $, address, call, runNumber, setRun, store, stored, text, words } from "./page.js";
import { setUpReviewers } from "./reviewers.js";

const ON_BOX = new Set(["correct", "nothing", "wrong_place", "wrong_class", "too_large", "too_small", "unsure", "tighter", "wider"]);
const ON_IMAGE = new Set(["missed", "take", "complete"]);
const VIEWS = new Set(["others", "map", "compare", "offers", "grid"]);
const ON_OFFER = { correct: "Yes, it is here", nothing: "No, not here", next: "Leave it", undo: "Undo" };
const MOVED = ["correct", "wrong_class", "too_large", "too_small", "wrong_place"]; // verdicts that a corrected box goes with
const SAME_OBJECT_IOU = 0.5;
const NEEDS_PICTURE = new Set([...ON_BOX, ...ON_IMAGE]); // nothing is judged before its photo is there
const REPEATED = new Set(["tighter", "wider"]); // while a key is held down
const NO_GRID = new Set(["images", "no_box", "quarantined"]); // queues without boxes
const KEPT_HISTORY = 200; // verdicts that can be taken back after the page was loaded again
const PRECISION_EVERY = 5; // verdicts
const LARGE = 1280;

const state = {
  reviewer: "", queue: "", run: null, item: null, focus: null, box: null, step: 0, missed: [], offer: null,
  history: [], back: 0, allPhotos: false, busy: false, loading: false, since: 0, grid: null, estimating: false, estimateAfter: 0, estimateLater: 0,
  views: { others: false, map: false, compare: true, offers: true, ...stored("views", {}) },
};
const overlay = new Overlay($("overlay"), (box) => { state.box = box; }, (box) => nameMissed(box));
const otherOverlay = new Overlay($("other-overlay"), () => {}, () => {});

// --- talking to the application ----------------------------------------------------------------------------------------

// A key that is pressed while the server still answers does nothing: it would judge a box that nobody has seen yet.
async function guarded(work, { waits = false } = {}) {
  while (waits && state.busy) await new Promise((resolve) => { setTimeout(resolve, 20); });
  if (state.busy) return;
  setBusy(true);
  say("");
  try {
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    setBusy(false);
    paint();
  }
}

function setBusy(busy) {
  state.busy = busy;
  showBusy();
}

// The last photo is not left in place under the boxes of the next one.
function load(source) {
  if ($("photo").getAttribute("src") === source) return;
  state.loading = true;
  $("photo-frame").classList.add("loading");
  $("photo").src = source;
  showBusy();
}

function loaded() {
  state.loading = false;
  $("photo-frame").classList.remove("loading");
  showBusy();
}

function showBusy() { document.querySelector("main").setAttribute("aria-busy", String(state.busy || state.loading)); }

// --- what is shown -----------------------------------------------------------------------------------------------------

async function fetchNext(after) {
  if (state.grid) { await fetchPage(); return; }
  state.offer = null;
  if (state.queue === "quarantined") { await showQuarantined(); return; }
  const values = { ...ofQueue(), reviewer: state.reviewer };
  if (after) Object.assign(values, { kind: after.kind, number: after.number });
  const answer = await call(address("/api/next", values));
  progress(answer);
  state.back = 0;
  show(answer.item);
}

async function fetchPage(after) {
  const values = { ...ofQueue(), reviewer: state.reviewer };
  if (after) Object.assign(values, { kind: after.kind, number: after.number });
  const answer = await call(address("/api/page", values));
  progress(answer);
  state.item = state.offer = null;
  state.grid = new Grid(answer.items, paint);
}

async function showQuarantined() {
  const { all, images } = await call(address("/api/quarantined"));
  show(null);
  progress({ done: 0, all: 0 });
  $("quarantined-title").textContent = all > images.length ? `The first ${images.length} of ${all} images that could not be used` : `${all} images that could not be used`;
  $("quarantined-rows").replaceChildren(...images.map(({ file, reason }) => {
    const line = document.createElement("tr");
    const head = text("th", file);
    head.scope = "row";
    line.append(head, text("td", reason));
    return line;
  }));
}

function show(item) {
  state.grid = state.offer = null;
  state.item = item;
  state.missed = item ? item.missed.map((one) => ({ ...one })) : [];
  overlay.setDrawing(false);
  const open = item && item.boxes.find((one) => (item.kind === "image" ? !one.said : one.id === item.number));
  focus(open ? open.id : null);
}

function focus(id) {
  const item = state.item;
  state.focus = id;
  const box = item && item.boxes.find((one) => one.id === id);
  state.box = box ? [...(box.said?.box ?? box.box)] : null;
  state.step = item && item.walk.length ? nearest(item.walk, state.box) : 0;
  paint();
}

function nearest(walk, box) {
  if (!box) return 0;
  const distance = (one) => one.reduce((sum, side, place) => sum + Math.abs(side - box[place]), 0);
  return walk.reduce((best, one, place) => (distance(one) < distance(walk[best]) ? place : best), 0);
}

async function judgeMany(numbers, verdict, category = null) {
  const batch = Date.now();
  for (const { kind, number, plan, why } of state.grid.items.filter((one) => numbers.has(one.number))) {
    const shown = { kind, number, plan, why };
    await call(address("/api/verdicts"), { shown, reviewer: state.reviewer, verdict, category });
    remember({ shown, item: shown, batch });
  }
  state.grid.remove(numbers);
  if (!state.grid.items.length) await fetchPage();
  else await recount();
  refresh();
}

function actOnGrid(name) {
  if (name === "grid") { state.grid = null; guarded(() => fetchNext()); return; }
  if (name === "next") { guarded(() => fetchPage(state.grid.items.at(-1))); return; }
  if (name === "undo") { guarded(undo); return; }
  const numbers = state.grid.numbersFor(name);
  if (!numbers?.size) return;
  if (name === "wrong_class") { chooseClass("Which class are they?", (category) => guarded(() => judgeMany(numbers, name, category))); return; }
  guarded(() => judgeMany(numbers, name === "complete" ? "correct" : name));
}

function paint() {
  const { item } = state;
  const isGrid = Boolean(state.grid?.items.length);
  const isList = !item && !isGrid && state.queue === "quarantined" && state.run !== null;
  $("photo-frame").hidden = !item;
  $("grid").hidden = !isGrid;
  $("quarantined").hidden = !isList;
  $("empty").hidden = Boolean(item) || isGrid || isList;
  for (const id of ["question", "category", "file"]) $(id).textContent = "";
  for (const id of ["missed", "boxes", "buttons", "views"]) $(id).replaceChildren();
  $("missed-title").hidden = $("boxes-title").hidden = true;
  $("other-frame").hidden = true;
  if (isGrid) { state.grid.paint(act); return; }
  if (isList) return;
  if (!item) { paintEmpty(); return; }
  const box = item.boxes.find((one) => one.id === state.focus);
  const source = address(`/api/images/${item.image.id}/${LARGE}.jpg`);
  load(source);
  paintOther(source, box);
  fit(item.image);
  paintMap(box);
  $("photo").alt = box ? `Photo with a box of ${box.category}` : "Photo";
  const like = item.near_duplicates;
  $("file").textContent = like ? `${item.image.name} (+${like} near-duplicate${like > 1 ? "s" : ""})` : item.image.name;
  $("category").textContent = box ? box.category : "The whole image";
  $("question").textContent = question(box);
  const others = item.boxes.filter((one) => one.id !== state.focus).map((one) => ({ box: one.said?.box ?? one.box, kind: "other" }));
  if (item.kind === "box" && !state.views.others) others.length = 0;
  for (const one of state.missed) if (one.box) others.push({ box: one.box, kind: "missed" });
  overlay.show(item.image, overlay.drawing ? null : state.box, others);
  for (const action of ACTIONS) $(VIEWS.has(action[0]) ? "views" : "buttons").append(...button(action, box));
  if (item.kind === "image") paintLists();
}

function question(box) {
  if (state.offer) return "The verdict is recorded. Is the object here instead?";
  return box ? "Is this box on an object of the class? They overlap enough if half of their joint area is shared (IoU 0.5)." : "Which objects have no correct box?";
}

// The other run's boxes on the same photo, beside it.
function paintOther(source, box) {
  const { other } = state.run;
  if (!other || !state.views.compare) return;
  const boxes = state.item.other;
  $("other-frame").hidden = false;
  if ($("other-photo").getAttribute("src") !== source) $("other-photo").src = source;
  $("other-photo").alt = boxes ? `The same photo with ${boxes.length} boxes of ${other}: ${boxes.map((one) => one.category).join(", ")}` : "The same photo";
  $("other-name").textContent = boxes ? `${other}: ${boxes.map((one) => one.category).join(", ") || "no box"}` : `${other} did not mine this image`;
  otherOverlay.show(state.item.image, null, (boxes ?? []).map((one) => ({ box: one.box, kind: one.category === box?.category ? "other strong" : "other" })));
}

function paintMap(box) {
  const map = $("map");
  map.hidden = !state.views.map || !box;
  const source = box ? address(`/api/boxes/${box.id}/map.png`) : "";
  if (!map.hidden && map.getAttribute("src") !== source) map.src = source;
}

function fit(image) {
  const stage = $("stage").getBoundingClientRect();
  const padding = 26;
  const frames = $("other-frame").hidden ? 1 : 2;
  const isNarrow = stage.width < 700; // the frames are below one another
  const width = (stage.width - padding) / (isNarrow ? 1 : frames) - (frames - 1) * 8;
  const height = Math.max(stage.height, 320) - padding - (frames - 1) * 30;
  const scale = Math.min(width / image.width, height / image.height, 4);
  for (const id of ["photo-frame", "other-photo-frame"]) {
    $(id).style.setProperty("width", `${Math.max(1, Math.round(image.width * scale))}px`);
    $(id).style.setProperty("height", `${Math.max(1, Math.round(image.height * scale))}px`);
  }
}

function button([name, title], box) {
  if (!isOffered(name, box)) return [];
  const one = document.createElement("button");
  one.type = "button";
  one.dataset.action = name;
  one.append(text("span", (state.offer && ON_OFFER[name]) || title.replace(" on/off", "")), text("kbd", keyName(name)));
  one.classList.toggle("said", !state.offer && (box?.said?.verdict === name || (name === "missed" && overlay.drawing)));
  if (name in state.views) one.setAttribute("aria-pressed", String(state.views[name]));
  one.addEventListener("click", () => act(name));
  return [one];
}

function isOffered(name, box) {
  const { item, run } = state;
  const isImage = item.kind === "image";
  if (state.offer) return name in ON_OFFER || name === "map" || name === "offers";
  if (ON_BOX.has(name) && !box) return false;
  if (ON_IMAGE.has(name) && !isImage) return false;
  if (name === "take") return further().length > 0;
  if (name === "map") return Boolean(box);
  if (name === "compare") return Boolean(run.other);
  if (name === "offers") return !isImage;
  if (name === "grid") return !isImage && state.queue !== "images" && state.queue !== "no_box";
  if (name === "others") return !isImage && item.boxes.length > 1;
  if (name === "tighter" || name === "wider") return item.walk.length > 1;
  return true;
}

function paintLists() {
  $("boxes-title").hidden = !state.item.boxes.length;
  for (const one of state.item.boxes) {
    const line = document.createElement("li");
    const pick = text("button", `${one.category}: ${one.said ? words(one.said.verdict) : "?"}`);
    pick.setAttribute("aria-pressed", String(one.id === state.focus));
    pick.addEventListener("click", () => focus(one.id));
    line.append(pick);
    $("boxes").append(line);
  }
  $("missed-title").hidden = !state.missed.length;
  state.missed.forEach((one, place) => {
    const line = document.createElement("li");
    const remove = text("button", "Remove");
    remove.setAttribute("aria-label", `Remove the missed ${one.category}`);
    remove.addEventListener("click", () => { state.missed.splice(place, 1); paint(); });
    line.append(text("span", one.category), remove);
    $("missed").append(line);
  });
}

function paintEmpty() {
  const empty = $("empty");
  empty.replaceChildren();
  const size = state.run?.queues.find((one) => one.name === state.queue)?.size ?? 0;
  const offers = { plan: ["boxes", 200, "Draw 200 boxes at random"], images: ["images", 50, "Draw 50 images at random"] }[state.queue];
  empty.append(text("span", size ? "Nothing is left to look at in this queue. " : "Nothing is in this queue. "));
  if (!offers) return;
  const draw = text("button", size ? offers[2].replace("Draw", "Draw further") : offers[2]);
  draw.addEventListener("click", () => guarded(async () => {
    const drawn = await call(address("/api/draw"), { [offers[0]]: offers[1] });
    await readRun();
    await fetchNext();
    if (drawn[offers[0]] < offers[1]) say(`All ${drawn[offers[0]]} ${offers[0]} that were left are drawn.`);
  }, { waits: true }));
  empty.append(draw);
}

function say(message) { $("message").textContent = message; }

async function recount() { progress(await call(address("/api/progress", ofQueue()))); }

function ofQueue() { return { queue: state.queue, ...(state.allPhotos && { all_photos: true }) }; }

function progress({ done, all, hidden = 0 }) {
  $("progress").textContent = all ? `${done} of ${all}` : "";
  $("near-duplicates").hidden = !hidden;
  $("near-duplicates").setAttribute("aria-pressed", String(state.allPhotos));
  $("near-duplicates").textContent = `+${hidden} on near-duplicates`;
}

// Of a million boxes the estimate takes seconds: it is never asked for twice at once, nor a tenth of the time or more.
function refresh() {
  if (state.estimating || Date.now() < state.estimateAfter) {
    clearTimeout(state.estimateLater);
    state.estimateLater = setTimeout(refresh, Math.max(200, state.estimateAfter - Date.now()));
    return;
  }
  state.estimating = true;
  const began = Date.now();
  precision().catch(() => {}).finally(() => {
    state.estimating = false;
    state.estimateAfter = Date.now() + 10 * (Date.now() - began);
  });
}

async function precision() {
  const run = runNumber();
  const { precision: found, recall, enough } = await call(address("/api/estimate"));
  if (run !== runNumber()) return;
  const percent = (share) => (100 * share).toFixed(1);
  const sentences = [["Precision", found], ["Recall", recall]]
    .filter(([, one]) => one)
    .map(([name, one]) => `${name} ${percent(one.value)} % (${percent(one.ci95[0])} to ${percent(one.ci95[1])} %)`);
  if (enough) sentences.push("enough: you may stop");
  $("precision").textContent = sentences.join(", ");
}

// --- what the reviewer does --------------------------------------------------------------------------------------------

function act(name) {
  if (!state.grid && NEEDS_PICTURE.has(name) && (state.busy || state.loading)) return;
  if (state.grid) { actOnGrid(name); return; }
  if (name in state.views) { toggle(name); return; }
  if (state.offer && name !== "undo") { answerOffer(name); return; }
  if (name === "grid") { if (state.item?.kind === "box") guarded(() => fetchPage()); return; }
  if (name === "tighter" || name === "wider") { walk(name === "tighter" ? 1 : -1); return; }
  if (name === "missed") { startDrawing(); return; }
  if (name === "take") { takeFurther(); return; }
  if (!state.item && name !== "undo" && name !== "previous") return;
  if (name === "wrong_class") { chooseClass("Which class is it?", (category) => judge("wrong_class", category)); return; }
  if (name === "complete") guarded(complete);
  else if (name === "next") guarded(() => fetchNext({ kind: state.item.kind, number: state.item.number }));
  else if (name === "previous") guarded(previous);
  else if (name === "undo") guarded(undo);
  else judge(name);
}

function toggle(name) {
  state.views[name] = !state.views[name];
  store("views", state.views);
  if (name === "offers" && state.offer) guarded(() => fetchNext());
  else paint();
}

function walk(step) {
  const steps = state.item?.walk ?? [];
  const place = state.step + step;
  if (!state.focus || place < 0 || place >= steps.length) return;
  state.step = place;
  state.box = [...steps[place]];
  paint();
}

function judge(verdict, category = null) {
  const { item, focus: id } = state;
  if (!item || id === null) return;
  guarded(async () => {
    const shown = item.kind === "box" ? shownOf(item) : { kind: "box", number: id, plan: item.plan, why: item.plan ? "image" : "review" };
    const moved = MOVED.includes(verdict);
    await call(address("/api/verdicts"), { shown, reviewer: state.reviewer, verdict, box: moved ? state.box : null, category });
    remember({ shown, item: shownOf(item), before: item.boxes.find((one) => one.id === id)?.said ?? null });
    if (++state.since % PRECISION_EVERY === 0) refresh();
    if (item.kind === "box" && isOffer(item, verdict)) { await offer(item, verdict); return; }
    if (item.kind === "box") { await fetchNext(); return; }
    const box = item.boxes.find((one) => one.id === id);
    box.said = { verdict, box: moved ? state.box : null, category };
    focus(item.boxes.find((one) => !one.said)?.id ?? null);
  });
}

// --- other places for a box with nothing there: the verdict is on disk before they are offered ---

function isOffer(item, verdict) {
  return state.views.offers && item.candidates.length > 0 && (verdict === "nothing" || (verdict === "wrong_place" && isUnmoved(item)));
}

function isUnmoved(item) {
  const own = item.boxes.find((one) => one.id === item.number);
  return own.box.every((side, place) => Math.abs(side - state.box[place]) < 0.05);
}

async function offer(item, verdict) {
  state.offer = { shown: shownOf(item), verdict, left: [...item.candidates] };
  state.box = [...state.offer.left[0]];
  await recount();
}

function answerOffer(name) {
  if (name === "correct") {
    guarded(async () => {
      await call(address("/api/verdicts"), { shown: state.offer.shown, reviewer: state.reviewer, verdict: "wrong_place", box: state.box });
      await fetchNext();
    });
  } else if (name === "nothing" || name === "wrong_place") {
    state.offer.left.shift();
    if (state.offer.left.length) { state.box = [...state.offer.left[0]]; paint(); } else guarded(() => fetchNext());
  } else if (name === "next") guarded(() => fetchNext());
}

function shownOf(item) {
  return { kind: item.kind, number: item.number, plan: item.plan, why: item.why };
}

async function complete() {
  const { item } = state;
  if (item.kind !== "image") return;
  const shown = shownOf(item);
  await call(address("/api/images"), { shown, reviewer: state.reviewer, missed: state.missed });
  remember({ shown, item: shown });
  await fetchNext();
}

async function previous() {
  const place = state.history.length - 1 - state.back;
  if (place < 0) { say("There is nothing before this."); return; }
  state.back += 1;
  show(await call(address("/api/show"), { shown: state.history[place].item, reviewer: state.reviewer }));
}

// Takes the last verdict back, or those that were given together; a verdict that it replaced is valid again.
async function undo() {
  const last = state.history.at(-1);
  if (!last) { say("There is nothing to undo."); return; }
  do {
    const { shown, before } = state.history.at(-1);
    if (before) await call(address("/api/verdicts"), { shown, reviewer: state.reviewer, ...before });
    else await call(address("/api/take-back"), { shown, reviewer: state.reviewer });
    state.history.pop();
    keepHistory();
  } while (last.batch && state.history.at(-1)?.batch === last.batch);
  state.back = 0;
  if (state.grid) await fetchPage();
  else show(await call(address("/api/show"), { shown: last.item, reviewer: state.reviewer }));
  await recount();
  refresh();
}

function remember(entry) {
  state.history.push(entry);
  keepHistory();
}

// For the next time that this tab loads the page.
function keepHistory() {
  const entries = state.history.slice(-KEPT_HISTORY);
  try {
    sessionStorage.setItem("boxmine-history", JSON.stringify({ run: state.run.name, reviewer: state.reviewer, entries }));
  } catch { /* private windows keep nothing */ }
}

function keptHistory() {
  try {
    const kept = JSON.parse(sessionStorage.getItem("boxmine-history"));
    return kept?.run === state.run.name && kept.reviewer === state.reviewer ? kept.entries : [];
  } catch {
    return [];
  }
}

function startDrawing() {
  if (state.item?.kind !== "image") return;
  overlay.setDrawing(!overlay.drawing);
  paint();
}

// The boxes of the other run that are on no box of this image, nor on a missed object, of their class.
function further() {
  const known = [...state.item.boxes, ...state.missed];
  return (state.item.other ?? []).filter((one) => state.run.classes.includes(one.category)
    && !known.some((own) => own.category === one.category && own.box && iou(own.box, one.box) >= SAME_OBJECT_IOU));
}

function takeFurther() {
  const [first] = state.item?.kind === "image" ? further() : [];
  if (!first) return;
  state.missed.push({ category: first.category, box: first.box });
  paint();
}

function nameMissed(box) {
  overlay.setDrawing(false);
  chooseClass("Which class is the missed object?", (category) => { state.missed.push({ category, box }); paint(); });
}

// --- keys --------------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (takesKey(event)) { event.preventDefault(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return;
  if (event.key === "?") { $("show-keys").click(); event.preventDefault(); return; }
  const name = actionOf(event.key);
  if (!name) return;
  if (event.repeat && !REPEATED.has(name)) { event.preventDefault(); return; }
  event.preventDefault();
  act(name);
});

window.addEventListener("resize", () => paint());
$("map").addEventListener("error", () => {
  $("map").hidden = true;
  say("There is no map of this box: the run has no model for it, or the image is gone.");
});
$("photo").addEventListener("load", loaded);
$("photo").addEventListener("error", loaded);
$("photo").addEventListener("error", () => say("The picture cannot be shown: its file is gone, or is another one than was mined."));

// --- start -------------------------------------------------------------------------------------------------------------

async function askName() {
  $("name").value = state.reviewer;
  $("name-dialog").showModal();
}

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (!name) return;
  $("name-dialog").close();
  guarded(async () => { // not while a verdict of another name is being recorded
    state.reviewer = name;
    store("reviewer", name);
    await begin();
  }, { waits: true });
});

async function readRun() {
  state.run = await call(address("/api/run")).catch((error) => {
    if (!runNumber()) throw error;
    setRun(0); // the page was opened for another store
    return call(address("/api/run"));
  });
  $("run").textContent = state.run.name;
  document.title = `${state.run.name}, review`;
  setClasses(state.run.classes);
  chooseRuns();
  const names = state.run.queues.map((one) => one.name);
  if (!names.includes(state.queue)) state.queue = names[0];
  $("queue").replaceChildren(...state.run.queues.map((one) => {
    const line = text("option", one.size === null ? one.title : `${one.title} (${one.size})`);
    line.value = one.name;
    line.selected = one.name === state.queue;
    return line;
  }));
}

function chooseRuns() {
  const { runs } = state.run;
  $("run-choice").hidden = runs.length < 2;
  if ($("run-select").childElementCount === runs.length) return;
  $("run-select").replaceChildren(...runs.map((title, number) => {
    const line = text("option", title);
    line.value = number;
    line.selected = number === runNumber();
    return line;
  }));
}

$("run-select").addEventListener("change", () => {
  const wanted = Number($("run-select").value);
  $("run-select").blur();
  guarded(async () => { // not while a verdict on another run is being recorded
    setRun(wanted);
    history.replaceState(null, "", `#run=${wanted}`); // kept when the page is loaded again
    $("precision").textContent = "";
    state.grid = null;
    await begin();
  }, { waits: true });
});

$("near-duplicates").addEventListener("click", () => {
  state.allPhotos = !state.allPhotos;
  $("near-duplicates").blur();
  guarded(() => fetchNext(), { waits: true });
});

$("queue").addEventListener("change", () => {
  state.queue = $("queue").value;
  if (NO_GRID.has(state.queue)) state.grid = null;
  store("queue", state.queue);
  $("queue").blur();
  guarded(() => fetchNext(), { waits: true });
});

async function begin() {
  $("who").textContent = state.reviewer;
  state.queue = stored("queue", "plan");
  await readRun();
  state.history = keptHistory();
  await fetchNext();
  refresh();
}

async function start() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const token = wanted.get("token");
  setRun(Number(wanted.get("run")) || 0);
  if (token) {
    history.replaceState(null, "", location.pathname);
    await call("/api/login", { token });
  }
  state.reviewer = stored("reviewer", "");
  if (state.reviewer) guarded(begin);
  else await askName();
}

setUpClasses();
setUpKeys(paint);
setUpReviewers(
  (number) => guarded(async () => show(await call(address("/api/show"), { shown: { kind: "box", number, plan: "", why: "review" }, reviewer: state.reviewer })), { waits: true }),
  say,
);
$("who").addEventListener("click", askName);
start().catch((error) => say(error.message));
