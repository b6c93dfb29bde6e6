// Sessions that are picked stay so where their table is sorted or filtered otherwise, and on its other pages: of one
// version, in this tab. What is picked and not shown is sent as well.
"use strict";

function theTable() {
  return document.querySelector("form[data-picks]");
}

function kept(form) {
  return { ids: [], pin: "", ...JSON.parse(sessionStorage.getItem(form.dataset.picks)) };
}

function keep(form, what) {
  sessionStorage.setItem(form.dataset.picks, JSON.stringify({ ...kept(form), ...what }));
  showPicks(form);
}

function showPicks(form) {
  const { ids, pin } = kept(form), boxes = [...form.querySelectorAll("[type=checkbox][name=session]")];
  for (const box of boxes) box.checked = ids.includes(box.value);
  const elsewhere = ids.filter((id) => !boxes.some((box) => box.value === id));
  form.querySelector("#elsewhere").replaceChildren(...elsewhere.map((value) => (
    Object.assign(document.createElement("input"), { type: "hidden", name: "session", value }))));
  form.elements.pin.value = pin;
  form.querySelector("#let-go").hidden = !ids.length;
  form.querySelector("#picked").textContent = ids.length
    ? `${ids.length} picked${elsewhere.length ? `, ${elsewhere.length} of them not shown here` : ""}` : "";
}

document.addEventListener("change", ({ target }) => {
  const form = theTable();
  if (target.form !== form || target.name !== "session") return;
  const others = kept(form).ids.filter((id) => id !== target.value);
  keep(form, { ids: target.checked ? [...others, target.value] : others });
});
document.addEventListener("input", ({ target }) => {
  if (target.id === "pin") keep(theTable(), { pin: target.value });
});
document.addEventListener("click", ({ target }) => {
  if (target.id !== "let-go") return;
  keep(theTable(), { ids: [] });
  document.querySelector("#plan").replaceChildren(); // it is of what was picked
  theTable().querySelector("[type=submit]").focus();
});
document.addEventListener("htmx:load", ({ target }) => { // the page, or a part that is put in anew
  if (theTable() && target.contains(theTable())) showPicks(theTable());
});
window.addEventListener("pageshow", () => { if (theTable()) showPicks(theTable()); });
