// The journey of each turn, and the handoff queue.

import { $, clockTime, duration, fromTemplate, keyed, plural, seconds, setAttr, setIcon, setKind, setText, stopTicking, tick, words } from "./dom.js";

const NAMES = {
  accepted: "Accepted", window: "Window", claimed: "Claimed", model: "Model", sent: "Sent",
  recorded: "Recorded", handed_over: "Handed over", withheld: "Withheld", retry: "Retry", failed: "Failed", dropped: "Dropped",
};
const HINTS = {
  accepted: "From arrival until it was durable", window: "How long replyd waited for the rest of the burst",
  claimed: "A worker has the conversation; how long after the window closed",
  model: "How long the model took; tokens in and out", sent: "How long Twilio took to accept the reply",
  recorded: "The turn is in the conversation’s record",
};
const STATES = {
  waiting: "Collecting", working: "Answering", retry: "Trying again", replied: "Replied",
  handed_over: "With people", withheld: "Withheld", failed: "Failed", dropped: "Dropped",
};
const REASONS = {
  requested: "With a person", ai_handed_over: "The AI handed over",
  over_limit: "Limit reached", loop: "Perhaps a loop", moderation: "Flagged", opted_out: "Opted out", failed: "Attempts used up",
  ambiguous: "Send uncertain", too_old: "Waited too long", unknown_sender: "Unknown sender",
  lease_lost: "Another worker has it", drain: "replyd is stopping",
  openai: "OpenAI", twilio: "Twilio", dynamodb: "DynamoDB", sqs: "SQS",
  already_settled: "Answered before", undelivered: "Not delivered",
};
const DELIVERY = { delivered: "delivered", read: "read", failed: "not delivered", undelivered: "not delivered" };

export const reason = (name) => REASONS[name] ?? words(name);

export function renderJourneys(root, journeys, nameOf) {
  keyed(root, journeys, (j) => j.id, () => fromTemplate("journey"), (element, j) => update(element, j, nameOf));
}

function update(element, journey, nameOf) {
  const { messages, steps } = journey;
  setAttr(element, "data-state", journey.state);
  setText($("h3", element), nameOf(journey.customer));
  setText($(".made", element), messages.length > 1 ? `${messages.length} messages, one turn` : "");
  setText($(".state", element), STATES[journey.state] ?? words(journey.state));
  setText($(".total", element), journey.total_ms === null ? "" : duration(journey.total_ms));
  setAttr($(".total", element), "title", "From the first message to the record");
  keyed($(".burst", element), messages, (m) => m.sid, () => fromTemplate("line"), (line, m) => {
    const later = m.at - messages[0].at;
    setText($(".text", line), m.text ?? m.sid);
    setKind($(".kind", line), m.kind);
    const read = $(".read", line);
    setText(read, m.read);
    read.hidden = !m.read;
    setText($("time", line), m === messages[0] ? clockTime(m.at) : `+${(later / 1000).toFixed(1)} s`);
    setAttr(line, "title", m.repeats ? `delivered ${m.repeats + 1} times, counted once` : m.sid);
  });
  keyed($(".steps", element), steps, (s) => s.name, createStep, (node, s) => {
    // The last step may say more than fits its column.
    node.style.gridColumn = s === steps.at(-1) ? `${steps.length} / -1` : "auto";
    updateStep(node, s);
  });
  const notes = [
    called(steps.find((s) => s.tools)?.tools),
    journey.restarts && `Asked again ${plural(journey.restarts, "time")} with newer messages`,
    steps.at(-1).detail,
    repeated(messages),
  ].filter(Boolean);
  const why = $(".why", element);
  setText(why, notes.join(" · "));
  why.hidden = !notes.length;
}

function called(tools = []) {
  return tools.length ? `Called ${tools.map((t) => t.name + (t.outcome === "done" ? "" : ` (${words(t.outcome).toLowerCase()})`)).join(", ")}` : "";
}

function repeated(messages) {
  const times = messages.reduce((sum, m) => sum + (m.repeats ?? 0), 0);
  return times ? `${times} repeated ${times === 1 ? "delivery" : "deliveries"} ignored` : "";
}

function createStep(step) {
  const node = fromTemplate("step");
  node.dataset.testid = `journey-step-${step.name}`;
  node.dataset.name = step.name;
  setText($(".name", node), NAMES[step.name] ?? words(step.name));
  setAttr(node, "title", HINTS[step.name]);
  return node;
}

function updateStep(node, step) {
  setAttr(node, "data-state", step.state);
  setIcon($(".glyph", node), glyph(step));
  if (step.model) setAttr(node, "title", `${HINTS.model} (${step.model})`);
  const value = $(".value", node);
  const [text, more, show] = describe(step);
  setText($(".more", node), more);
  const left = $(".left", node);
  if (show) tick(value, (t) => {
    const [shown, share] = show(t);
    setText(value, shown);
    if (share !== undefined) left.style.strokeDashoffset = String(1 - share);
  });
  else {
    stopTicking(value);
    setText(value, text);
    left.style.removeProperty("stroke-dashoffset");
  }
}

function glyph(step) {
  if (step.name === "handed_over") return "i-person";
  if (step.name === "retry") return "i-clock";
  return step.state === "failed" ? "i-bang" : "i-check";
}

// What stands under a step: a value, a second line, and what counts while it is active.
function describe(step) {
  if (step.state === "todo") return ["", "", null];
  switch (step.name) {
    case "accepted":
      return [duration(step.duration_ms), "", null];
    case "window":
      if (step.state !== "active") return [step.duration_ms === undefined ? "" : duration(step.duration_ms), "", null];
      return ["", "", (t) => closing(step, t)];
    case "claimed":
      if (step.attempt > 1) return [`attempt ${step.attempt}`, "", null];
      return [step.duration_ms === undefined ? "" : `+${duration(step.duration_ms)}`, "", null];
    case "model":
      if (step.state === "active") return ["", "", (t) => [seconds(t - step.at)]];
      if (step.state === "failed") return ["no answer", "", null];
      return [duration(step.duration_ms), `${step.input_tokens}→${step.output_tokens} tok`, null];
    case "sent":
      return sent(step);
    case "recorded":
      return [clockTime(step.at), "", null];
    case "retry":
      if (!step.until) return ["", reason(step.reason), null];
      return ["", reason(step.reason), (t) => (t < step.until ? counting(step.at, step.until, t) : ["now", 0])];
    default:
      return [step.reason ? reason(step.reason) : "", step.at ? clockTime(step.at) : "", null];
  }
}

function sent(step) {
  if (!step.sent) return ["sending", "", null];
  const worst = DELIVERY[step.sent.at(-1).delivery] ?? "";
  const done = step.sent.length === step.parts;
  const count = step.parts > 1 || !done ? `${step.sent.length} of ${step.parts}` : "";
  return [duration(step.duration_ms), [count, worst].filter(Boolean).join(", "), null];
}

const counting = (from, until, t) => [seconds(until - t), Math.min(1, Math.max(0, (until - t) / Math.max(1, until - from)))];

function closing(step, t) {
  return t < step.closes_at ? counting(step.last_at, step.closes_at, t) : ["closed", 0];
}

export function renderQueue(root, items, nameOf) {
  const seen = new Map();
  const rows = items.map((item) => {
    // The same message may be there twice: the queue delivers at least once.
    const base = JSON.stringify([item.at, item.conversation_id, item.from, item.body]);
    seen.set(base, (seen.get(base) ?? 0) + 1);
    return { ...item, key: `${base}#${seen.get(base)}` };
  });
  rows.sort((a, b) => b.at - a.at);
  keyed(root, rows, (r) => r.key, () => fromTemplate("queued"), (row, item) => {
    setText($(".reason", row), reason(item.reason));
    setAttr(row, "data-reason", item.reason);
    setText($("strong", row), item.name || nameOf(item.from));
    setText($(".text", row), item.body || "(no text)");
    setKind($(".kind", row), item.kind);
    setText($("time", row), clockTime(item.at));
    const summary = $(".summary", row);
    setText(summary, item.summary?.replace(/\n+/g, "\n"));
    summary.hidden = !item.summary;
    setAttr(row, "title", `${item.from} · ${item.conversation_id}`);
  });
}
