// Refreshes each `data-live` part of the page while the tab is visible and updates are not paused,
// and says how old the part is. Without this script, a reload does the same.
"use strict";

const MISSES_MAX = 2;
const two = (number) => String(number).padStart(2, "0");
const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;

// === Times: in the zone of the browser, with UTC in the tooltip ===

const zone = () => {
  const minutes = -new Date().getTimezoneOffset();
  const size = Math.abs(minutes);
  const rest = size % 60 ? `:${two(size % 60)}` : "";
  return minutes === 0 ? "UTC" : `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${rest}`;
};

const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

const formats = {
  "": (at) => `${day(at)} ${clock(at)}`,
  ms: (at) => `${day(at)} ${clock(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`,
  minute: (at) => clock(at).slice(0, 5),
  hour: (at) => `${day(at).slice(5)} ${clock(at).slice(0, 5)}`,
};

const localize = (root) => {
  if (zone() === "UTC") return;
  for (const time of root.querySelectorAll("time[data-local]")) {
    time.textContent = formats[time.dataset.local](new Date(time.dateTime));
  }
  // Tooltips of charts begin with their time.
  for (const title of root.querySelectorAll("title[data-at]")) {
    const at = formats[title.dataset.local](new Date(title.dataset.at));
    title.textContent = title.textContent.replace(/^.* UTC/, at);
  }
};

localize(document);
const note = document.getElementById("zone");
if (note !== null && zone() !== "UTC") {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  note.textContent = note.dataset.zone.replace("{zone}", `${name}, ${zone()}`);
}

// Times are sent in UTC, whatever the field shows.
if (zone() !== "UTC") {
  for (const field of document.querySelectorAll('input[type="datetime-local"]')) {
    const label = document.querySelector(`label[for="${field.id}"]`);
    label.textContent = label.textContent.replace("UTC", zone());
    const sent = document.createElement("input");
    sent.type = "hidden";
    sent.name = field.name;
    field.removeAttribute("name");
    field.after(sent);
    const given = new Date(`${field.value}Z`);
    if (!Number.isNaN(given.getTime())) field.value = `${day(given)}T${clock(given)}`;
    const write = () => {
      const at = new Date(field.value);
      sent.value = Number.isNaN(at.getTime()) ? "" : at.toISOString();
    };
    write();
    field.addEventListener("input", write);
  }
}

// The result of a form is said once: a reload or a bookmark does not say it again.
const here = new URL(location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
}

// === Live parts ===

for (const part of document.querySelectorAll("[data-live]")) {
  const seconds = Number(part.dataset.every) || 5;
  const pause = document.querySelector(`[data-pause="${part.id}"]`);
  const state = document.querySelector(`[data-state-of="${part.id}"]`);
  let busy = false;
  let misses = 0;
  let at = new Date();

  // What costs the gateway more is refreshed less often.
  const isEarly = () => new Date() - at < (Number(part.querySelector("[data-pace]")?.dataset.pace) - 0.5) * 1000;
  // A part that has ended is not refreshed again.
  const ended = () => part.querySelector("[data-ended]") !== null;
  const isPaused = () => pause !== null && pause.getAttribute("aria-pressed") === "true";

  // Says when the part was read, and whether it still is.
  const tell = (word) => {
    if (state === null) return;
    const text = state.dataset[`${word}Text`].replace("{}", clock(at));
    if (state.dataset.state !== word) state.dataset.state = word;
    if (state.textContent !== text) state.textContent = text;
    part.classList.toggle("stale", word === "lost" || word === "out");
    const alarm = document.querySelector(`[data-alarm="${part.id}"]`);
    const bad = word === "lost" || word === "out";
    if (alarm === null) return;
    const reason = bad ? state.dataset[`${word}Alarm`] : "";
    if (alarm.textContent !== reason) alarm.textContent = reason;
    alarm.hidden = !bad;
  };

  // A button or a link that is replaced between press and release is not clicked.
  let pressed = false;
  part.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { pressed = false; });

  // Typing, selecting and clicking are not interrupted.
  const isUsed = () => {
    const active = document.activeElement;
    const types = active !== null && part.contains(active) && active.matches("input, select, textarea");
    const chosen = document.getSelection();
    return pressed || types || (chosen !== null && !chosen.isCollapsed && part.contains(chosen.anchorNode));
  };

  const missed = (word) => {
    misses += 1;
    part.dataset.missed = String(misses);
    if (misses >= MISSES_MAX || word === "out") tell(word);
  };

  const refresh = async () => {
    if (ended()) return clearInterval(timer);
    if (isPaused()) return tell("paused");
    if (busy || document.hidden || isUsed() || isEarly()) return;
    busy = true;
    try {
      const signal = AbortSignal.timeout(Math.max(seconds, 5) * 1000);
      const answer = await fetch(part.dataset.live, { redirect: "manual", signal });
      if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) return missed("out");
      if (!answer.ok) return missed("lost");
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (isUsed()) return;
      const open = [...part.querySelectorAll("details")].map((one) => one.open);
      const focused = [...part.querySelectorAll("a, button, summary, [tabindex]")].indexOf(document.activeElement);
      part.replaceChildren(...fresh.body.childNodes);
      part.querySelectorAll("details").forEach((one, at) => { one.open = open[at] === true; });
      if (focused >= 0) [...part.querySelectorAll("a, button, summary, [tabindex]")][focused]?.focus({ preventScroll: true });
      localize(part);
      part.dataset.refreshed = String(Number(part.dataset.refreshed || 0) + 1);
      at = new Date();
      misses = 0;
      tell("live");
    } catch {
      missed("lost");
    } finally {
      busy = false;
    }
  };

  if (pause !== null) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      pause.setAttribute("aria-pressed", String(!isPaused()));
      if (isPaused()) tell("paused");
      else refresh();
    });
  }
  const timer = setInterval(refresh, seconds * 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  if (!ended()) tell("live");
}

// === Controls ===

// On a phone, filters that are not used are folded: the list is what counts.
if (matchMedia("(max-width: 40rem)").matches) {
  for (const filters of document.querySelectorAll("details.filters:not([data-used])")) filters.open = false;
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

// Copies a text, if the browser allows it, and says so.
const copy = async (button, text) => {
  const said = document.getElementById("said");
  try {
    await navigator.clipboard.writeText(text.value ?? text.textContent);
    said.textContent = said.dataset.copied;
    button.classList.add("copied");
    setTimeout(() => { said.textContent = ""; button.classList.remove("copied"); }, 2000);
  } catch {
    document.getSelection().selectAllChildren(text);
  }
};

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", () => copy(button, document.getElementById(button.dataset.copy)));
}

// A button beside each value of a list, which copies it.
if (navigator.clipboard) {
  for (const list of document.querySelectorAll("[data-copies]")) {
    for (const value of list.querySelectorAll("dd > bdi.value:only-child, dd > a:only-child > bdi.value")) {
      if (["", "***"].includes(value.textContent)) continue;
      const name = value.closest("dd").previousElementSibling;
      const button = document.createElement("button");
      const word = list.dataset.copies.replace("{}", name.innerText);
      button.type = "button";
      button.className = "copy";
      button.title = word;
      button.setAttribute("aria-label", word);
      button.addEventListener("click", () => copy(button, value));
      (value.closest("a") ?? value).after(" ", button);
    }
  }
}

// The box that takes anything: `/` goes to it, Enter sends it, and it grows with what is pasted.
const find = document.getElementById("find");
if (find !== null) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    find.focus();
    find.select();
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "Escape") find.blur();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find.form.requestSubmit();
  });
}
