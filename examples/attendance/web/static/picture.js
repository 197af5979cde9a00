// The live picture: begun once the page is there, stopped while nobody sees it, begun again when it broke.
"use strict";

const AGAIN_MS = 3000;
const picture = document.getElementById("picture");

function begin() {
  const address = picture.dataset.stream;
  picture.src = `${address}${address.includes("?") ? "&" : "?"}at=${Date.now()}`;
}

if (picture) {
  window.addEventListener("load", () => setTimeout(begin, 0));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) picture.src = "/static/blank.svg";
    else begin();
  });
  picture.addEventListener("error", () => {
    picture.src = "/static/blank.svg";
    if (!document.hidden) setTimeout(begin, AGAIN_MS);
  });
}
