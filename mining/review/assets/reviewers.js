// The dialog about the reviewers: who judged how much, how far pairs agree, and which boxes they dispute.

import { $, address, call, text, words } from "./page.js";

let open = () => {};

export function setUpReviewers(onOpen, onError) {
  open = onOpen;
  $("show-reviewers").addEventListener("click", () => show().catch((error) => onError(error.message)));
  $("reviewers-close").addEventListener("click", () => $("reviewers-dialog").close());
}

async function show() {
  const { reviewers, pairs, disputes, disputed } = await call(address("/api/agreement"));
  const rows = (lines) => lines.map((cells) => {
    const line = document.createElement("tr");
    line.append(...cells.map((cell, place) => {
      const one = text(place ? "td" : "th", cell);
      if (!place) one.scope = "row";
      return one;
    }));
    return line;
  });
  $("reviewers").replaceChildren(...rows(reviewers.map((one) => [one.name, one.boxes, one.images])));
  $("pairs").replaceChildren(...rows(pairs.map((one) => [
    `${one.first} and ${one.second}`, one.boxes, `${Math.round((100 * one.same) / one.boxes)} %`, one.kappa.toFixed(2),
  ])));
  $("pairs-table").hidden = !pairs.length;
  $("pairs-none").hidden = Boolean(pairs.length);
  $("disputes-title").textContent = disputed > disputes.length ? `Disputed boxes, the first ${disputes.length} of ${disputed}` : `Disputed boxes: ${disputed}`;
  $("disputes").replaceChildren(...disputes.map(dispute));
  $("reviewers-dialog").showModal();
}

function dispute({ number, file, category, said }) {
  const line = document.createElement("li");
  const picture = document.createElement("img");
  picture.src = address(`/api/boxes/${number}/240.jpg`);
  picture.alt = `Box of ${category} on ${file}`;
  picture.loading = "lazy";
  const opinions = Object.entries(said).map(([who, verdict]) => `${who}: ${words(verdict)}`).join("; ");
  const facts = document.createElement("div");
  const decide = text("button", "Decide");
  decide.addEventListener("click", () => { $("reviewers-dialog").close(); open(number); });
  facts.append(text("strong", category), text("p", opinions), decide);
  line.append(picture, facts);
  return line;
}
