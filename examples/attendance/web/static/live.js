// Keeps parts of a page up to date: an event says that something changed, the part is asked for anew.
"use strict";

const REFRESH_MS = 30000;
const CAMERAS_MS = 5000;
const state = document.getElementById("state");

function say(kind) {
  state.className = `state ${kind === "on" ? "on" : "lost"}`;
  const text = state.dataset[kind];
  if (state.textContent !== text) state.textContent = text;
}

async function refresh(id) {
  const part = document.getElementById(id);
  if (!part || document.hidden) return;
  try {
    const answer = await fetch(part.dataset.source, { credentials: "same-origin" });
    if (answer.status === 401) return signedOut();
    if (!answer.ok) return;
    const text = await answer.text();
    if (part.dataset.shown === text) return;
    part.dataset.shown = text;
    exchange(part, text);
  } catch {
    say("lost");
  }
}

// What is read out is what was not there before: rows that stay are kept as they are.
function exchange(part, text) {
  const fresh = document.createElement("div");
  fresh.innerHTML = text; // from this server, which escapes every name
  const old = part.querySelector(".feed");
  const now = fresh.querySelector(".feed");
  if (!old || !now) {
    part.replaceChildren(...fresh.childNodes);
    return;
  }
  const known = new Map([...old.children].map((row) => [row.textContent, row]));
  old.replaceChildren(...[...now.children].map((row) => known.get(row.textContent) || row));
}

function everything() {
  for (const id of ["now", "feed", "cameras"]) refresh(id);
}

function signedOut() {
  say("signedOut");
  events.close();
  location.assign("/login");
}

const events = new EventSource("/live/events");
events.addEventListener("open", () => say("on"));
events.addEventListener("error", () => {
  say("lost");
  refresh("now"); // says whether the login is over
});
events.addEventListener("change", everything);
setInterval(everything, REFRESH_MS);
setInterval(() => refresh("cameras"), CAMERAS_MS);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) everything();
});
