// Rates and times as lines, changes of the view as marks.

import { byId, clock, count, html, micros, svg } from "./words.js";

const HEIGHT = 190, LEFT = 52, BOTTOM = 20, TOP = 8;
const SPAN = 600_000;

const RATES = [["reads", "reads", "var(--s0)", null], ["writes", "writes", "var(--s1)", null], ["failed", "failed", "var(--bad)", "3 2"]];
const TIMES = [["read p50", (one) => one.read_us.p50, "var(--s0)", "2 3"], ["read p99", (one) => one.read_us.p99, "var(--s0)", null],
  ["write p50", (one) => one.write_us.p50, "var(--s1)", "2 3"], ["write p99", (one) => one.write_us.p99, "var(--s1)", null],
  ["write p99.9", (one) => one.write_us.p999, "var(--s3)", null], ["fdatasync p99", (one) => one.sync_us.p99, "var(--s4)", "6 3"]];

// A unit is a pixel, so that letters are as large as elsewhere.
function begin(picture, height) {
  const width = Math.max(260, Math.round(picture.clientWidth));
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return width;
}

const across = (at, now, width) => LEFT + ((at - (now - SPAN)) / SPAN) * (width - LEFT);

// A round number that is not below.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function frame(now, width, marks) {
  const lines = marks.flatMap(([y, label]) => [svg("line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y }),
    svg("text", { x: LEFT - 6, y, "text-anchor": "end", "dominant-baseline": "central" }, label)]);
  for (const minutes of [10, 5, 0]) {
    const x = across(now - minutes * 60_000, now, width);
    lines.push(svg("text", { x: Math.min(Math.max(x, LEFT + 20), width), y: HEIGHT - 5, "text-anchor": minutes ? "middle" : "end" }, minutes ? `-${minutes} min` : "now"));
  }
  return lines;
}

// One line; a gap where nothing was measured.
function line(samples, now, width, value, height, paint) {
  let path = "", drawn = null;
  for (const one of samples) {
    const found = value(one);
    if (found == null) { drawn = null; continue; }
    path += `${drawn != null && one.at - drawn < 5000 ? "L" : "M"}${across(one.at, now, width).toFixed(1)} ${height(found).toFixed(1)}`;
    drawn = one.at;
  }
  return path ? svg("path", { class: "lines", d: path, ...paint }) : null;
}

function keys(box, entries) {
  box.replaceChildren(...entries.map(([label, value, stroke, dashes]) => {
    const mark = svg("svg", { width: 22, height: 8, viewBox: "0 0 22 8", "aria-hidden": "true" },
      svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke, "stroke-width": 2, "stroke-dasharray": dashes }));
    return html("span", {}, mark, ` ${label} `, html("b", {}, value));
  }));
}

export function drawLoad(samples, now) {
  const shown = samples.filter((one) => one.at > now - SPAN);
  const last = shown.at(-1);
  const most = ceiling(Math.max(1, ...shown.map((one) => Math.max(one.reads, one.writes, one.failed))));
  const linear = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
  const rates = byId("rates");
  let width = begin(rates, HEIGHT);
  rates.replaceChildren(...frame(now, width, [0, most / 2, most].map((value) => [linear(value), most < 2 && value % 1 ? "" : count(value)])),
    ...RATES.map(([, field, stroke, dashes]) => line(shown, now, width, (one) => one[field], linear, { stroke, "stroke-dasharray": dashes })).filter(Boolean));
  keys(byId("rates-text"), RATES.map(([label, field, stroke, dashes]) => [label, last ? count(last[field]) : "–", stroke, dashes]));

  const found = shown.flatMap((one) => TIMES.map(([, value]) => value(one))).filter((value) => value != null);
  const [low, high] = found.length ? [Math.floor(Math.log10(Math.max(1, Math.min(...found)))), Math.ceil(Math.log10(Math.max(10, ...found)))] : [1, 4];
  const steps = Math.max(1, high - low);
  const logarithmic = (value) => TOP + (1 - (Math.log10(Math.max(value, 1)) - low) / steps) * (HEIGHT - TOP - BOTTOM);
  const times = byId("times");
  width = begin(times, HEIGHT);
  times.replaceChildren(...frame(now, width, Array.from({ length: steps + 1 }, (_, step) => [logarithmic(10 ** (low + step)), micros(10 ** (low + step)).replace(".0", "")])),
    ...TIMES.map(([, value, stroke, dashes]) => line(shown, now, width, value, logarithmic, { stroke, "stroke-dasharray": dashes })).filter(Boolean));
  keys(byId("times-text"), TIMES.map(([label, value, stroke, dashes]) => [label, last ? micros(value(last)) : "–", stroke, dashes]));
}

const BAD = new Set(["silent", "link_ended", "store_failed", "removed", "reported_silent", "copy_failed", "disk_slow", "disk_full", "gave_up", "forced"]);
export const isBad = (event) => event.causes.some((cause) => BAD.has(cause.change));
const ROUTINE = new Set(["listed", "in_sync", "handed_over", "dropped"]);
export const isRoutine = (event) => event.causes.every((cause) => ROUTINE.has(cause.change));

export function drawTimeline(events, now) {
  const height = 34;
  const timeline = byId("timeline");
  const shown = events.filter((event) => event.at > now - SPAN);
  const width = begin(timeline, height);
  const x = (at) => 6 + ((at - (now - SPAN)) / SPAN) * (width - 12);
  const marks = shown.map((event) => {
    const [top, stroke] = isBad(event) ? [2, "var(--bad)"] : isRoutine(event) ? [14, "var(--line)"] : [6, "var(--s0)"];
    return svg("line", { x1: x(event.at), x2: x(event.at), y1: top, y2: 22, stroke, "stroke-width": 2 },
      svg("title", {}, `${clock(event.at)} epoch ${event.view.version}: ${event.text}`));
  });
  timeline.replaceChildren(svg("line", { class: "grid", x1: 0, x2: width, y1: 22, y2: 22 }), ...marks,
    svg("text", { x: 2, y: 32 }, "-10 min"), svg("text", { x: width - 2, y: 32, "text-anchor": "end" }, "now"));
  const bad = shown.filter(isBad).length;
  byId("timeline-text").textContent = `${count(shown.length)} epochs in ten minutes, ${count(bad)} because something failed.`;
}
