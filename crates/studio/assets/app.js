// What every page shares: live events, copy buttons, times, colours.
"use strict";

const announce = (text) => {
  const line = document.getElementById("status");
  if (line) line.textContent = text;
};

// --- live events ------------------------------------------------------------------------------
// htmx repeats each named message as an event of `#live`, which elements name in hx-trigger.
// What has no name is not ours, and must never be swapped into the page as HTML.
document.addEventListener("htmx:sse:before:message", (event) => {
  const { message } = event.detail;
  if (!message.event) return event.preventDefault();
  if (message.event !== "block") return;
  let number = null;
  try { number = JSON.parse(message.data).number; } catch { /* nothing to show */ }
  if (number == null) return;
  for (const place of document.querySelectorAll('[data-live="block"]')) {
    place.textContent = Number(number).toLocaleString("en").replaceAll(",", "\u202f");
  }
});

// --- copy -------------------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("done");
    announce("Copied");
    setTimeout(() => button.classList.remove("done"), 1200);
  } catch {
    announce("Copying was refused by the browser");
  }
});

// --- times ------------------------------------------------------------------------------------
const ago = (seconds) => {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  if (seconds < 172800) return "yesterday";
  return `${Math.floor(seconds / 86400)} days ago`;
};
const times = () => {
  const now = Math.floor(Date.now() / 1000);
  for (const time of document.querySelectorAll("time[data-time]")) {
    const text = ago(Math.max(0, now - Number(time.dataset.time)));
    if (time.textContent !== text) time.textContent = text;
  }
};
setInterval(times, 10000);

// --- colours ----------------------------------------------------------------------------------
const themes = { "": "as the system", light: "light", dark: "dark" };
const theme = document.querySelector("[data-theme-button]");
const label = () => theme.setAttribute("aria-label", `Colours: ${themes[document.documentElement.dataset.theme ?? ""]}`);
theme?.addEventListener("click", () => {
  const root = document.documentElement;
  const names = Object.keys(themes);
  const next = names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  try { next ? localStorage.setItem("theme", next) : localStorage.removeItem("theme"); } catch { /* not kept */ }
  label();
  announce(`Colours: ${themes[next]}`);
});

// --- forms that take a while ------------------------------------------------------------------
document.addEventListener("submit", (event) => {
  const busy = event.target.dataset?.busy;
  if (!busy || !event.submitter) return;
  const button = event.submitter;
  // After the browser has read the button's value.
  setTimeout(() => { button.disabled = true; button.textContent = busy; announce(busy); });
});

// --- after each swap --------------------------------------------------------------------------
// Controls that only work with scripts are hidden until here.
const awaken = () => {
  for (const button of document.querySelectorAll("[data-copy][hidden], [data-pick][hidden]")) button.hidden = false;
};
if (theme) { theme.hidden = false; label(); }
awaken();
document.addEventListener("htmx:after:swap", awaken);
document.addEventListener("htmx:after:settle", awaken);
document.addEventListener("htmx:response:error", ({ detail }) => announce(`The node answered ${detail.ctx.response.status}`));
document.addEventListener("htmx:error", () => announce("The node did not answer"));
