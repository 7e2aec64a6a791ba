// Many boxes at once: the odd ones are selected and judged, the others accepted together.

import { ACTIONS, keyName } from "./keys.js";
import { $, address, text } from "./page.js";

const ON_SELECTED = new Set(["correct", "nothing", "wrong_place", "wrong_class", "too_large", "too_small", "unsure"]);
const ON_PAGE = { complete: "The others are correct", grid: "One at a time", next: "New page", undo: "Undo" };

export class Grid {
  constructor(items, onChange) {
    this.items = items;
    this.selected = new Set();
    this.onChange = onChange;
  }

  // The numbers that an action is meant for; null where it is none of many boxes.
  numbersFor(action) {
    if (action === "complete") return new Set(this.items.map((one) => one.number).filter((one) => !this.selected.has(one)));
    return ON_SELECTED.has(action) ? this.selected : null;
  }

  remove(numbers) {
    this.items = this.items.filter((one) => !numbers.has(one.number));
    this.selected = new Set();
  }

  paint(act) {
    const shown = this.items.map((one) => one.number).join();
    if ($("grid").dataset.shown !== shown) {
      $("grid").dataset.shown = shown;
      $("grid").replaceChildren(...this.items.map((one) => this.cell(one)));
    }
    [...$("grid").children].forEach((cell, place) => cell.setAttribute("aria-pressed", String(this.selected.has(this.items[place].number))));
    $("category").textContent = this.selected.size ? `${this.selected.size} selected` : "Which are the odd ones?";
    $("question").textContent = "Select boxes, then give them a verdict; those that are left can be accepted together.";
    for (const [name, title] of ACTIONS) {
      if (!ON_SELECTED.has(name) && !(name in ON_PAGE)) continue;
      const one = document.createElement("button");
      one.type = "button";
      one.dataset.action = name;
      one.disabled = ON_SELECTED.has(name) && !this.selected.size;
      one.append(text("span", ON_PAGE[name] ?? title), text("kbd", keyName(name)));
      one.addEventListener("click", () => act(name));
      $("buttons").append(one);
    }
  }

  cell({ number, category }) {
    const cell = document.createElement("button");
    cell.type = "button";
    const picture = document.createElement("img");
    picture.src = address(`/api/boxes/${number}/240.jpg`);
    picture.alt = `Box of ${category}`;
    cell.append(picture, text("span", category));
    cell.addEventListener("click", () => {
      if (!this.selected.delete(number)) this.selected.add(number);
      this.onChange();
    });
    return cell;
  }
}
