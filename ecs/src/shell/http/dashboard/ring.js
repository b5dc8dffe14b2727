// The ring: an arc for each partition, chords for copies on their way.

import { byId, colour, count, dot, epoch, html, letter, plural, short, svg } from "./words.js";

const OUTER = 100, INNER = 86, BAND = 76, HUB = 46;
const NAMED_MAX = 16;

let placement = null, members = new Map(), transfers = [];
let chosen = null, hovered = null, picked = null;

// The angle of a partition's border, from the top, clockwise.
const angle = (partition) => (partition / placement.partitions.length) * 2 * Math.PI - Math.PI / 2;
const at = (radius, turn) => [radius * Math.cos(turn), radius * Math.sin(turn)];
const point = (radius, turn) => at(radius, turn).map((value) => value.toFixed(2)).join(" ");

function sector(first, last, outer, inner) {
  const [from, to] = [angle(first), angle(last + 1) - 1e-4];
  const large = to - from > Math.PI ? 1 : 0;
  return `M${point(outer, from)}A${outer} ${outer} 0 ${large} 1 ${point(outer, to)}L${point(inner, to)}A${inner} ${inner} 0 ${large} 0 ${point(inner, from)}Z`;
}

// Neighbours that look the same are one arc: a ring of 16384 partitions has to be drawn as well.
function arcs(same) {
  const found = [];
  placement.partitions.forEach((now, partition) => {
    const last = found.at(-1);
    if (last && last.key === same(now, partition)) last.last = partition;
    else found.push({ first: partition, last: partition, now, key: same(now, partition) });
  });
  return found;
}

const name = (place) => members.get(placement.servers[place])?.address ?? short(placement.servers[place] ?? "?");
const named = (place) => (place == null ? "no server" : `${letter(place)} (${name(place)})`);

export function describe(partition) {
  const now = placement?.partitions[partition];
  if (!now) return "";
  const replicas = now.s.filter((place) => place !== now.c).map(named);
  const parts = [`${partition}: coordinator ${named(now.c)}`, `replicas ${replicas.join(", ") || "none"}`];
  if (now.j.length) parts.push(`being copied to ${now.j.map(named).join(", ")}`);
  if (now.state !== "served") parts.push(now.state);
  return parts.join("; ");
}

function pick(partition) {
  picked = partition;
  byId("pick").value = partition;
  byId("picked").textContent = describe(partition);
  const picture = byId("ring-picture");
  picture.querySelector(".picked")?.remove();
  if (placement?.partitions[partition]) picture.append(svg("path", { class: "picked", d: sector(partition, partition, OUTER + 3, INNER - 3) }));
}

function spot(place) {
  const turn = (place / placement.servers.length) * 2 * Math.PI - Math.PI / 2;
  return placement.servers.length === 1 ? [0, -HUB] : at(HUB, turn);
}

// Copies in the making that no sender has reported yet begin at nothing.
function ways() {
  const reported = new Map(transfers.map((one) => [`${one.partition} ${one.to}`, one]));
  return placement.partitions.flatMap((now, partition) => now.j.map((place) => {
    const one = reported.get(`${partition} ${placement.servers[place]}`);
    return { partition, place, done: one ? Math.min(1, one.bytes_done / Math.max(1, one.bytes_all)) : 0 };
  })).slice(0, 200);
}

function chords() {
  return ways().flatMap(({ partition, place, done }) => {
    const turn = angle(partition + 0.5);
    const line = `M${point(INNER - 2, turn)}Q${point(HUB * 0.6, turn)} ${spot(place).map((value) => value.toFixed(2)).join(" ")}`;
    const title = `partition ${partition} to ${named(place)}: ${Math.round(done * 100)} %`;
    const paint = { d: line, stroke: colour(place), pathLength: 100 };
    return [svg("path", { ...paint, class: "way" }, svg("title", {}, title)),
      svg("path", { ...paint, class: "done", "stroke-dasharray": `${(done * 100).toFixed(1)} 200` })];
  });
}

function hatch(place) {
  const lines = svg("pattern", { id: "hatch", width: 3, height: 3, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 1.4, height: 3, fill: colour(place) }));
  return svg("defs", {}, lines);
}

export function draw() {
  const picture = byId("ring-picture");
  if (!placement || placement.partitions.length === 0) {
    picture.replaceChildren(svg("circle", { class: "band", r: OUTER }), svg("circle", { class: "band", r: INNER }),
      svg("text", { class: "middle", "text-anchor": "middle" }, "no servers"));
    byId("ring-text").textContent = "No server has joined yet.";
    return;
  }
  const lit = hovered ?? chosen;
  const parts = lit == null ? [] : [hatch(lit)];
  for (const { first, last, now } of arcs((now) => `${now.c} ${now.state}`)) {
    const kind = now.state === "served" ? "" : ` ${now.state}`;
    const dim = lit != null && now.c !== lit ? " dim" : "";
    const title = first === last ? `Partition ${describe(first)}` : `Partitions ${first} to ${last}: coordinator ${named(now.c)}`;
    parts.push(svg("path", { class: `arc${kind}${dim}`, d: sector(first, last, OUTER, INNER), fill: colour(now.c ?? 9), "data-first": first, "data-last": last }, svg("title", {}, title)));
    const width = angle(last + 1) - angle(first);
    if (width > 0.075 && now.c != null) {
      const [x, y] = at((OUTER + INNER) / 2, (angle(first) + angle(last + 1)) / 2);
      parts.push(svg("text", { class: "on", x, y, "text-anchor": "middle", "dominant-baseline": "central", "pointer-events": "none" }, letter(now.c)));
    }
  }
  parts.push(svg("circle", { class: "band", r: INNER - 2 }), svg("circle", { class: "band", r: BAND }));
  if (lit != null) {
    for (const { first, last, key } of arcs((now) => now.s.includes(lit) && now.c !== lit)) {
      if (key) parts.push(svg("path", { class: "replica", d: sector(first, last, INNER - 2, BAND), fill: "url(#hatch)" }));
    }
  }
  parts.push(...chords());
  if (placement.servers.length <= NAMED_MAX) {
    placement.servers.forEach((id, place) => {
      const [x, y] = spot(place);
      const state = members.get(id)?.state ?? "up";
      parts.push(svg("circle", { cx: x, cy: y, r: 6, fill: state === "down" ? "var(--card)" : colour(place), stroke: colour(place), "stroke-width": 1.5 }, svg("title", {}, `${named(place)}: ${state}`)));
      parts.push(svg("text", { class: state === "down" ? "name" : "on", x, y, "text-anchor": "middle", "dominant-baseline": "central", "pointer-events": "none" }, letter(place)));
    });
  }
  parts.push(svg("text", { class: "middle", y: 1, "text-anchor": "middle" }, `epoch ${epoch(placement.view)}`));
  parts.push(svg("text", { class: "under", y: 11, "text-anchor": "middle" }, plural(placement.partitions.length, "partition")));
  picture.replaceChildren(...parts);
  const moving = ways().length;
  byId("ring-text").textContent = `${plural(placement.partitions.length, "partition")} on ${plural(placement.servers.length, "server")}` +
    (moving ? `, ${plural(moving, "copy", "copies")} being made.` : ", no copies being made.");
  if (picked != null) pick(Math.min(picked, placement.partitions.length - 1));
}

function legend() {
  const held = document.activeElement?.closest?.("#legend button")?.dataset.server;
  const items = placement.servers.map((id, place) => {
    const server = members.get(id);
    const button = html("button", { type: "button", "aria-pressed": String(chosen === place), "data-server": id },
      dot(place), server?.address ?? short(id), server ? ` · ${count(server.coordinator)} + ${count(server.replica)}` : "");
    button.title = "partitions that it coordinates + that it keeps replicas of";
    return html("li", {}, button);
  });
  byId("legend").replaceChildren(...items);
  if (held) byId("legend").querySelector(`[data-server="${held}"]`)?.focus();
}

export const placeOf = (id) => (placement ? placement.servers.indexOf(id) : -1);
export const partitions = () => placement?.partitions ?? [];
export const serverName = named;

export function onPlacement(now) {
  const same = placement && placement.servers.join() === now.servers.join();
  placement = now;
  if (!same) [chosen, hovered] = [null, null];
  byId("pick").max = Math.max(0, now.partitions.length - 1);
  draw();
  legend();
}

export function onState(status) {
  members = new Map(status.servers.map((server) => [server.server, server]));
  transfers = status.transfers;
  if (!placement) return;
  draw();
  legend();
}

// A server is shown while it is pointed at or has the focus, and stays shown when it is chosen.
export function listen() {
  const place = (event) => {
    const id = event.target.closest?.("[data-server]")?.dataset.server;
    return id == null ? null : placeOf(id);
  };
  const show = (now) => { if (hovered !== now) { hovered = now; draw(); } };
  for (const box of [byId("legend"), byId("servers-table")]) {
    box.addEventListener("mouseover", (event) => show(place(event)));
    box.addEventListener("mouseleave", () => show(null));
    box.addEventListener("focusin", (event) => show(place(event)));
    box.addEventListener("focusout", () => show(null));
    box.addEventListener("click", (event) => {
      const now = place(event);
      if (now == null || !event.target.closest("button")) return;
      chosen = chosen === now ? null : now;
      draw();
      legend();
    });
  }
  byId("ring-picture").addEventListener("mousemove", (event) => {
    if (!event.target.closest?.(".arc")) return;
    // The middle of the picture is its origin; the angle is from the top, clockwise.
    const box = byId("ring-picture").getBoundingClientRect();
    const turn = Math.atan2(event.clientX - box.x - box.width / 2, box.y + box.height / 2 - event.clientY);
    pick(Math.floor(((turn / (2 * Math.PI) + 1) % 1) * placement.partitions.length));
  });
  byId("pick").addEventListener("input", (event) => pick(Number(event.target.value)));
}
