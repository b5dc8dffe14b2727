// The dashboard: takes the ECS's stream, keeps the newest of each kind, and has it drawn.

import { drawLoad, drawTimeline } from "./charts.js";
import { listen, onPlacement, onState } from "./ring.js";
import { drawEvents, drawHot, drawLoadTable, drawPartitions, drawServers, drawTransfers } from "./tables.js";
import { byId, clock, epoch, short, verdict } from "./words.js";

const SAMPLES_MAX = 600, EVENTS_MAX = 1000;
// A stream that is this silent is dead: it brings a state each second.
const SILENT_MS = 5000;

let state = null, samples = [], events = [], heard = Date.now(), lost = false;

const addresses = new Map();
const address = (id) => addresses.get(short(id)) ?? short(id);

// What is as wide as the window.
function drawWide() {
  drawLoad(samples, state.at);
  drawTimeline(events, state.at);
}

function drawState() {
  const { status } = state;
  for (const server of status.servers) addresses.set(short(server.server), server.address);
  const [level, word, why] = verdict(status);
  byId("verdict").dataset.level = level;
  // Only what is new is read out.
  if (byId("word").textContent !== word) byId("word").textContent = word;
  if (byId("why").textContent !== why) byId("why").textContent = why;
  document.title = `${word} · Trefoil`;
  byId("version").textContent = `Trefoil ${state.version}, cluster ${status.cluster}.`;
  onState(status);
  drawServers(state);
  drawTransfers(status.transfers, address);
  drawHot(state.hot);
  drawLoadTable(samples);
  drawWide();
}

const drawLog = () => drawEvents(events, byId("routine").checked, address);

function showLink() {
  const note = byId("link");
  note.hidden = !lost;
  note.textContent = lost ? `The ECS does not answer since ${clock(heard)}: reads and writes go on, changes wait. What is below is of then.` : "";
  if (!lost) return;
  // The verdict is of then as well.
  byId("verdict").dataset.level = "none";
  document.title = "ECS silent · Trefoil";
}

function onHeard() {
  heard = Date.now();
  if (lost) { lost = false; showLink(); }
}

const handlers = {
  state: (data) => { state = data; drawState(); document.documentElement.dataset.epoch = epoch(data.status.view); },
  placement: (data) => { onPlacement(data); drawPartitions(); },
  samples: (data) => { samples = [...samples, ...data].slice(-SAMPLES_MAX); },
  events: (data) => {
    const newest = events.at(-1)?.view ?? { generation: 0, version: 0 };
    const isNew = ({ view }) => view.generation > newest.generation || (view.generation === newest.generation && view.version > newest.version);
    events = [...events, ...data.filter(isNew)].slice(-EVENTS_MAX);
    drawLog();
  },
};

function connect() {
  // The browser connects again by itself, and says what it has by the id of the last event.
  const stream = new EventSource("/api/v1/stream");
  for (const [name, handle] of Object.entries(handlers)) {
    stream.addEventListener(name, (message) => { onHeard(); handle(JSON.parse(message.data)); });
  }
  stream.addEventListener("error", () => {
    // A refusal ends it for the browser: too many look on. Later there may be room.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, SILENT_MS);
  });
}

setInterval(() => {
  if (!lost && Date.now() - heard > SILENT_MS) { lost = true; showLink(); }
}, 1000);

addEventListener("resize", () => { if (state) drawWide(); });
byId("routine").addEventListener("change", drawLog);
byId("partitions-box").addEventListener("toggle", drawPartitions);
byId("load-table-box").addEventListener("toggle", () => drawLoadTable(samples));
listen();
drawEvents([], false, address);
connect();
