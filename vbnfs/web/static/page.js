// What the pages do beside htmx. No address and no text of a page is ever made a script.
"use strict";

const [MINUTE, LONG] = [60_000, 600_000]; // milliseconds
const ALL = "all";
const GONE = "'vbnfs web' does not answer: what stands here is of before. It has ended, or the way to it has"
  + " (a tunnel, a proxy). Start it again, and open the address that it prints.";
let touched = Date.now(), polled = Date.now(), seen = 0, renewing, lacking = null;
let isPressed = false, saying = 0, isLate = false; // `saying`: how many buttons say that they have copied

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await copied(button.dataset.copy);
  button.own ??= button.innerHTML; // what it says; a second click comes while it says something else
  button.textContent = "Copied";
  saying += 1;
  setTimeout(() => {
    button.innerHTML = button.own;
    saying -= 1;
    catchUp();
  }, 1200);
});

// Why a page or a plan cannot be shown stands where it would.
// What is put in anew between press and release is not clicked: a poll's answer is passed over, the next one counts.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { triggeringEvent } = detail.requestConfig;
  if (detail.isError && ["main", "plan"].includes(detail.target.id)) detail.shouldSwap = true;
  if (isPressed && (triggeringEvent?.type === "seen" || isPoll(detail.requestConfig))) {
    detail.shouldSwap = false;
    if (triggeringEvent) isLate = true;
  }
});

// What else has no answer is said above the page, until it has one, or something else that somebody asks for has.
// `lacking` is what has none: null for nothing, ALL where the server is gone, or does not know this browser.
document.addEventListener("htmx:sendError", () => say(ALL, GONE));
document.addEventListener("htmx:afterRequest", ({ detail: { xhr, target, requestConfig, successful, failed } }) => {
  const what = `${requestConfig.verb} ${requestConfig.path.split("?")[0]}`;
  if (failed && !["main", "plan"].includes(target.id)) refused(what, xhr.status, xhr.responseText);
  else if (successful && ([ALL, what].includes(lacking) || requestConfig.triggeringEvent)) say(null, "");
});

function refused(what, status, text) {
  const found = new DOMParser().parseFromString(text, "text/html").querySelectorAll("p");
  const why = [...found].map((one) => one.textContent).join(" ").slice(0, 1000);
  say(status === 401 ? ALL : what, why || `There is no answer but the status ${status}.`);
}

function say(what, text) {
  const place = document.querySelector("#trouble");
  lacking = what;
  if (place.textContent !== text) place.textContent = text; // else it would be heard each second
}

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
  if (!isPoll(requestConfig)) return;
  const now = Date.now(), isOfJobs = elt.id === "jobs";
  const isUntouched = elt.id === "live" && now - touched >= LONG;
  if (document.hidden ? !isOfJobs || now - polled < MINUTE : isUntouched) event.preventDefault();
  else if (isOfJobs) polled = now;
});
function isPoll({ elt, triggeringEvent }) {
  return !triggeringEvent && elt.matches("[hx-trigger^=every]");
}
for (const name of ["pointermove", "pointerdown", "wheel", "keydown"]) {
  document.addEventListener(name, () => { touched = Date.now(); }, { passive: true });
}

// What is shown follows what jobs do (the server says when), and what happened while somebody was elsewhere.
document.addEventListener("state-changed", renew);
for (const [place, name] of [[document, "visibilitychange"], [window, "focus"]]) {
  place.addEventListener(name, () => {
    if (document.hidden || Date.now() - seen < 1000) return;
    seen = touched = Date.now();
    follow();
  });
}

function follow() {
  document.dispatchEvent(new Event("seen"));
  renew();
}

// A button is pressed by the mouse, a finger, or the space bar. Behind a menu of the browser's no release is heard.
document.addEventListener("pointerdown", ({ button }) => { isPressed = button === 0; }, { passive: true });
document.addEventListener("keydown", ({ key }) => { isPressed ||= key === " "; }, { passive: true });
for (const name of ["pointerup", "pointercancel", "contextmenu", "keyup", "blur"]) {
  window.addEventListener(name, () => {
    isPressed = false;
    setTimeout(catchUp); // after the click
  }, { passive: true });
}

function catchUp() {
  if (!isLate || isPressed || saying) return;
  isLate = false;
  follow();
}

// Only what can change is put in anew: what is picked, typed, open or has the focus stays.
async function renew() {
  renewing?.abort();
  const { signal } = renewing = new AbortController(), page = location.href;
  const parts = [document.querySelector("#main"), ...document.querySelectorAll("[data-from]")];
  for (const part of parts.filter((one) => liveIn(one).length)) { // without any, it would be made for nothing
    try {
      const answer = await fetch(part.dataset.from ?? page, { headers: { "HX-Request": "true" }, signal });
      const text = await answer.text();
      // What is put in anew between press and release is not clicked; nor would it say "Copied" any more.
      if (isPressed || saying) { isLate = true; return; }
      if (answer.status === 401) refused(ALL, answer.status, text);
      if (answer.status === 200 && location.href === page) replaced(part, text);
    } catch {
      if (!signal.aborted) say(ALL, GONE);
      return;
    }
  }
}

// What can change in a part, but for what is of another part in it.
function liveIn(part) {
  const own = part.dataset.from ? part : null;
  return [...part.querySelectorAll("[data-live]")].filter((one) => one.closest("[data-from]") === own);
}

function replaced(part, text) {
  const found = new DOMParser().parseFromString(text, "text/html");
  for (const old of liveIn(part)) {
    const now = found.getElementById(old.id);
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
