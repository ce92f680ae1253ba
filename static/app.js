// What a page cannot do without script: copying, times in the reader's own zone, following a log.

// A link to a part of a page that is a tab by now goes on to the tab.
function followMoved() {
  const tab = document.querySelector(".tabs :target")?.closest("a");
  if (tab) location.replace(tab.href + location.hash);
}
followMoved();
addEventListener("hashchange", followMoved);

// What was done is said once, and not again when the page is reloaded, kept or gone back to.
const address = new URL(location);
if (address.searchParams.has("said")) {
  address.searchParams.delete("said");
  history.replaceState(history.state, "", address);
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const withZone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
// In the words of the sentences around it, which are English.
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function relative(date) {
  const seconds = Math.round((date - Date.now()) / 1000);
  const minutes = Math.round(seconds / 60), hours = Math.round(minutes / 60);
  if (Math.abs(seconds) < 5) return "now";
  if (Math.abs(seconds) < 60) return words.format(seconds, "second");
  if (Math.abs(minutes) < 60) return words.format(minutes, "minute");
  if (Math.abs(hours) < 24) return words.format(hours, "hour");
  return words.format(Math.round(hours / 24), "day");
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    const text = "relative" in time.dataset ? relative(date) : local.format(date);
    if (time.textContent !== text) time.textContent = text;
    time.title = withZone.format(date);
  }
}

function followLogs() {
  for (const log of document.querySelectorAll("[data-follow]")) {
    const isAtEnd = log.dataset.followed === undefined || log.dataset.atEnd === "yes";
    log.dataset.followed = "";
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }
}

document.addEventListener("scroll", (event) => {
  const log = event.target;
  if (!log.dataset || !("follow" in log.dataset)) return;
  log.dataset.atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 20 ? "yes" : "no";
}, true);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const said = document.getElementById("said");
  let isCopied = true;
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Without permission, or over plain HTTP, as a machine on one's own network is reached: the old way.
    getSelection().selectAllChildren(source);
    isCopied = document.execCommand("copy");
  }
  if (isCopied) button.textContent = "Copied";
  said.textContent = isCopied
    ? "Copied to the clipboard"
    : "Selected: copy it as you copy any text";
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

// Ticks all of a page, or none when all are; says how many are.
const boxes = (name) => [...document.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
function tellTicked() {
  for (const place of document.querySelectorAll("[data-ticked]")) {
    const ticked = boxes(place.dataset.ticked).filter((box) => box.checked).length;
    const text = ticked ? `${ticked} selected` : "";
    if (place.textContent !== text) place.textContent = text;
  }
}
document.addEventListener("change", tellTicked);
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-tick]");
  if (!link) return;
  event.preventDefault();
  const all = boxes(link.dataset.tick);
  const isTicked = all.some((box) => !box.checked);
  for (const box of all) box.checked = isTicked;
  tellTicked();
});

// Whoever ticks one of a list means those that are ticked.
document.addEventListener("change", ({ target }) => {
  const choice = document.getElementById(target.dataset.chooses);
  if (choice) choice.checked = true;
});

// Escape closes a confirmation or a menu and gives the focus back.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest("details:is(.confirm, .menu)[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// So does a click beside a menu, or the focus that goes on from it.
for (const name of ["click", "focusin"]) {
  document.addEventListener(name, ({ target }) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.open = false;
    }
  });
}

// Enter sends a message, Shift+Enter begins a line; not while a character is being composed.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  const field = event.target;
  // On a touch keyboard there is no Shift+Enter: Enter begins a line, and the button sends.
  if (!("enterSends" in (field.dataset ?? {})) || matchMedia("(pointer: coarse)").matches) return;
  event.preventDefault();
  if (field.value.trim()) field.form.requestSubmit();
});

// An answer that comes is followed as long as its reader is at the end of the page.
let isAtEnd = true;
addEventListener("scroll", () => {
  isAtEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 80;
}, { passive: true });

function followPage() {
  if (isAtEnd && document.querySelector("[data-follow-page]")) {
    scrollTo({ top: document.documentElement.scrollHeight });
  }
}

// A whole answer is read out once it is there, not each word as it comes.
let turnState = /^#turn-/.test(location.hash) ? "running" : undefined;
function tellAnswer() {
  const turn = [...document.querySelectorAll(".turn")].at(-1);
  const state = turn?.dataset.turn;
  if (turnState && turnState !== "done" && state === "done") {
    const answer = [...turn.querySelectorAll(".markdown")].at(-1)?.cloneNode(true);
    for (const button of answer?.querySelectorAll("button") ?? []) button.remove();
    document.getElementById("heard").textContent = answer?.textContent.trim().slice(0, 2000) ?? "";
  }
  turnState = state;
}

// Behind a form of a conversation the keyboard goes on where one would: at what does not hold, at what can be
// attached, at what is asked, or at the next message. Not where that opens a keyboard on the screen.
if (document.querySelector(".conversation") && !matchMedia("(pointer: coarse)").matches) {
  const places = [
    ".conversation [aria-invalid=true]",
    "#composer fieldset input",
    ...(/^#turn-/.test(location.hash)
      ? [
        "#questions :is(input:not([type=hidden]), select, textarea, a.button)",
        ".decision button",
        "#composer [data-enter-sends]",
      ]
      : []),
  ];
  // Going to a part of the page takes the focus there first.
  addEventListener("load", () =>
    setTimeout(() => {
      if (document.activeElement !== document.body) return;
      const next = places.map((place) => document.querySelector(place)).find(Boolean);
      next?.focus({ preventScroll: /^#turn-/.test(location.hash) });
    }));
}

// What does not hold has the focus, with what is said of it: beside its field or over the form. So has what is
// shown once.
function goToMistake(place) {
  const mistake = place.querySelector("[aria-invalid=true]") ??
    place.querySelector(".mistake[role=alert]:not(:empty), .notice[role=alert]");
  if (!mistake || place.querySelector("[data-passkey]")?.contains(mistake)) return;
  for (let at = mistake.closest("details"); at; at = at.parentElement.closest("details")) {
    at.open = true;
  }
  if (mistake.matches("[role=alert]")) mistake.tabIndex = -1;
  mistake.focus();
}
// Going to a part of the page takes the focus there first.
addEventListener("load", () => setTimeout(() => goToMistake(document.getElementById("main"))));

// A row that is removed takes its button along, which had the focus.
let sender;
document.addEventListener("htmx:before:swap", ({ detail }) => (sender = detail.ctx.sourceElement));
document.addEventListener("htmx:after:swap", ({ detail }) => {
  // A live update moves nobody's focus.
  if (!sender?.matches("form, button")) return;
  goToMistake(document.getElementById(detail.ctx.target?.id) ?? document.body);
  if (document.activeElement === document.body) {
    document.getElementById(sender.dataset.next)?.focus();
  }
});

// What does not come, or is no part of this page, leaves what is typed alone: it is told beside the button.
let told;
function tellTrouble({ sourceElement, request }, words) {
  const form = sourceElement.closest("form") ?? document.getElementById("main");
  const button = request?.submitter ?? (sourceElement.matches("button") ? sourceElement : null);
  told?.remove();
  told = document.createElement("p");
  told.className = "notice bad";
  told.setAttribute("role", "alert");
  if (!button || button.matches(".hidden")) form.prepend(told);
  else (button.closest(".acts") ?? button).before(told);
  told.textContent = words;
  told.scrollIntoView({ block: "nearest" });
}

function troubleOf(status, text) {
  if (status === 401) {
    return "Your session is over, so nothing was done. Sign in in another tab, then try again: " +
      "what you typed is still here.";
  }
  const main = new DOMParser().parseFromString(text, "text/html").querySelector("main");
  const said = [...main?.querySelectorAll("h1, p") ?? []].map((each) => each.textContent.trim());
  return said.slice(0, 2).join(": ") || `Mooring did not take this (${status}). Try again.`;
}

// A button that could not be pressed twice meanwhile has lost the focus by that.
document.addEventListener("htmx:finally:request", ({ detail }) => {
  const button = detail.ctx.request?.submitter;
  setTimeout(() => {
    if (document.activeElement === document.body) button?.focus({ preventScroll: true });
  });
});

const isStream = (element) => element.hasAttribute("hx-sse:connect");
document.addEventListener("htmx:before:request", () => told?.remove());
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail, { status } = ctx.response;
  if (status < 400 || (status === 422 && !/^<!doctype/i.test(ctx.text))) return;
  event.preventDefault();
  if (isStream(ctx.sourceElement)) beginAgain(ctx.sourceElement, status);
  else tellTrouble(ctx, troubleOf(status, ctx.text));
});
document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
  if (!ctx) return;
  if (isStream(ctx.sourceElement)) return beginAgain(ctx.sourceElement);
  tellTrouble(ctx, "Mooring could not be reached. What you typed is still here: try again.");
});

// Whether the page is kept up to date is told, since one that is not looks the same.
const broken = new Map();
function tellStreams() {
  for (const stream of broken.keys()) if (!stream.isConnected) broken.delete(stream);
  const isOver = [...broken.values()].includes(401);
  const said = broken.size === 0
    ? ""
    : isOver
    ? "Your session is over, so this page is not kept up to date. Reload it to sign in."
    : "Mooring cannot be reached, so this page may be out of date. It tries again by itself.";
  const place = document.getElementById("stale");
  if (place.textContent !== said) place.textContent = said;
}
function breaksOff(stream, status = 503) {
  // What is gone is told by the page itself.
  if (status < 500 && status !== 401) return;
  broken.set(stream, status);
  // Most are back before one would have read of it, as when Mooring is started anew.
  setTimeout(tellStreams, 3000);
}
/** htmx connects again where a stream breaks off, and not where it never began. */
function beginAgain(stream, status = 503) {
  breaksOff(stream, status);
  if (status < 500) return;
  setTimeout(() => {
    const address = stream.getAttribute("hx-sse:connect");
    if (stream.isConnected) globalThis.htmx.ajax("GET", address, { source: stream });
  }, 5000);
}
document.addEventListener("htmx:sse:error", ({ target, detail }) => {
  breaksOff(target, detail.status);
});
document.addEventListener("htmx:sse:after:connection", ({ target }) => {
  broken.delete(target);
  tellStreams();
});

// A double click sends one form.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented) return;
  setTimeout(() => (button.disabled = true));
  setTimeout(() => (button.disabled = false), 5000);
});

// A list of things to tick: found by their words, and counted with what they cost a model.
for (const field of document.querySelectorAll(".needs-script")) field.hidden = false;

document.addEventListener("input", (event) => {
  if (!("filter" in event.target.dataset)) return;
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const group of document.querySelectorAll(".group")) {
    let isFound = false;
    for (const item of group.querySelectorAll("[data-operation]")) {
      item.hidden = !words.every((word) => item.dataset.operation.includes(word));
      isFound ||= !item.hidden;
    }
    group.hidden = !isFound;
    if (words.length > 0 && isFound) group.open = true;
  }
});

// Once more: those that are shown are unticked again.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-tick]");
  if (!button) return;
  const boxes = [...button.parentElement.querySelectorAll("[data-operation]:not([hidden]) input")]
    .filter((box) => !box.disabled);
  const isTicking = boxes.some((box) => !box.checked);
  for (const box of boxes) box.checked = isTicking;
  boxes[0]?.dispatchEvent(new Event("change", { bubbles: true }));
});

document.addEventListener("change", (event) => {
  if (!("tokens" in event.target.dataset)) return;
  const ticked = [...document.querySelectorAll("input[data-tokens]:checked")];
  const tokens = ticked.reduce((sum, { dataset }) => sum + Number(dataset.tokens), 0);
  document.querySelector("[data-choice]").textContent =
    `${ticked.length} operation${ticked.length === 1 ? "" : "s"} chosen: about ` +
    `${tokens.toLocaleString("en")} tokens for a model.`;
});

for (const name of ["DOMContentLoaded", "htmx:after:swap", "htmx:afterSwap", "htmx:after:settle"]) {
  document.addEventListener(name, () => {
    tellTimes();
    followLogs();
  });
}
new MutationObserver(() => {
  tellTimes();
  followLogs();
  tellTicked();
  tellAnswer();
  followPage();
}).observe(document.documentElement, {
  childList: true,
  subtree: true,
  attributeFilter: ["data-turn"],
});
setInterval(tellTimes, 5000);
tellTimes();
followLogs();
tellTicked();
followPage();
tellAnswer();
