// The review page: keys and buttons that judge boxes, and what the server answers.

import { Overlay } from "./overlay.js";

const ACTIONS = [
  ["correct", "Correct", "a"],
  ["nothing", "Nothing there", "x"],
  ["wrong_place", "Wrong place", "w"],
  ["wrong_class", "Wrong class ...", "c"],
  ["too_large", "Too large", "l"],
  ["too_small", "Too small", "s"],
  ["unsure", "Unsure", "u"],
  ["tighter", "Tighter", "ArrowDown"],
  ["wider", "Wider", "ArrowUp"],
  ["missed", "Draw a missed object", "m"],
  ["complete", "All objects are boxed", "o"],
  ["others", "Other boxes on/off", "b"],
  ["map", "Map on/off", "h"],
  ["grid", "Many at once", "g"],
  ["next", "Next, leave this", "n"],
  ["previous", "Previous", "p"],
  ["undo", "Undo", "z"],
];
const ON_BOX = new Set(["correct", "nothing", "wrong_place", "wrong_class", "too_large", "too_small", "unsure", "tighter", "wider"]);
const ON_GRID = new Set(["correct", "nothing", "wrong_place", "wrong_class", "too_large", "too_small", "unsure", "complete", "grid", "next"]);
const ON_IMAGE = new Set(["missed", "complete"]);
const STANDARD_KEYS = Object.fromEntries(ACTIONS.map(([name, , key]) => [name, key]));
const PRECISION_EVERY = 5; // verdicts
const LARGE = 1280;

const $ = (id) => document.getElementById(id);
const state = {
  reviewer: "", queue: "", run: null, item: null, focus: null, box: null, step: 0, drawn: null, missed: [],
  history: [], back: 0, busy: false, since: 0, showOthers: false, showMap: false, grid: null, estimating: false, estimateAfter: 0, estimateLater: 0, keys: { ...STANDARD_KEYS, ...stored("keys", {}) },
};
const overlay = new Overlay($("overlay"), (box) => { state.box = box; }, (box) => nameMissed(box));

// --- talking to the server ---------------------------------------------------------------------------------------------

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The application does not answer. Nothing was recorded; start it again and repeat.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof content.detail === "string" ? content.detail : `The request was refused (${answer.status}).`);
  return content;
}

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
  document.querySelector("main").setAttribute("aria-busy", String(busy));
}

function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`boxmine-${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(`boxmine-${name}`, JSON.stringify(value));
  } catch { /* private windows keep nothing */ }
}

// --- what is shown -----------------------------------------------------------------------------------------------------

async function fetchNext(after) {
  if (state.grid) { await fetchPage(); return; }
  const query = new URLSearchParams({ queue: state.queue, reviewer: state.reviewer });
  if (after) { query.set("kind", after.kind); query.set("number", after.number); }
  const answer = await call(`/api/next?${query}`);
  progress(answer);
  state.back = 0;
  show(answer.item);
}

async function fetchPage() {
  const answer = await call(`/api/page?${new URLSearchParams({ queue: state.queue, reviewer: state.reviewer })}`);
  progress(answer);
  state.item = null;
  state.grid = { items: answer.items, selected: new Set() };
}

function show(item) {
  state.grid = null;
  state.item = item;
  state.drawn = null;
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

function paintGrid() {
  const { items, selected } = state.grid;
  const fresh = items.map((one) => one.number).join();
  if ($("grid").dataset.shown !== fresh) {
    $("grid").dataset.shown = fresh;
    $("grid").replaceChildren(...items.map((one) => {
      const cell = document.createElement("button");
      cell.type = "button";
      const picture = document.createElement("img");
      picture.src = `/api/boxes/${one.number}/240.jpg`;
      picture.alt = `Box of ${one.category}`;
      cell.append(picture, text("span", one.category));
      cell.addEventListener("click", () => {
        if (!state.grid.selected.delete(one.number)) state.grid.selected.add(one.number);
        paint();
      });
      return cell;
    }));
  }
  [...$("grid").children].forEach((cell, place) => cell.setAttribute("aria-pressed", String(selected.has(items[place].number))));
  $("category").textContent = selected.size ? `${selected.size} selected` : "Which are the odd ones?";
  $("question").textContent = "Select boxes, then give them a verdict; those that are left can be accepted together.";
  for (const action of ACTIONS) $("buttons").append(...gridButton(action));
}

function gridButton([name, title]) {
  if (!ON_GRID.has(name)) return [];
  const titles = { complete: "The others are correct", grid: "One at a time", next: "New page" };
  const one = document.createElement("button");
  one.type = "button";
  one.dataset.action = name;
  one.disabled = !state.grid.selected.size && !(name in titles);
  one.append(text("span", titles[name] ?? title), text("kbd", keyName(state.keys[name])));
  one.addEventListener("click", () => act(name));
  return [one];
}

async function judgeMany(numbers, verdict, category = null) {
  for (const { kind, number, plan, why } of state.grid.items.filter((one) => numbers.has(one.number))) {
    const shown = { kind, number, plan, why };
    await call("/api/verdicts", { shown, reviewer: state.reviewer, verdict, category });
    state.history.push({ shown, item: shown });
  }
  state.grid.items = state.grid.items.filter((one) => !numbers.has(one.number));
  state.grid.selected = new Set();
  if (!state.grid.items.length) await fetchPage();
  else await recount();
  refresh();
}

function actOnGrid(name) {
  const { items, selected } = state.grid;
  if (name === "grid") { state.grid = null; guarded(() => fetchNext()); return; }
  if (name === "next") { guarded(fetchPage); return; }
  if (name === "complete") {
    const others = new Set(items.map((one) => one.number).filter((one) => !selected.has(one)));
    guarded(() => judgeMany(others, "correct"));
    return;
  }
  if (!selected.size) return;
  if (name === "wrong_class") { chooseClass("Which class are they?", (category) => guarded(() => judgeMany(selected, name, category))); return; }
  guarded(() => judgeMany(selected, name));
}

function paint() {
  const { item } = state;
  const isGrid = Boolean(state.grid?.items.length);
  $("photo-frame").hidden = !item;
  $("grid").hidden = !isGrid;
  $("empty").hidden = Boolean(item) || isGrid;
  for (const id of ["question", "category", "file"]) $(id).textContent = "";
  for (const id of ["missed", "boxes"]) $(id).replaceChildren();
  $("missed-title").hidden = $("boxes-title").hidden = true;
  $("buttons").replaceChildren();
  if (isGrid) { paintGrid(); return; }
  if (!item) { paintEmpty(); return; }
  const box = item.boxes.find((one) => one.id === state.focus);
  const source = `/api/images/${item.image.id}/${LARGE}.jpg`;
  if ($("photo").getAttribute("src") !== source) $("photo").src = source;
  fit(item.image);
  paintMap(box);
  $("photo").alt = box ? `Photo with a box of ${box.category}` : "Photo";
  $("file").textContent = item.image.name;
  $("category").textContent = box ? box.category : "The whole image";
  $("question").textContent = box ? "Is this box on an object of the class, with an IoU of at least 0.5?" : "Which objects have no correct box?";
  const others = item.boxes.filter((one) => one.id !== state.focus).map((one) => ({ box: one.said?.box ?? one.box, kind: "other" }));
  if (item.kind === "box" && !state.showOthers) others.length = 0;
  for (const one of state.missed) if (one.box) others.push({ box: one.box, kind: "missed" });
  overlay.show(item.image, overlay.drawing ? null : state.box, others);
  for (const action of ACTIONS) $("buttons").append(...button(action, box));
  if (item.kind === "image") paintLists();
}

function paintMap(box) {
  const map = $("map");
  map.hidden = !state.showMap || !box;
  const source = box ? `/api/boxes/${box.id}/map.png` : "";
  if (!map.hidden && map.getAttribute("src") !== source) map.src = source;
}

function fit(image) {
  const stage = $("stage").getBoundingClientRect();
  const padding = 26;
  const scale = Math.min((stage.width - padding) / image.width, (Math.max(stage.height, 320) - padding) / image.height, 4);
  $("photo-frame").style.setProperty("width", `${Math.max(1, Math.round(image.width * scale))}px`);
  $("photo-frame").style.setProperty("height", `${Math.max(1, Math.round(image.height * scale))}px`);
}

function button([name, title], box) {
  if (ON_BOX.has(name) && !box) return [];
  if (ON_IMAGE.has(name) && state.item.kind !== "image") return [];
  if (name === "map" && !box) return [];
  if (name === "grid" && (state.item.kind === "image" || state.queue === "images" || state.queue === "no_box")) return [];
  if (name === "others" && (state.item.kind === "image" || state.item.boxes.length < 2)) return [];
  if ((name === "tighter" || name === "wider") && state.item.walk.length < 2) return [];
  const one = document.createElement("button");
  one.type = "button";
  one.dataset.action = name;
  one.append(text("span", title), text("kbd", keyName(state.keys[name])));
  one.classList.toggle("said", box?.said?.verdict === name || (name === "missed" && overlay.drawing));
  one.addEventListener("click", () => act(name));
  return [one];
}

function paintLists() {
  $("boxes-title").hidden = !state.item.boxes.length;
  for (const one of state.item.boxes) {
    const line = document.createElement("li");
    line.className = one.id === state.focus ? "current" : "";
    line.append(text("span", one.category), text("span", one.said ? one.said.verdict.replace("_", " ") : "?"));
    line.addEventListener("click", () => focus(one.id));
    $("boxes").append(line);
  }
  $("missed-title").hidden = !state.missed.length;
  state.missed.forEach((one, place) => {
    const line = document.createElement("li");
    const remove = text("button", "Remove");
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
    await call("/api/draw", { [offers[0]]: offers[1] });
    await readRun();
    await fetchNext();
  }, { waits: true }));
  empty.append(draw);
}

function text(kind, content) {
  const one = document.createElement(kind);
  one.textContent = content;
  if (kind === "button") one.type = "button";
  return one;
}

function say(message) { $("message").textContent = message; }

async function recount() { progress(await call(`/api/progress?${new URLSearchParams({ queue: state.queue })}`)); }

function progress({ done, all }) { $("progress").textContent = all ? `${done} of ${all}` : ""; }

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
  const { precision: found, recall, enough } = await call("/api/estimate");
  const percent = (share) => (100 * share).toFixed(1);
  const sentences = [["Precision", found], ["Recall", recall]]
    .filter(([, one]) => one)
    .map(([name, one]) => `${name} ${percent(one.value)} % (${percent(one.ci95[0])} to ${percent(one.ci95[1])} %)`);
  if (enough) sentences.push("enough: you may stop");
  $("precision").textContent = sentences.join(", ");
}

// --- what the reviewer does --------------------------------------------------------------------------------------------

function act(name) {
  if (state.grid && ON_GRID.has(name)) { actOnGrid(name); return; }
  if (name === "grid") { if (state.item?.kind === "box") { state.grid = { items: [], selected: new Set() }; guarded(fetchPage); } return; }
  if (name === "tighter" || name === "wider") { walk(name === "tighter" ? 1 : -1); return; }
  if (name === "missed") { startDrawing(); return; }
  if (name === "map") { state.showMap = !state.showMap; paint(); return; }
  if (name === "others") { state.showOthers = !state.showOthers; paint(); return; }
  if (!state.item && name !== "undo" && name !== "previous") return;
  if (name === "wrong_class") { chooseClass("Which class is it?", (category) => judge("wrong_class", category)); return; }
  if (name === "complete") guarded(complete);
  else if (name === "next") guarded(() => fetchNext({ kind: state.item.kind, number: state.item.number }));
  else if (name === "previous") guarded(previous);
  else if (name === "undo") guarded(undo);
  else judge(name);
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
    const moved = ["correct", "wrong_class", "too_large", "too_small", "wrong_place"].includes(verdict);
    await call("/api/verdicts", { shown, reviewer: state.reviewer, verdict, box: moved ? state.box : null, category });
    state.history.push({ shown, item: shownOf(item) });
    if (++state.since % PRECISION_EVERY === 0) refresh();
    if (item.kind === "box") { await fetchNext(); return; }
    const box = item.boxes.find((one) => one.id === id);
    box.said = { verdict, box: moved ? state.box : null, category };
    focus(item.boxes.find((one) => !one.said)?.id ?? null);
  });
}

function shownOf(item) {
  return { kind: item.kind, number: item.number, plan: item.plan, why: item.why };
}

async function complete() {
  const { item } = state;
  if (item.kind !== "image") return;
  const shown = shownOf(item);
  await call("/api/images", { shown, reviewer: state.reviewer, missed: state.missed });
  state.history.push({ shown, item: shown });
  await fetchNext();
}

async function previous() {
  const place = state.history.length - 1 - state.back;
  if (place < 0) { say("There is nothing before this."); return; }
  state.back += 1;
  show(await call("/api/show", { shown: state.history[place].item, reviewer: state.reviewer }));
}

async function undo() {
  const last = state.history.at(-1);
  if (!last) { say("There is nothing to undo."); return; }
  await call("/api/take-back", { shown: last.shown, reviewer: state.reviewer });
  state.history.pop();
  show(await call("/api/show", { shown: last.item, reviewer: state.reviewer }));
  await recount();
  refresh();
}

function startDrawing() {
  if (state.item?.kind !== "image") return;
  overlay.setDrawing(!overlay.drawing);
  paint();
}

function nameMissed(box) {
  overlay.setDrawing(false);
  chooseClass("Which class is the missed object?", (category) => { state.missed.push({ category, box }); paint(); });
}

// --- dialogs -----------------------------------------------------------------------------------------------------------

let classChosen = null;

function chooseClass(title, then) {
  classChosen = then;
  $("class-title").textContent = title;
  $("class-name").value = "";
  listClasses();
  $("class-dialog").showModal();
  $("class-name").focus();
}

function listClasses() {
  const wanted = $("class-name").value.trim().toLowerCase();
  const fits = state.run.classes.filter((one) => one.toLowerCase().includes(wanted));
  fits.sort((first, second) => Number(second.toLowerCase().startsWith(wanted)) - Number(first.toLowerCase().startsWith(wanted)));
  $("class-list").replaceChildren(...fits.slice(0, 9).map((name, place) => {
    const line = text("li", name);
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", String(place === 0));
    line.addEventListener("click", () => pickClass(name));
    return line;
  }));
}

function pickClass(name) {
  $("class-dialog").close();
  classChosen?.(name);
}

function moveSelection(step) {
  const lines = [...$("class-list").children];
  const now = lines.findIndex((one) => one.getAttribute("aria-selected") === "true");
  const next = Math.min(Math.max(now + step, 0), lines.length - 1);
  lines.forEach((one, place) => one.setAttribute("aria-selected", String(place === next)));
}

$("class-name").addEventListener("input", listClasses);
$("class-name").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") { moveSelection(event.key === "ArrowDown" ? 1 : -1); event.preventDefault(); }
  if (event.key === "Enter") {
    const chosen = $("class-list").querySelector("[aria-selected=true]");
    if (chosen) pickClass(chosen.textContent);
    event.preventDefault();
  }
});

function keyName(key) {
  return { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", " ": "Space" }[key] ?? key;
}

let changing = null;

function listKeys() {
  $("keys").replaceChildren(...ACTIONS.map(([name, title]) => {
    const line = document.createElement("tr");
    const change = text("button", changing === name ? "press a key" : keyName(state.keys[name]));
    change.addEventListener("click", () => { changing = name; listKeys(); });
    const cell = document.createElement("td");
    cell.append(change);
    line.append(text("td", title.replace(" ...", "")), cell);
    return line;
  }));
}

function changeKey(key) {
  const taken = Object.keys(state.keys).find((name) => state.keys[name] === key && name !== changing);
  if (taken) state.keys[taken] = state.keys[changing];
  state.keys[changing] = key;
  changing = null;
  store("keys", state.keys);
  listKeys();
  paint();
}

$("show-keys").addEventListener("click", () => { changing = null; listKeys(); $("keys-dialog").showModal(); });
$("keys-close").addEventListener("click", () => $("keys-dialog").close());
$("keys-reset").addEventListener("click", () => { state.keys = { ...STANDARD_KEYS }; store("keys", state.keys); listKeys(); paint(); });
$("who").addEventListener("click", askName);

document.addEventListener("keydown", (event) => {
  if ($("keys-dialog").open && changing && event.key.length > 0 && !["Shift", "Control", "Alt", "Meta"].includes(event.key)) {
    if (event.key === "Escape") { changing = null; listKeys(); } else changeKey(event.key);
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return;
  if (event.key === "?") { $("show-keys").click(); event.preventDefault(); return; }
  const name = Object.keys(state.keys).find((one) => state.keys[one] === event.key);
  if (!name) return;
  event.preventDefault();
  act(name);
});

window.addEventListener("resize", () => paint());
$("map").addEventListener("error", () => {
  $("map").hidden = true;
  say("There is no map of this box: the run has no model for it, or the image is gone.");
});
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
  state.reviewer = name;
  state.history = [];
  store("reviewer", name);
  $("name-dialog").close();
  guarded(begin, { waits: true });
});

async function readRun() {
  state.run = await call("/api/run");
  $("run").textContent = state.run.name;
  document.title = `${state.run.name}, review`;
  const names = state.run.queues.map((one) => one.name);
  if (!names.includes(state.queue)) state.queue = names[0];
  $("queue").replaceChildren(...state.run.queues.map((one) => {
    const line = text("option", `${one.title} (${one.size})`);
    line.value = one.name;
    line.selected = one.name === state.queue;
    return line;
  }));
}

$("queue").addEventListener("change", () => {
  state.queue = $("queue").value;
  store("queue", state.queue);
  $("queue").blur();
  guarded(() => fetchNext(), { waits: true });
});

async function begin() {
  $("who").textContent = state.reviewer;
  state.queue = stored("queue", "plan");
  await readRun();
  await fetchNext();
  refresh();
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname);
    await call("/api/login", { token });
  }
  state.reviewer = stored("reviewer", "");
  if (state.reviewer) guarded(begin);
  else await askName();
}

start().catch((error) => say(error.message));
