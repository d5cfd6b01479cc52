// Small helpers: text and attributes change only when they differ, lists keep their elements, so
// that focus, selection, scrolling and half-typed text survive every update.

export const $ = (selector, root = document) => root.querySelector(selector);

export function fromTemplate(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function setText(element, text) {
  const value = String(text ?? "");
  if (element.textContent !== value) element.textContent = value;
}

export function setAttr(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

export function setIcon(svg, symbol) {
  setAttr(svg.firstElementChild, "href", `#${symbol}`);
}

/** The sign in front of what is not text. */
export function setKind(svg, kind) {
  const known = ["location", "image", "voice"].includes(kind);
  setAttr(svg, "hidden", known ? null : "");
  if (known) setIcon(svg, `i-${kind}`);
}

/** One child of `parent` per item, in order; a child is found again by its item's key. */
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.children_by_key ??= new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, element] of known) {
    if (!wanted.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = known.get(key);
    if (element === undefined) {
      element = create(item);
      known.set(key, element);
    }
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
    update(element, item);
  }
}

// --- time -------------------------------------------------------------------------------------

let ahead = 0;
const ticking = new Map();

/** The server's clock: the page's may differ. */
export const now = () => Date.now() + ahead;

export function setServerTime(ms) {
  ahead = ms - Date.now();
}

/** Call `show(now)` at once and ten times a second until `element` is stopped or removed. */
export function tick(element, show) {
  ticking.set(element, show);
  show(now());
}

export function stopTicking(element) {
  ticking.delete(element);
}

setInterval(() => {
  const time = now();
  for (const [element, show] of ticking) {
    if (element.isConnected) show(time);
    else ticking.delete(element);
  }
}, 100);

// --- words ------------------------------------------------------------------------------------

const hm = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const hms = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const hourMinute = (ms) => hm.format(ms);
export const clockTime = (ms) => hms.format(ms);

/** 38 ms, 2.4 s, 3 min 5 s */
export function duration(ms) {
  if (ms < 995) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 99_950) return seconds(ms);
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export const seconds = (ms) => `${(Math.max(0, ms) / 1000).toFixed(1)} s`;

/** `ai_response_sent` as a person reads it. */
export function words(name) {
  const text = String(name ?? "").replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** An address without its channel's prefix. */
export const bare = (address) => String(address ?? "").replace(/^whatsapp:/, "");

export const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
