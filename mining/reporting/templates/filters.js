"use strict";
// Filters the gallery. Without this script the page shows every picture.
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  const fields = ["class", "state", "verdict", "kind"].map((name) => form.elements[name]).filter(Boolean);
  const low = form.elements.low, high = form.elements.high;
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const groups = [...document.querySelectorAll("#gallery .group")];
  const pictures = [...document.querySelectorAll("#gallery .tile")].map((tile) => ({
    tile,
    class: JSON.parse(tile.dataset.classes),
    state: [tile.dataset.state],
    verdict: tile.dataset.verdicts ? tile.dataset.verdicts.split(" ") : [],
    kind: [tile.dataset.kind],
    score: tile.dataset.score === "" ? null : Number(tile.dataset.score),
  }));
  const limit = (field, otherwise) => {
    const value = field.value === "" ? NaN : Number(field.value);
    return Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : otherwise;
  };
  const isInRange = (picture, from, to) =>
    (from <= 0 && to >= 1) || (picture.score !== null && picture.score >= from && picture.score <= to);

  function apply() {
    const from = limit(low, 0), to = limit(high, 1);
    let count = 0;
    for (const picture of pictures) {
      const fits = isInRange(picture, from, to)
        && fields.every((field) => field.value === "" || picture[field.name].includes(field.value));
      picture.tile.hidden = !fits;
      count += fits;
    }
    const isFiltered = from > 0 || to < 1 || fields.some((field) => field.value !== "");
    let listed = false;
    for (const group of groups) {
      if (group.dataset.state) {  // the list of images that could not be used
        const others = fields.some((field) => field.name !== "state" && field.value !== "") || from > 0 || to < 1;
        const state = form.elements.state.value;
        group.hidden = others || (state !== "" && state !== group.dataset.state);
        listed = !group.hidden;
      } else {
        group.hidden = isFiltered && !group.querySelector(".tile:not([hidden])");
      }
    }
    const all = pictures.length;
    const text = isFiltered ? `${count} of ${all} pictures shown` : `All ${all} pictures shown`;
    shown.textContent = isFiltered && listed ? `${text}, and the list of images that could not be used` : text;
    nothing.hidden = count > 0 || listed;
    form.elements.reset.disabled = !isFiltered;
  }

  function toFragment() {
    const chosen = new URLSearchParams();
    for (const field of fields) if (field.value !== "") chosen.set(field.name, field.value);
    const from = limit(low, 0), to = limit(high, 1);
    if (from > 0 || to < 1) chosen.set("score", `${from}-${to}`);
    return chosen.toString();
  }

  function remember() {  // without a step in the history, and without scrolling
    const fragment = toFragment();
    try {
      history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
    } catch {  // some browsers refuse it for a page from disk
      location.replace(`#${fragment || "all"}`);
    }
  }

  function fromFragment() {
    const text = location.hash.slice(1);
    if (!/^($|all$|(class|state|verdict|kind|score)=)/.test(text)) return false;  // the address of a section
    const chosen = new URLSearchParams(text);
    for (const field of fields) {
      const value = chosen.get(field.name) ?? "";
      field.value = [...field.options].some((option) => option.value === value) ? value : "";
    }
    const range = /^([\d.]+)-([\d.]+)$/.exec(chosen.get("score") ?? "");
    low.value = range ? range[1] : "0";
    high.value = range ? range[2] : "1";
    apply();
    return text !== "" && text !== "all";
  }

  function follow() {  // a link to a filtered gallery, from this page or from elsewhere
    if (!fromFragment()) return;
    const heading = document.getElementById("gallery-heading");
    heading.scrollIntoView();
    heading.focus({preventScroll: true});
  }

  for (const link of document.querySelectorAll("a[data-class]")) {
    link.href = `#${new URLSearchParams({class: link.dataset.class})}`;
    link.addEventListener("click", () => { if (link.hash === location.hash) follow(); });
  }
  form.addEventListener("input", () => {
    apply();
    remember();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.reset.addEventListener("click", () => {
    for (const field of fields) field.value = "";
    low.value = "0";
    high.value = "1";
    apply();
    remember();
    fields[0].focus();
  });
  addEventListener("hashchange", follow);
  form.hidden = false;
  shown.hidden = false;
  apply();
  follow();
})();

// what is folded is printed too
(() => {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
})();
