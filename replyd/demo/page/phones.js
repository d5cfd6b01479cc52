// The customers' phones.

import { $, bare, duration, fromTemplate, hourMinute, keyed, plural, seconds, setAttr, setIcon, setKind, setText, stopTicking, tick, words } from "./dom.js";

const BURSTS = [
  ["Hi there!", "Are you open on Sunday?", "And is there parking nearby?"],
  ["Quick question", "Can I still add to my order?", "How much is a croissant?"],
  ["Hello 👋", "Yes please, keep it for me!", "Do you deliver as well?"],
];
const BURST_GAP_MS = 700;

const TICKS = {
  sending: ["t-clock", "sending"], queued: ["t-clock", "queued"],
  accepted: ["t-one", "accepted"], sent: ["t-one", "sent"],
  delivered: ["t-two", "delivered"], read: ["t-two", "read"],
  failed: ["t-bang", "failed"], undelivered: ["t-bang", "undelivered"],
};
const STATUS = {
  user_reply_received: "Message received", ai_response_sent: "Answered by AI",
  handed_to_human: "With a person", reply_failed: "Reply failed", reply_withheld: "Withheld",
};

export function renderPhones(root, customers, journeys, say, setHandoff, announce) {
  setAttr(root, "data-count", Math.min(customers.length, 4));
  keyed(root, customers, (c) => c.address,
    (c) => createPhone(c, customers.indexOf(c), say, setHandoff),
    (phone, c) => updatePhone(phone, c, journeys, announce));
}

function createPhone(customer, index, say, setHandoff) {
  const phone = fromTemplate("phone");
  const form = $("form", phone);
  const input = $("input", phone);
  const address = customer.address;
  phone.dataset.testid = `phone-${address}`;
  setAttr(phone, "aria-label", `${customer.name || address}’s phone`);
  setAttr(input, "aria-label", `Message from ${customer.name || address}`);
  setAttr($(".thread", phone), "aria-label", `Conversation with ${customer.name || address}`);
  setAttr($(".switch", phone), "aria-label", `A person answers ${customer.name || address}`);
  follow($(".thread", phone));
  $(".avatar", phone).dataset.tint = String(index % 5);

  const attempt = async (text, kind) => {
    setText($(".wrong", phone), "");
    try {
      await say(address, text, kind);
    } catch (error) {
      setText($(".wrong", phone), `Not sent: ${error.message}`);
      if (text && !input.value) input.value = text;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value;
    if (!text.trim()) return;
    input.value = "";
    attempt(text, "text");
  });
  form.addEventListener("click", (event) => {
    const { kind, say: suggested } = event.target.closest("button")?.dataset ?? {};
    if (suggested) attempt(suggested, "text");
    else if (kind === "burst") alone(event.target.closest("button"), () => burst(BURSTS[index % BURSTS.length], attempt));
    else if (kind === "image") {
      const caption = input.value;
      input.value = "";
      attempt(caption, kind);
    } else if (kind) attempt("", kind);
  });
  const toggle = $(".switch", phone);
  toggle.addEventListener("click", () => alone(toggle, async () => {
    setText($(".wrong", phone), "");
    try {
      await setHandoff(toggle.dataset.conversation, toggle.getAttribute("aria-checked") !== "true");
    } catch (error) {
      setText($(".wrong", phone), `Not changed: ${error.message}`);
    }
  }));
  return phone;
}

// One at a time. Not by `disabled`, which loses the focus: to give it back would take it from what is
// typed by then.
async function alone(button, act) {
  if (button.getAttribute("aria-disabled") === "true") return;
  setAttr(button, "aria-disabled", "true");
  try {
    await act();
  } finally {
    setAttr(button, "aria-disabled", null);
  }
}

async function burst(texts, attempt) {
  for (const [i, text] of texts.entries()) {
    if (i) await new Promise((done) => setTimeout(done, BURST_GAP_MS));
    attempt(text, "text");
  }
}

function updatePhone(phone, customer, journeys, announce) {
  const name = customer.name || customer.address;
  setText($("h2", phone), name);
  setText($(".avatar", phone), initials(name));
  setText($(".address", phone), customer.address);
  setAttr($(".address", phone), "title", `${customer.address} writes to ${customer.business}`);
  const toggle = $(".switch", phone);
  setAttr(toggle, "aria-checked", customer.handoff ? "true" : "false");
  setAttr(toggle, "data-conversation", customer.conversation_id);
  setAttr(toggle, "title", customer.handoff ? "A person answers. Give it back to the AI" : "The AI answers. Hand over to a person");
  updateNotice($(".notice", phone), customer);
  updateThread($(".thread", phone), customer, announce);
  updateNow($(".now", phone), customer, journeys);
}

function updateNotice(notice, customer) {
  const text = customer.opted_out
    ? "Opted out with STOP. No AI reply until START."
    : customer.handoff ? "A person answers. The AI stays silent." : "";
  setText(notice, text);
  setAttr(notice, "data-kind", customer.opted_out ? "stop" : "person");
  notice.hidden = !text;
}

function updateThread(thread, customer, announce) {
  const first = thread.dataset.filled === undefined;
  let before = null;
  keyed(thread, customer.messages, (m) => m.sid, (m) => {
    if (!first && m.direction === "out") announce(`Reply to ${customer.name || customer.address}: ${m.text}`);
    return createBubble(m);
  }, (bubble, m) => {
    setAttr(bubble, "data-follows", before === m.direction);
    before = m.direction;
    updateBubble(bubble, m);
  });
  thread.dataset.filled = "";
  thread.followNewest();
}

// The newest message stays in sight, whatever else takes room, until somebody scrolls back.
function follow(thread) {
  let following = true;
  thread.followNewest = () => {
    if (following) thread.scrollTop = thread.scrollHeight;
  };
  thread.addEventListener("scroll", () => {
    following = thread.scrollHeight - thread.scrollTop - thread.clientHeight < 40;
  });
  new ResizeObserver(thread.followNewest).observe(thread);
}

function createBubble(message) {
  const bubble = fromTemplate("bubble");
  bubble.className = message.direction;
  bubble.dataset.testid = message.direction === "in" ? "bubble-in" : "bubble-out";
  return bubble;
}

function updateBubble(bubble, message) {
  setText($(".text", bubble), message.text);
  setText($("time", bubble), hourMinute(message.at));
  const by = $(".by", bubble);
  setText(by, message.person ? `Person: ${message.person}` : "");
  by.hidden = !message.person;
  setKind($(".kind", bubble), message.kind);
  const photo = $(".photo", bubble);
  photo.hidden = message.kind !== "image";
  if (!photo.hidden) setAttr(photo, "src", "picture.png");
  const [symbol, label] = TICKS[message.state] ?? ["t-one", message.state];
  const ticks = $(".ticks", bubble);
  setIcon(ticks, symbol);
  setAttr(ticks, "aria-label", label);
  setAttr(bubble, "data-state", message.state);
}

// One line over the keyboard: where this customer's newest turn is.
function updateNow(line, customer, journeys) {
  const own = journeys.filter((j) => bare(j.customer) === bare(customer.address) && !["replied", "handed_over", "withheld", "dropped", "failed"].includes(j.state));
  const doing = $(".doing", line);
  const clock = $(".clock", line);
  const turn = own.at(-1);
  setAttr(line, "data-state", turn ? turn.state : "idle");
  const step = turn?.steps.findLast((s) => s.state === "active" || s.state === "done");
  if (!step) {
    stopTicking(clock);
    setText(clock, "");
    setText(doing, STATUS[customer.status] ?? words(customer.status));
    return;
  }
  const messages = plural(turn.messages.length, "message");
  const [text, show] = {
    accepted: [`${messages} accepted`, null],
    window: [`Collecting · ${messages}`, (t) => (step.closes_at > t ? seconds(step.closes_at - t) : "")],
    claimed: [`Claimed · ${messages}`, null],
    model: step.state === "active"
      ? ["The model is answering", (t) => seconds(t - step.at)]
      : [`Model answered in ${duration(step.duration_ms)}`, null],
    sent: ["Sending", null],
    retry: ["Will try again", (t) => (step.until > t ? seconds(step.until - t) : "")],
  }[step.name] ?? [words(step.name), null];
  setText(doing, text);
  if (show) tick(clock, (t) => setText(clock, show(t)));
  else {
    stopTicking(clock);
    setText(clock, "");
  }
}

function initials(name) {
  const letters = name.split(/\s+/).filter((w) => /^\p{L}/u.test(w)).map((w) => [...w][0]);
  return (letters.length > 1 ? letters[0] + letters.at(-1) : letters[0] ?? "#").toUpperCase();
}
