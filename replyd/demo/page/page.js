// Listens to the server's state and draws it; sends what the visitor does.

import { $, bare, plural, seconds, setAttr, setServerTime, setText } from "./dom.js";
import { renderJourneys, renderQueue } from "./journeys.js";
import { renderPhones } from "./phones.js";
import { renderWaiting } from "./waiting.js";

const short = (ms) => seconds(ms).replace(".0", "");

function draw(state) {
  setServerTime(state.now);
  const { customers, journeys, waiting, handoff_queue: queue, window, totals } = state;
  const names = new Map(customers.map((c) => [bare(c.address), c.name]));
  const nameOf = (address) => names.get(bare(address)) || bare(address) || "Unknown";
  setText($("#setup-window"), `${short(window.quiet_ms)} quiet, at most ${short(window.max_wait_ms)} or ${plural(window.max_messages, "message")}`);
  setText($("#setup-model"), state.model);
  for (const name of ["accepted", "turns", "replies", "handed_over"]) setText($(`#total-${name}`), totals[name] ?? 0);
  setText($("#noun-turns"), totals.turns === 1 ? "turn" : "turns");
  setText($("#noun-replies"), totals.replies === 1 ? "reply" : "replies");
  renderPhones($("#phones"), customers, journeys, say, setHandoff, announce);
  renderJourneys($("#journey-list"), journeys, nameOf);
  $("#no-journeys").hidden = journeys.length > 0;
  renderWaiting($("#waiting-list"), waiting, nameOf, answer, setHandoff, announce);
  $("#no-waiting").hidden = waiting.length > 0;
  renderQueue($("#queue-list"), queue, nameOf);
  $("#no-queue").hidden = queue.length > 0;
  const open = journeys.filter((j) => ["waiting", "working", "retry"].includes(j.state)).length;
  setText($("#count-journeys"), open || "");
  setText($("#count-waiting"), waiting.length || "");
}

// One element per reply: two that come together are both read out.
function announce(text) {
  const said = $("#said");
  said.append(Object.assign(document.createElement("p"), { textContent: text }));
  while (said.childElementCount > 5) said.firstElementChild.remove();
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("replyd does not answer");
  }
  if (response.ok) return response.status === 204 ? {} : response.json();
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error ?? `replyd answered ${response.status}`);
}

const say = (address, text, kind) => post("/api/say", { address, text, kind });
const answer = (conversation_id, text, key) => post("/api/answer", { conversation_id, text, key });
const setHandoff = (conversation_id, up) => post("/api/handoff", { conversation_id, up });

function linked(state, text) {
  setAttr($("#link"), "data-state", state);
  setText($("#link-text"), text);
}

// Only the newest state matters: several that came between two frames are drawn once.
let latest = null;
function drawSoon(state) {
  const planned = latest !== null;
  latest = state;
  if (planned) return;
  const drawLatest = () => {
    const newest = latest;
    latest = null;
    draw(newest);
  };
  // A tab in the background gets no frames, but its phones still scroll and its log still speaks.
  if (document.hidden) drawLatest();
  else requestAnimationFrame(drawLatest);
}

const stream = new EventSource("/events");
stream.onopen = () => linked("live", "live");
stream.onerror = () => linked("lost", "reconnecting");
stream.onmessage = (event) => drawSoon(JSON.parse(event.data));

for (const button of document.querySelectorAll(".views button")) {
  button.addEventListener("click", () => {
    document.body.dataset.view = button.dataset.view;
    for (const other of document.querySelectorAll(".views button")) setAttr(other, "aria-pressed", String(other === button));
  });
}
