// Small helpers: elements, what the browser keeps, and requests to the application.

export const $ = (id) => document.getElementById(id);

let chosenRun = 0;

export function setRun(number) { chosenRun = number; }

export function runNumber() { return chosenRun; }

// The address of something of the run that is reviewed.
export function address(path, values = {}) {
  const query = new URLSearchParams(values);
  if (chosenRun) query.set("run", chosenRun);
  const rest = query.toString();
  return rest ? `${path}?${rest}` : path;
}

export async function call(path, body) {
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

export function stored(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`boxmine-${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(`boxmine-${name}`, JSON.stringify(value));
  } catch { /* private windows keep nothing */ }
}

export function text(kind, content) {
  const one = document.createElement(kind);
  one.textContent = content;
  if (kind === "button") one.type = "button";
  return one;
}

// "wrong_place" as people read it
export function words(verdict) { return verdict.replace("_", " "); }
