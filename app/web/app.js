// The page: which view is shown, and which gallery it is about.

import * as api from "./api.js";
import { attempt, dialog, el } from "./dom.js";
import { chooseGallery, onState, refreshGalleries, state } from "./state.js";
import { mountClasses } from "./classes.js";
import { mountMap } from "./map.js";
import { mountModel } from "./model.js";
import { mountRecognise } from "./recognise.js";
import { mountVerify } from "./verify.js";

const VIEWS = {
  recognise: mountRecognise, verify: mountVerify, classes: mountClasses, map: mountMap, model: mountModel,
};
const NEW = "\u0000new"; // no gallery can be called so
const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]{0,63}";

const main = document.getElementById("view");
const select = document.getElementById("gallery");
const forget = document.getElementById("forget-key");
let unmount = () => {};

function show() {
  const name = location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "recognise";
  for (const tab of document.querySelectorAll("#tabs a")) {
    if (tab.hash === `#${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  unmount();
  const root = el("div", { class: `view view-${name}` });
  main.replaceChildren(root);
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · oneshot`;
  unmount = VIEWS[name](root) ?? (() => {});
}

function drawChooser() {
  const known = state.galleries.map((each) => each.name);
  const names = [...new Set(["default", ...known, state.gallery])].sort();
  select.replaceChildren(
    ...names.map((name) => {
      const count = state.galleries.find((each) => each.name === name)?.classes ?? 0;
      return el("option", { value: name, selected: name === state.gallery }, `${name} (${count})`);
    }),
    el("option", { value: NEW }, "New gallery…"),
  );
  select.value = state.gallery;
  forget.hidden = !api.hasKey();
}

function askForGallery() {
  const field = el("input", { id: "new-gallery", required: true, pattern: NAME, maxlength: "64", autocomplete: "off" });
  const form = el("form", { class: "stack" },
    el("label", { for: "new-gallery" }, "Name"), field,
    el("p", { class: "muted" }, "Letters, digits, “.”, “_” and “-”. It is made when its first class is enrolled."),
    el("button", { class: "primary" }, "Use this gallery"));
  const box = dialog("New gallery", form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    box.close();
    attempt(() => chooseGallery(field.value)).then(show);
  });
  field.focus();
}

select.addEventListener("change", () => {
  const wanted = select.value;
  select.value = state.gallery;
  if (wanted === NEW) askForGallery();
  else attempt(() => chooseGallery(wanted)).then(show);
});
forget.addEventListener("click", () => {
  api.forgetKey();
  location.reload();
});
document.addEventListener("key-changed", drawChooser);
document.addEventListener("gallery-chosen", show);
addEventListener("hashchange", () => {
  for (const box of document.querySelectorAll("dialog:not(:has(#key))")) box.close(); // what it is about is left
  show();
});
onState(drawChooser);
drawChooser();
await attempt(refreshGalleries);
show();
