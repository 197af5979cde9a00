// The display on the wall: clock, who is in, and a ring around who has just come.
"use strict";

const part = document.getElementById("people");
const state = document.getElementById("state");
const clock = document.getElementById("clock");

function keys() {
  return new Set([...part.querySelectorAll("[data-key]")].map((one) => one.dataset.key));
}

async function refresh() {
  try {
    const answer = await fetch(part.dataset.source);
    if (!answer.ok) return;
    const before = keys();
    const text = await answer.text();
    if (part.dataset.shown === text) return;
    part.dataset.shown = text;
    part.innerHTML = text; // from this server, which escapes every name
    for (const one of part.querySelectorAll("[data-key]")) {
      if (!before.has(one.dataset.key)) one.classList.add("fresh");
    }
  } catch {
    lost();
  }
}

function lost() {
  state.className = "state lost";
  state.textContent = state.dataset.lost;
}

const events = new EventSource("/display/events");
events.addEventListener("open", () => {
  state.className = "state";
  state.textContent = "";
  refresh();
});
events.addEventListener("error", lost);
events.addEventListener("change", refresh);
setInterval(refresh, 60000);
// At midnight the date changes, and with it the page.
setInterval(() => location.reload(), 3600000);

const format = new Intl.DateTimeFormat("de", { hour: "2-digit", minute: "2-digit", timeZone: clock.dataset.zone });
setInterval(() => { clock.textContent = format.format(new Date()); }, 1000);
