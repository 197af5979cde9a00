"use strict";

const at = (id) => document.getElementById(id);
const headers = { "X-Edgeface-Panel": "1" };

// Text only: nothing that comes from the door is ever taken for HTML.
function element(tag, text, style) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

function show(state) {
  at("door").textContent = state.door;
  at("state").className = state.open ? "open" : "closed";
  at("word").textContent = state.open ? "open" : state.in_order ? "locked" : "out of order";
  at("advice").textContent = state.advice;
  at("notice").textContent = state.demonstration ? "demonstration: opens no real lock" : "";
  at("how").hidden = state.why.length > 0;
  at("why").hidden = state.why.length === 0;
  at("conditions").replaceChildren(...state.why.map((one) => {
    const row = document.createElement("li");
    row.append(element("span", "✓", "yes"), element("span", one.what), element("span", one.got));
    return row;
  }));
  at("entries").replaceChildren(...state.entries.map((one) => {
    const row = element("li", "", one.alarm ? "alarm" : "");
    row.append(element("time", one.time), element("span", one.what));
    return row;
  }));
  at("foot").textContent = `${state.lock}. To go out needs no software: use the handle.`;
}

async function refresh() {
  try {
    show(await (await fetch("api/state")).json());
  } catch {
    at("state").className = "closed";
    at("word").textContent = "out of order";
    at("advice").textContent = "the door's program does not answer: use the key";
  }
  setTimeout(refresh, 400);
}

async function press() {
  await fetch("api/press", { method: "POST", headers });
  at("press").classList.add("done");
  setTimeout(() => at("press").classList.remove("done"), 1500);
}

async function present(event) {
  event.preventDefault();
  const code = at("code").value;
  at("code").value = "";
  if (!code) return;
  at("answer").textContent = "…";
  const sent = await fetch("api/factor", { method: "POST", headers, body: code });
  const answer = await sent.json();
  at("answer").textContent = answer.advice;
  setTimeout(() => { at("answer").textContent = ""; }, 4000);
}

for (const key of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "⌫", "0", "OK"]) {
  const made = element("button", key);
  made.type = key === "OK" ? "submit" : "button";
  if (key === "⌫") {
    made.setAttribute("aria-label", "delete");
    made.onclick = () => { at("code").value = at("code").value.slice(0, -1); };
  } else if (key !== "OK") {
    made.onclick = () => { at("code").value = (at("code").value + key).slice(0, 12); };
  }
  at("keys").append(made);
}
at("press").onclick = press;
at("pad").onsubmit = present;
refresh();
