// Everything as tables.

import { isBad, isRoutine } from "./charts.js";
import { partitions, placeOf, serverName, describe } from "./ring.js";
import { byId, bytes, clock, count, dot, epoch, html, micros, plural, runs, seconds, short, size } from "./words.js";

const EVENTS_SHOWN = 200;

// A cell is a text, a number with its text, or elements. `columns`: heading, and "n" for numbers or "text" for long texts.
function table(id, caption, columns, rows, empty) {
  const cells = (row) => html("tr", row.attributes, ...row.cells.map((cell, column) => {
    const kind = columns[column][1];
    return html(column === 0 ? "th" : "td", { class: kind, scope: column === 0 ? "row" : null }, ...[cell].flat());
  }));
  const head = html("thead", {}, html("tr", {}, ...columns.map(([heading, kind]) => html("th", { scope: "col", class: kind }, heading))));
  const body = rows.length ? rows.map(cells) : [html("tr", {}, html("td", { colspan: columns.length }, empty))];
  const made = byId(id);
  const focus = made.contains(document.activeElement) ? document.activeElement.dataset.server : null;
  made.replaceChildren(html("caption", {}, caption), head, html("tbody", {}, ...body));
  if (focus) made.querySelector(`button[data-server="${focus}"]`)?.focus();
}

function heartbeat({ heartbeat_age_ms: age, silence_limit_ms: limit }) {
  if (age == null) return ["none yet"];
  const meter = html("meter", { min: 0, max: limit, high: limit / 2, optimum: 0, value: Math.min(age, limit), "aria-label": "age of the heartbeat against its limit" });
  return [meter, ` ${age < 10_000 ? `${count(age)} ms` : seconds(age / 1000)} of ${count(limit)}`];
}

export function drawServers({ status, load }) {
  const loads = new Map(load.map((one) => [one.server, one]));
  const columns = [["Server"], ["State"], ["Heartbeat"], ["Epoch", "n"], ["Coordinates", "n"], ["Replicas", "n"], ["Joining", "n"], ["Reads/s", "n"], ["Writes/s", "n"],
    ["Read p99", "n"], ["Write p99", "n"], ["fdatasync p99", "n"], ["Open", "n"], ["Lag", "n"], ["Keys", "n"], ["Stored", "n"], ["Free", "n"], ["Id"]];
  const rows = status.servers.map((server) => {
    const one = loads.get(server.server);
    const place = placeOf(server.server);
    const level = { up: "good", leaving: "warn", down: "bad" }[server.state];
    const stale = epoch(server.view) !== epoch(status.view);
    const button = html("button", { type: "button", "data-server": server.server, title: "Show its copies on the ring" }, place < 0 ? null : dot(place), server.address);
    return { attributes: { "data-server": server.server }, cells: [[button],
      [html("span", { class: level }, server.state === "down" ? "DOWN" : server.stands_by ? "stands by" : server.state)], heartbeat(server),
      [html("span", { class: stale ? "warn" : null }, epoch(server.view))], count(server.coordinator), count(server.replica), count(server.joining),
      one ? count(one.reads) : "–", one ? count(one.writes) : "–", micros(one?.read_us.p99), micros(one?.write_us.p99), micros(one?.sync_us.p99),
      one ? count(one.open) : "–", one ? count(one.lag) : "–", count(server.keys), bytes(server.bytes), bytes(server.free_bytes), short(server.server)] };
  });
  table("servers-table", plural(status.servers.length, "server"), columns, rows, "No server has joined yet.");
}

export function drawTransfers(transfers, address) {
  const rows = transfers.map((one) => {
    const left = Math.max(0, one.bytes_all - one.bytes_done);
    const share = one.bytes_all > 0 ? Math.min(1, one.bytes_done / one.bytes_all) : 0;
    const bar = html("progress", { max: 1, value: share, "aria-label": `partition ${one.partition}` });
    return { cells: [`${one.partition}`, address(one.from), address(one.to), [bar, ` ${Math.round(share * 100)} %`],
      `${bytes(one.bytes_done)} of ${bytes(one.bytes_all)}`, `${bytes(one.bytes_per_second)}/s`, one.bytes_per_second > 0 ? seconds(left / one.bytes_per_second) : "–"] };
  });
  const rate = transfers.reduce((sum, one) => sum + one.bytes_per_second, 0);
  const caption = transfers.length ? `${plural(transfers.length, "copy", "copies")}, ${bytes(rate)}/s together` : "Members that were away for a moment get entries of the log instead, and are not listed";
  table("transfers-table", caption, [["Partition", "n"], ["From"], ["To"], ["Progress"], ["Bytes", "n"], ["Rate", "n"], ["Left", "n"]], rows, "None.");
}

export function drawHot(hot) {
  table("hot-partitions", "Partitions", [["Partition", "n"], ["Requests/s", "n"], ["Coordinator"]],
    hot.partitions.map((one) => ({ cells: [`${one.partition}`, count(one.per_second), serverName(partitions()[one.partition]?.c)] })), "No requests of late.");
  table("hot-keys", "Keys", [["Key", "text"], ["Requests/s", "n"], ["Partition", "n"]],
    hot.keys.map((one) => ({ cells: [one.key, count(one.per_second), `${one.partition}`] })), "No requests of late.");
}

function difference({ coordinator, in_sync: inSync, joining }) {
  const parts = [["coordinator", coordinator], ["in-sync copies", inSync], ["joining copies", joining]].filter(([, list]) => list.length);
  return parts.map(([what, list]) => `${what} of ${size(list)}: ${runs(list)}`).join("; ") || "no partition";
}

export function drawEvents(events, withRoutine, address) {
  const wanted = events.filter((event) => withRoutine || !isRoutine(event));
  const rows = wanted.slice(-EVENTS_SHOWN).reverse().map((event) => {
    const text = event.text.replace(/\b[0-9a-f]{8}\b/g, (id) => address(id));
    return { cells: [epoch(event.view), clock(event.at), [html("span", { class: isBad(event) ? "bad" : null }, text)], difference(event.difference)] };
  });
  const hidden = events.length - wanted.length;
  const caption = `The newest first${hidden ? `; ${count(hidden)} small steps are left out` : ""}${wanted.length > EVENTS_SHOWN ? `; the last ${EVENTS_SHOWN}` : ""}`;
  table("events-table", caption, [["Epoch", "n"], ["Time"], ["Cause", "text"], ["Difference", "text"]], rows, "No change since the ECS started.");
}

export function drawPartitions() {
  if (!byId("partitions-box").open) return;
  const rows = partitions().map((now, partition) => {
    const [coordinator, ...rest] = describe(partition).replace(/^\d+: /, "").split("; ");
    return { cells: [`${partition}`, now.state, coordinator.replace("coordinator ", ""), rest.join("; ")] };
  });
  table("partitions-table", plural(rows.length, "partition"), [["Partition", "n"], ["State"], ["Coordinator"], ["Copies", "text"]], rows, "None before the first server has joined.");
}

export function drawLoadTable(samples) {
  if (!byId("load-table-box").open) return;
  const every = samples.filter((_, index) => (samples.length - 1 - index) % 10 === 0).reverse();
  const rows = every.map((one) => ({ cells: [clock(one.at), count(one.reads), count(one.writes), count(one.failed), micros(one.read_us.p50), micros(one.read_us.p99),
    micros(one.write_us.p50), micros(one.write_us.p99), micros(one.write_us.p999), micros(one.sync_us.p99)] }));
  table("load-table", "Each tenth second, the newest first; all servers together", [["Time"], ["Reads/s", "n"], ["Writes/s", "n"], ["Failed/s", "n"], ["Read p50", "n"], ["Read p99", "n"],
    ["Write p50", "n"], ["Write p99", "n"], ["Write p99.9", "n"], ["fdatasync p99", "n"]], rows, "Nothing yet.");
}
