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

const missing = (state, what) => state.conditions.some((one) => one.what === what && !one.ok);

function advice(state) {
  if (!state.running) return "out of order";
  if (state.open) return "please come in";
  if (state.fault) return "out of order: use the key";
  if (state.wait_s > 0) return `please wait ${Math.ceil(state.wait_s)} s`;
  if (state.face_off) return "type your code first";
  const unmet = state.conditions.find((one) => !one.ok);
  if (unmet && unmet.what === "second factor" && missing(state, "intent")) {
    return "press the button, then type your PIN or code";
  }
  const said = {
    "camera": "the camera sees nothing", "fresh": "look into the camera",
    "frames": "look into the camera", "span": "look into the camera",
    "recent": "look into the camera", "unused": "look into the camera",
    "continuous": "look into the camera", "eyes": "look into the camera",
    "one face": "one person only, please", "second factor": "type your PIN or code",
    "intent": "press the button",
  };
  return unmet ? said[unmet.what] || "locked" : "";
}

function show(state) {
  at("door").textContent = state.door;
  at("state").className = state.open ? "open" : "closed";
  at("word").textContent = state.open ? "open" : "locked";
  at("advice").textContent = advice(state);
  at("why").textContent = state.open ? "Why it opened" : "What must hold";
  const notices = [];
  if (state.demonstration) notices.push("demonstration: opens no real lock");
  if (state.fault) notices.push("fault");
  if (state.clock_doubt) notices.push(state.clock_doubt);
  at("notice").textContent = notices.join(" · ");
  at("conditions").replaceChildren(...state.conditions.map((one) => {
    const row = document.createElement("li");
    row.append(element("span", one.ok ? "✓" : "✗", one.ok ? "yes" : "no"));
    row.append(element("span", one.what));
    row.append(element("span", one.ok ? one.got : `${one.got}; wanted ${one.wanted}`));
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
    at("word").textContent = "locked";
    at("advice").textContent = "out of order: the door's program does not answer";
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
  const sent = await fetch("api/factor", { method: "POST", headers, body: code });
  const answer = await sent.json();
  at("answer").textContent = answer.accepted ? "code accepted" : answer.reason;
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
