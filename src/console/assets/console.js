// Refreshes each `data-live` part of the page while the tab is visible and updates are not paused.
// Without this script, a reload does the same.
"use strict";

for (const part of document.querySelectorAll("[data-live]")) {
  const seconds = Number(part.dataset.every) || 5;
  const pause = document.querySelector(`[data-pause="${part.id}"]`);
  let busy = false;

  // A part that has ended is not refreshed again.
  const ended = () => part.querySelector("[data-ended]") !== null;

  const refresh = async () => {
    if (ended()) return clearInterval(timer);
    const paused = pause !== null && pause.getAttribute("aria-pressed") === "true";
    if (busy || paused || document.hidden || part.contains(document.activeElement)) return;
    busy = true;
    try {
      const answer = await fetch(part.dataset.live, { redirect: "error" });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        part.replaceChildren(...fresh.body.childNodes);
        part.dataset.refreshed = String(Number(part.dataset.refreshed || 0) + 1);
      }
    } catch {
      // The gateway is unreachable, or the session has ended: the shown part stays.
    } finally {
      busy = false;
    }
  };

  if (pause !== null) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      const paused = pause.getAttribute("aria-pressed") === "true";
      pause.setAttribute("aria-pressed", String(!paused));
    });
  }
  const timer = setInterval(refresh, seconds * 1000);
}

// A checkbox that checks all others of its form.
for (const all of document.querySelectorAll("[data-check-all]")) {
  all.closest("label").hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(`input[name="${all.dataset.checkAll}"]`)) {
      box.checked = all.checked;
    }
  });
}

// A button that copies a text, if the browser allows it.
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", () => {
    const text = document.getElementById(button.dataset.copy);
    navigator.clipboard.writeText(text.value ?? text.innerText);
  });
}
