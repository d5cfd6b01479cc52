// The conversations that people have: answer in them, hand them back.

import { $, clockTime, fromTemplate, keyed, setAttr, setText } from "./dom.js";
import { reason } from "./journeys.js";

const DELIVERY = {
  accepted: "Sent", unknown: "It may have been sent", partly_sent: "Sent in part", not_delivered: "Not delivered",
};

export function renderWaiting(root, items, nameOf, answer, setHandoff, announce) {
  const focused = document.activeElement;
  keyed(root, items, (w) => w.conversation_id, (w) => {
    announce(`${nameOf(w.address)} is with people`);
    return create(w, nameOf(w.address), answer, setHandoff);
  }, (row, w) => update(row, w, nameOf(w.address)));
  // A row that moves up loses it.
  if (root.contains(focused) && focused !== document.activeElement) focused.focus();
}

function create({ conversation_id: conversation }, name, answer, setHandoff) {
  const row = fromTemplate("waits");
  const form = $("form", row);
  const input = $("input", row);
  const send = $(".send", row);
  setAttr(form, "aria-label", `Answer ${name}`);
  setAttr(input, "aria-label", `Answer ${name} as a person`);
  setAttr(send, "aria-label", `Send the answer to ${name}`);

  let busy = false;
  const attempt = async (doing, act) => {
    if (busy) return;
    busy = true;
    setText($(".doing", row), doing);
    setText($(".wrong", row), "");
    try {
      setText($(".doing", row), await act());
    } catch (error) {
      setText($(".doing", row), "");
      setText($(".wrong", row), error.message);
    } finally {
      busy = false;
    }
  };

  input.addEventListener("input", () => {
    if (!busy) for (const note of [".doing", ".wrong"]) setText($(note, row), "");
  });
  // What is asked for once more has the same key: replyd sends it once.
  let asked = { text: "", key: "" };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value;
    if (!text.trim()) return;
    attempt("Sending", async () => {
      if (asked.text !== text) asked = { text, key: crypto.randomUUID() };
      const { delivery, why } = await answer(conversation, text, asked.key);
      asked = { text: "", key: "" };
      if (input.value === text) input.value = "";
      return [DELIVERY[delivery] ?? delivery, why].filter(Boolean).join(": ");
    });
  });
  $("[data-testid=hand-back]", row).addEventListener("click", () => attempt("Handing back", async () => {
    const list = row.closest(".scroll");
    await setHandoff(conversation, false);
    // The row goes, and the focus with it; unless the person is elsewhere by now.
    const focused = document.activeElement;
    if (focused === document.body || row.contains(focused)) list.focus();
    return "";
  }));
  return row;
}

function update(row, item, name) {
  setText($(".reason", row), item.taken_by ? `Taken over by ${item.taken_by}` : reason(item.reason || "requested"));
  setText($("strong", row), name);
  setText($(".text", row), item.text || "(has not written yet)");
  setText($("time", row), item.answered ? "answered" : clockTime(item.at));
  setAttr(row, "data-answered", item.answered);
  const summary = $(".summary", row);
  setText(summary, item.summary.replace(/\n+/g, "\n"));
  summary.hidden = !item.summary;
  setAttr(row, "title", `${item.address} · ${item.conversation_id}`);
}
