// What the pages do beside htmx. No address and no text of a page is ever made a script.
"use strict";

const [MINUTE, LONG] = [60_000, 600_000]; // milliseconds
let touched = Date.now(), polled = Date.now(), seen = 0, renewing, isPressed = false, isLate = false;

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await copied(button.dataset.copy);
  button.own ??= button.innerHTML; // what it says; a second click comes while it says something else
  button.textContent = "Copied";
  setTimeout(() => { button.innerHTML = button.own; }, 1200);
});

// Why something cannot be shown stands where it would; what renews itself elsewhere stays as it is, and asks again.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (detail.isError && ["main", "plan"].includes(detail.target.id)) detail.shouldSwap = true;
});

// A plan is of what was picked then: it goes when that changes, and when what it is of has begun.
for (const name of ["change", "htmx:afterRequest"]) {
  document.addEventListener(name, ({ target, detail }) => {
    const plan = document.querySelector("#plan");
    const hasBegun = plan?.contains(target) && detail.successful;
    if (name === "change" ? target.form?.id === "pick" : hasBegun) plan.replaceChildren();
  });
}

// A page that is hidden asks for nothing, but for jobs that run: those each minute, so that a hub sees that they do.
// Nor does one that shows what a machine does, once nobody has touched it for ten minutes.
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt, requestConfig } = event.detail;
  if (requestConfig.triggeringEvent || !elt.matches("[hx-trigger^=every]")) return;
  const now = Date.now(), isOfJobs = elt.id === "jobs";
  const isUntouched = elt.id === "live" && now - touched >= LONG;
  if (document.hidden ? !isOfJobs || now - polled < MINUTE : isUntouched) event.preventDefault();
  else if (isOfJobs) polled = now;
});
for (const name of ["pointermove", "pointerdown", "wheel", "keydown"]) {
  document.addEventListener(name, () => { touched = Date.now(); }, { passive: true });
}

// What is shown follows what jobs do (the server says when), and what happened while somebody was elsewhere.
document.addEventListener("state-changed", renew);
for (const [place, name] of [[document, "visibilitychange"], [window, "focus"]]) {
  place.addEventListener(name, () => {
    if (document.hidden || Date.now() - seen < 1000) return;
    seen = touched = Date.now();
    document.dispatchEvent(new Event("seen"));
    renew();
  });
}

document.addEventListener("pointerdown", () => { isPressed = true; }, { passive: true });
for (const name of ["pointerup", "pointercancel"]) {
  document.addEventListener(name, () => {
    isPressed = false;
    if (isLate) setTimeout(renew); // after the click
    isLate = false;
  }, { passive: true });
}

// Only what can change is put in anew: what is picked, typed, open or has the focus stays.
async function renew() {
  renewing?.abort();
  const { signal } = renewing = new AbortController(), page = location.href;
  for (const part of [document.querySelector("#main"), ...document.querySelectorAll("[data-from]")]) {
    try {
      const answer = await fetch(part.dataset.from ?? page, { headers: { "HX-Request": "true" }, signal });
      const text = await answer.text();
      if (isPressed) { isLate = true; return; } // what is put in anew between press and release is not clicked
      if (answer.status === 200 && location.href === page) replaced(part, text);
    } catch { return; } // another page is about to be shown, or the server is gone
  }
}

function replaced(part, text) {
  const found = new DOMParser().parseFromString(text, "text/html");
  const own = part.dataset.from ? part : null;
  for (const old of part.querySelectorAll("[data-live]")) {
    const now = old.closest("[data-from]") === own ? found.getElementById(old.id) : null;
    if (!now || now.isEqualNode(old)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
    old.replaceWith(document.adoptNode(now));
    htmx.process(now);
    if (focused !== null) (document.getElementById(focused) ?? document.querySelector("#main")).focus();
  }
}

// The clipboard's own interface exists on https and on localhost alone; elsewhere a selection is copied.
async function copied(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
