// Loads the page again when somebody comes or goes, unless something is being typed or open.
"use strict";

const events = new EventSource("/live/events");
events.addEventListener("change", () => {
  if (!document.querySelector("details[open]") && !document.activeElement.matches("input, select")) location.reload();
});
window.addEventListener("pagehide", () => events.close());
