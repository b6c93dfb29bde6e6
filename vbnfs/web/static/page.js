// What the pages do beside htmx. No address and no text of a page is ever made a script.
"use strict";

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
  document.addEventListener(name, (event) => {
    const plan = document.querySelector("#plan");
    const isOther = name === "change" ? event.target.form?.id === "pick" : plan?.contains(event.target) && event.detail.successful;
    if (isOther) plan.replaceChildren();
  });
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
