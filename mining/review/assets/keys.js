// What a key does, and the dialog in which keys are changed.

import { $, stored, store, text } from "./page.js";

export const ACTIONS = [
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
  ["take", "Take a box of the other run", "t"],
  ["complete", "All objects are boxed", "o"],
  ["others", "Other boxes on/off", "b"],
  ["map", "Map on/off", "h"],
  ["compare", "Other run on/off", "v"],
  ["offers", "Offer other places on/off", "k"],
  ["grid", "Many at once", "g"],
  ["next", "Next, leave this", "n"],
  ["previous", "Previous", "p"],
  ["undo", "Undo", "z"],
];
const STANDARD_KEYS = Object.fromEntries(ACTIONS.map(([name, , key]) => [name, key]));
const MODIFIERS = ["Shift", "Control", "Alt", "Meta", "CapsLock"];
const RESERVED = ["Escape", "Enter", "Tab", "?"];

const keys = { ...STANDARD_KEYS, ...stored("keys", {}) };
let changing = null;
let whenChanged = () => {};

// Also with Caps Lock on.
export function actionOf(key) {
  const find = (wanted) => Object.keys(keys).find((name) => keys[name] === wanted);
  return find(key) ?? (key.length === 1 ? find(key.toLowerCase()) : undefined);
}

export function keyName(action) {
  const key = keys[action];
  return { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", " ": "Space" }[key] ?? key;
}

export function setUpKeys(onChange) {
  whenChanged = onChange;
  $("show-keys").addEventListener("click", () => { changing = null; list(); $("keys-dialog").showModal(); });
  $("keys-close").addEventListener("click", () => $("keys-dialog").close());
  $("keys-reset").addEventListener("click", () => { Object.assign(keys, STANDARD_KEYS); saved(); });
}

// Whether a pressed key was meant as the new key of an action.
export function takesKey(event) {
  if (!$("keys-dialog").open || !changing || MODIFIERS.includes(event.key)) return false;
  if (!RESERVED.includes(event.key)) change(event.key);
  changing = null;
  list();
  return true;
}

function change(key) {
  const taken = Object.keys(keys).find((name) => keys[name] === key && name !== changing);
  if (taken) keys[taken] = keys[changing];
  keys[changing] = key;
  saved();
}

function saved() {
  store("keys", keys);
  list();
  whenChanged();
}

function list() {
  $("keys").replaceChildren(...ACTIONS.map(([name, title]) => {
    const line = document.createElement("tr");
    const button = text("button", changing === name ? "press a key" : keyName(name));
    button.setAttribute("aria-label", `Key of: ${title.replace(" ...", "")}, now ${keyName(name)}`);
    button.addEventListener("click", () => { changing = name; list(); });
    const cell = document.createElement("td");
    cell.append(button);
    const head = text("th", title.replace(" ...", ""));
    head.scope = "row";
    line.append(head, cell);
    return line;
  }));
}
