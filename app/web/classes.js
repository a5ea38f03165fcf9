// Browse and search the classes of a gallery; rename, replace, extend or delete one, or delete them all.

import * as api from "./api.js";
import { attempt, dialog, el, toast } from "./dom.js";
import { Pad } from "./pad.js";
import { chooseGallery, exists, isStored, onState, refreshGalleries, size, state } from "./state.js";

const PAGE = 24;
const PAUSE = 200; // ms after the last key before a search is sent

export function mountClasses(root) {
  const grid = el("ul", { class: "grid", "aria-label": "Classes" });
  const previous = el("button", { type: "button" }, "Previous");
  const next = el("button", { type: "button" }, "Next");
  const where = el("span", { class: "muted", role: "status" });
  const find = el("input", { id: "find", type: "search", placeholder: "Search names", maxlength: "256", autocomplete: "off", spellcheck: "false" });
  const search = el("form", { class: "find", role: "search" }, el("label", { for: "find", class: "unseen" }, "Search names"), find);
  const drop = el("button", { type: "button", class: "danger-quiet", onclick: askToDeleteGallery }, "Delete gallery…");
  const pages = el("nav", { class: "pages", "aria-label": "Pages" }, previous, where, next);
  const starts = [null]; // the cursor of each page up to this one
  let following = null;
  let turn = 0;
  let timer = null;

  async function load() {
    const mine = (turn += 1);
    const wanted = find.value.trim() || null;
    const page = exists() ? await api.classes(state.gallery, PAGE, starts.at(-1), wanted) : { classes: [], next: null };
    if (mine !== turn) return;
    if (!page.classes.length && starts.length > 1) { // the last one of this page was deleted
      starts.pop();
      await load();
      return;
    }
    following = page.next;
    previous.disabled = starts.length === 1;
    next.disabled = following === null;
    where.textContent = `Page ${starts.length}`;
    pages.hidden = starts.length === 1 && following === null;
    search.hidden = !size() && !wanted;
    drop.hidden = !isStored();
    grid.replaceChildren(...(page.classes.length ? page.classes.map(tile) : [nothing(wanted)]));
  }

  function startAgain() {
    clearTimeout(timer);
    starts.length = 1;
    attempt(load);
  }

  const tile = (each) => el("li", {}, el("button", { type: "button", class: "tile", onclick: () => openClass(each.label) },
    api.thumbnail(state.gallery, each.label, each.updated_at),
    el("b", { class: "label" }, each.label),
    el("small", {}, each.shots === 1 ? "1 image" : `${each.shots} images`)));

  previous.addEventListener("click", () => { starts.pop(); attempt(load); });
  next.addEventListener("click", () => { starts.push(following); attempt(load); });
  search.addEventListener("submit", (event) => { event.preventDefault(); startAgain(); });
  find.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(startAgain, PAUSE); });
  const stop = onState(() => attempt(load));
  root.append(
    el("div", { class: "panel-head page-head" }, el("h1", {}, "Classes"), el("div", { class: "tools" }, search, drop)), grid, pages);
  attempt(load);
  return () => { turn += 1; clearTimeout(timer); stop(); };
}

function nothing(search) {
  const [title, text] = search
    ? [`No name contains “${search}”`, "Upper and lower case are the same here."]
    : ["Nobody here yet", "Draw something under Recognise and give it a name."];
  return el("li", { class: "blank" }, el("h2", { class: "label" }, title), el("p", {}, text));
}

function askToDeleteGallery() {
  const gallery = state.gallery;
  const classes = size() === 1 ? "its one class" : `its ${size()} classes`;
  const sure = el("button", { type: "button", class: "danger" }, "Delete for good");
  const box = dialog(`Delete gallery “${gallery}”?`, el("div", { class: "stack" },
    el("p", {}, `All images and vectors of ${classes} are deleted. Nobody can bring them back.`), sure));
  sure.addEventListener("click", () => attempt(async () => {
    await api.removeGallery(gallery);
    api.forgetPictures();
    box.close();
    toast(`Deleted gallery “${gallery}”.`, "good");
    await chooseGallery("default");
  }));
}

/** The dialog of one class: its images, and everything that can be done with it. */
export async function openClass(label) {
  const gallery = state.gallery;
  const found = await attempt(() => api.oneClass(gallery, label));
  if (!found) return;
  const images = el("ul", { class: "shots", "aria-label": "Images" },
    Array.from({ length: Math.min(found.shots, 12) }, (_, shot) =>
      el("li", {}, api.thumbnail(gallery, found.label, found.updated_at, shot))));
  const sections = el("div", { class: "stack" });
  const box = dialog(found.label, images, sections);

  const act = (work, done) => attempt(async () => {
    await work();
    api.forgetPictures(found.label);
    box.close();
    toast(done, "good");
    await refreshGalleries();
  });
  sections.append(renaming(found, gallery, act), replacing(found, gallery, act, box), deleting(found, gallery, act));
}

function renaming(found, gallery, act) {
  const field = el("input", { id: "rename", value: found.label, required: true, maxlength: "256", autocomplete: "off" });
  const form = el("form", { class: "enrol" }, el("label", { for: "rename" }, "Name"),
    el("div", { class: "row" }, field, el("button", {}, "Rename")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(() => api.rename(gallery, found.label, field.value), `Renamed to “${field.value.trim()}”.`);
  });
  return form;
}

function replacing(found, gallery, act, box) {
  const use = (how, done) => () => {
    const image = pad.image();
    if (image) act(() => api.enroll(gallery, found.label, image, how), done);
    else toast("Draw or choose an image first.", "error");
  };
  const pad = new Pad("New image", () => {});
  const part = el("details", {}, el("summary", {}, "Another image"), pad.element,
    el("div", { class: "tools" },
      el("button", { type: "button", onclick: use("replace", "Replaced.") }, "Replace with this"),
      el("button", { type: "button", onclick: use("add", "Added.") }, "Add this")));
  box.addEventListener("close", () => pad.close());
  return part;
}

function deleting(found, gallery, act) {
  const sure = el("div", { class: "taken", hidden: true, role: "alert" },
    el("p", {}, "Its images and vectors are deleted for good."),
    el("button", { type: "button", class: "danger", onclick: () => act(() => api.remove(gallery, found.label), `Deleted “${found.label}”.`) },
      "Delete for good"));
  const ask = el("button", { type: "button", class: "danger-quiet", onclick: () => { sure.hidden = false; sure.lastChild.focus(); } },
    "Delete class");
  return el("div", { class: "stack" }, ask, sure);
}
