// Replaces the sections of the page that have changed, and says so when nobody answers any more.
(() => {
  "use strict";
  const ended = document.getElementById("ended");
  const served = new Map([...document.getElementById("live").children].map((part) => [part.id, part.outerHTML]));
  const scrolled = (part) => [...part.querySelectorAll(".scroll, figure > div")];

  function replace(part) {
    const old = document.getElementById(part.id);
    const text = part.outerHTML;
    if (served.get(part.id) === text) return;
    if (part.dataset.phantoms !== old.dataset.phantoms) location.reload();
    const places = scrolled(old).map((box) => box.scrollLeft);
    served.set(part.id, text);
    old.replaceWith(part);
    scrolled(part).forEach((box, index) => { box.scrollLeft = places[index] || 0; });
  }

  async function refresh() {
    try {
      const answer = await fetch("live");
      if (!answer.ok) throw new Error(answer.status);
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      [...fresh.content.children].forEach(replace);
      ended.hidden = true;
    } catch {
      ended.hidden = false;
    }
    setTimeout(refresh, 1000);
  }

  setTimeout(refresh, 1000);
})();
