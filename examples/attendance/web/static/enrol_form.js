// The fields of a new person are shown when nobody is chosen.
"use strict";

const choice = document.getElementById("person");
const fields = document.getElementById("new-person");

function update() {
  fields.hidden = choice.value !== "";
}
choice.addEventListener("change", update);
update();
