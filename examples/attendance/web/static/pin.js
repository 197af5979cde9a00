// A pad of keys for screens without a keyboard; the page clears itself for the next person.
"use strict";

const CLEAR_MS = 6000;
const pad = document.getElementById("pad");
const form = document.getElementById("pin-form");

if (document.getElementById("greeting")) setTimeout(() => location.assign("/pin"), CLEAR_MS);

function press(key) {
  const field = form.contains(document.activeElement) && document.activeElement.matches(".digits") ? document.activeElement : current;
  if (key === "⌫") field.value = field.value.slice(0, -1);
  else if (field.value.length < field.maxLength) field.value += key;
}

let current = null;
if (form && matchMedia("(pointer: coarse)").matches) {
  const fields = form.querySelectorAll(".digits");
  current = fields[0];
  for (const field of fields) {
    field.inputMode = "none"; // the pad takes the place of the screen's own keyboard
    field.addEventListener("focus", () => { current = field; });
  }
  for (const key of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "⌫", "0", "↓"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.textContent = key;
    if (key === "⌫") button.setAttribute("aria-label", pad.dataset.delete);
    if (key === "↓") button.setAttribute("aria-label", pad.dataset.next);
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      if (key === "↓") (current === fields[0] ? fields[1] : fields[0]).focus();
      else press(key);
    });
    pad.append(button);
  }
  pad.hidden = false;
  current.focus();
}
