// Finds people by a part of their name.
"use strict";

const search = document.getElementById("search");
const tiles = document.getElementById("tiles");
const none = document.getElementById("none");

if (tiles) {
  search.parentElement.hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLocaleLowerCase();
    let shown = 0;
    for (const tile of tiles.children) {
      tile.hidden = !tile.querySelector("strong").textContent.toLocaleLowerCase().includes(wanted);
      if (!tile.hidden) shown += 1;
    }
    none.hidden = shown > 0;
  });
}
