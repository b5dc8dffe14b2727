// How things are said and made: elements, numbers, the verdict.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
export const byId = (id) => document.getElementById(id);

const number = new Intl.NumberFormat("en");
export const count = (value) => number.format(Math.round(value));
export const plural = (value, word, many = `${word}s`) => `${count(value)} ${value === 1 ? word : many}`;

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function micros(value) {
  if (value == null) return "–";
  if (value < 1000) return `${Math.round(value)} µs`;
  if (value < 1e6) return `${(value / 1000).toFixed(value < 1e4 ? 1 : 0)} ms`;
  return `${(value / 1e6).toFixed(1)} s`;
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value < 60) return `${Math.ceil(value)} s`;
  if (value < 3600) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export const epoch = ({ generation, version }) => (generation > 0 ? `${generation}/${version}` : `${version}`);
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
export const short = (id) => id.slice(0, 8);

// Partitions as first and last of each run, or as a list of numbers.
export function runs(list, most = 6) {
  const words = list.slice(0, most).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return words.join(", ") + (list.length > most ? " …" : "");
}
export const size = (list) => list.reduce((sum, [first, last]) => sum + last - first + 1, 0);

// A server's place in colours and letters: the same as long as the same servers are members.
export function letter(place) {
  const own = String.fromCharCode(65 + (place % 26));
  return place < 26 ? own : `${own}${Math.floor(place / 26)}`;
}
export const colour = (place) => `var(--s${place % 10})`;
export function dot(place) {
  const made = html("span", { class: "dot", "aria-hidden": "true" }, letter(place));
  made.style.background = colour(place);
  return made;
}

// The verdict of the ECS, as a level, a word and the reasons.
export function verdict({ healthy, verdict: line, conditions, facts }) {
  const [, word, rest] = /^([^,:]*)[,:]?\s*(.*)$/s.exec(line);
  const bad = ["offline", "behind"].includes(conditions[0]?.level);
  const why = [rest, ...conditions.slice(1).map(({ what, next }) => `${what}; ${next}`)];
  if (!healthy) why.push(facts);
  return [healthy ? "good" : bad ? "bad" : "warn", word, why.join(". ")];
}
