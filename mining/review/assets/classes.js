// The dialog in which a class is chosen by typing a part of its name.

import { $, text } from "./page.js";

const LISTED = 9;
let classes = [];
let chosen = null;

export function setClasses(names) { classes = names; }

export function chooseClass(title, then) {
  chosen = then;
  $("class-title").textContent = title;
  $("class-name").value = "";
  list();
  $("class-dialog").showModal();
  $("class-name").focus();
}

export function setUpClasses() {
  $("class-name").addEventListener("input", list);
  $("class-cancel").addEventListener("click", () => $("class-dialog").close());
  $("class-name").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { move(event.key === "ArrowDown" ? 1 : -1); event.preventDefault(); }
    if (event.key === "Enter") {
      const line = $("class-list").querySelector("[aria-selected=true]");
      if (line) pick(line.textContent);
      event.preventDefault();
    }
  });
}

function list() {
  const wanted = $("class-name").value.trim().toLowerCase();
  const fits = classes.filter((one) => one.toLowerCase().includes(wanted));
  fits.sort((first, second) => Number(second.toLowerCase().startsWith(wanted)) - Number(first.toLowerCase().startsWith(wanted)));
  $("class-list").replaceChildren(...fits.slice(0, LISTED).map((name, place) => {
    const line = text("li", name);
    line.id = `class-option-${place}`;
    line.setAttribute("role", "option");
    line.addEventListener("click", () => pick(name));
    return line;
  }));
  $("class-none").hidden = fits.length > 0;
  select(0);
}

function pick(name) {
  $("class-dialog").close();
  chosen?.(name);
}

function move(step) {
  const lines = [...$("class-list").children];
  const now = lines.findIndex((one) => one.getAttribute("aria-selected") === "true");
  select(Math.min(Math.max(now + step, 0), lines.length - 1));
}

function select(wanted) {
  const lines = [...$("class-list").children];
  lines.forEach((one, place) => one.setAttribute("aria-selected", String(place === wanted)));
  const line = lines[wanted];
  if (line) $("class-name").setAttribute("aria-activedescendant", line.id);
  else $("class-name").removeAttribute("aria-activedescendant");
}
