// What a page cannot do without script: copying, times in the reader's own zone, following a log.

const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const words = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

function relative(date) {
  const seconds = (date - Date.now()) / 1000;
  const size = Math.abs(seconds);
  if (size < 5) return "now";
  if (size < 60) return words.format(Math.round(seconds), "second");
  if (size < 3600) return words.format(Math.round(seconds / 60), "minute");
  if (size < 86400) return words.format(Math.round(seconds / 3600), "hour");
  return words.format(Math.round(seconds / 86400), "day");
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    const full = zone.format(date);
    const text = "relative" in time.dataset ? relative(date) : full;
    if (time.textContent !== text) time.textContent = text;
    time.title = full;
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
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
    said.textContent = "Copied to the clipboard";
  } catch {
    // Without permission, or over plain HTTP: select it, so that Ctrl+C does.
    getSelection().selectAllChildren(source);
    said.textContent = "Selected: press Ctrl+C to copy";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

// Escape closes a confirmation or a menu and gives the focus back.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest("details:is(.confirm, .menu)[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

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

// A double click sends one form.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented) return;
  setTimeout(() => (button.disabled = true));
  setTimeout(() => (button.disabled = false), 5000);
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
  followPage();
}).observe(document.documentElement, { childList: true, subtree: true });
setInterval(tellTimes, 5000);
tellTimes();
followLogs();
followPage();
