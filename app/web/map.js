// The gallery as a map: like lies near like, as far as two dimensions can show it.

import * as api from "./api.js";
import { attempt, el, gauge, percent, svg } from "./dom.js";
import { openClass } from "./classes.js";
import { exists, onState, state } from "./state.js";

const [WIDTH, HEIGHT, EDGE] = [1000, 720, 60];
const MOST_THUMBNAILS = 300;
const ROUNDS = 60;

export function mountMap(root) {
  const chart = el("div", { class: "panel chart" });
  const side = el("section", { class: "panel side", "aria-label": "Neighbours", "aria-live": "polite" });
  const note = el("p", { class: "muted" });
  let turn = 0;

  async function load() {
    const mine = (turn += 1);
    const found = exists() ? await api.map(state.gallery) : { points: [], gallery_size: 0, explained: 1 };
    if (mine !== turn) return;
    if (!found.points.length) {
      chart.replaceChildren(el("div", { class: "blank" }, el("h2", {}, "An empty map"), el("p", {}, "Enrol something, and it appears here.")));
      side.replaceChildren();
      side.hidden = true;
      note.textContent = "";
      return;
    }
    side.hidden = false;
    const shown = found.points.length < found.gallery_size ? `${found.points.length} of ${found.gallery_size}` : `${found.gallery_size}`;
    note.textContent = `${shown} classes. Two dimensions hold ${percent(found.explained)} of what tells them apart; neighbours are found in all of them.`;
    chart.replaceChildren(draw(found.points, side));
  }

  root.append(el("div", { class: "page-head" }, el("h1", {}, "Map"), note), chart, side);
  const stop = onState(() => attempt(load));
  attempt(load);
  return () => { turn += 1; stop(); };
}

/** Places in the picture: one scale for both axes, thumbnails moved apart where they would hide each other. */
function layout(points, size) {
  const reach = (axis) => Math.max(...points.map((each) => Math.abs(each[axis])), 1e-9);
  const scale = Math.min((WIDTH / 2 - EDGE) / reach("x"), (HEIGHT / 2 - EDGE) / reach("y"));
  const places = points.map((each) => [WIDTH / 2 + each.x * scale, HEIGHT / 2 - each.y * scale]);
  if (points.length > MOST_THUMBNAILS) return places;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (let i = 0; i < places.length; i += 1) for (let j = 0; j < i; j += 1) push(places[i], places[j], size * 1.06, i - j);
    for (const place of places) {
      place[0] = Math.min(WIDTH - size / 2, Math.max(size / 2, place[0]));
      place[1] = Math.min(HEIGHT - size / 2, Math.max(size / 2, place[1]));
    }
  }
  return places;
}

function push(a, b, least, seed) {
  let [dx, dy] = [a[0] - b[0], a[1] - b[1]];
  if (dx === 0 && dy === 0) [dx, dy] = [Math.cos(seed), Math.sin(seed)];
  const distance = Math.hypot(dx, dy);
  if (distance >= least) return;
  const shift = ((least - distance) / distance) * 0.25;
  a[0] += dx * shift; a[1] += dy * shift;
  b[0] -= dx * shift; b[1] -= dy * shift;
}

function draw(points, side) {
  const size = Math.max(26, Math.min(64, 460 / Math.sqrt(points.length)));
  const pictured = points.length <= MOST_THUMBNAILS;
  const places = layout(points, size);
  const at = new Map(points.map((each, place) => [each.label, place]));
  const links = svg("g", { class: "links", "aria-hidden": "true" });
  const nodes = points.map((each, place) => node(each, places[place], pictured ? size : 0));
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": `Map of ${points.length} classes; arrow keys move` }, links, nodes);

  function select(place) {
    const near = points[place].neighbours.map((each) => at.get(each.label));
    nodes.forEach((each, other) => {
      each.classList.toggle("chosen", other === place);
      each.classList.toggle("near", near.includes(other));
      each.setAttribute("tabindex", other === place ? "0" : "-1");
    });
    links.replaceChildren(...near.map((other) => svg("line", {
      x1: places[place][0], y1: places[place][1], x2: places[other][0], y2: places[other][1],
    })));
    side.replaceChildren(...details(points[place]));
  }

  nodes.forEach((each, place) => {
    each.addEventListener("pointerenter", () => select(place));
    each.addEventListener("focus", () => select(place));
    each.addEventListener("click", () => openClass(points[place].label));
    each.addEventListener("keydown", (event) => {
      if (event.key === "Enter") openClass(points[place].label);
      const other = neighbourTowards(places, place, event.key);
      if (other === null) return;
      event.preventDefault();
      nodes[other].focus();
    });
  });
  select(0);
  return picture;
}

function node(point, [x, y], size) {
  const group = svg("g", { class: "node", role: "button", tabindex: "-1", "aria-label": point.label, transform: `translate(${x} ${y})` });
  if (!size) {
    group.append(svg("circle", { r: 6 }));
    return group;
  }
  const half = size / 2;
  const image = svg("image", { x: -half + 3, y: -half + 3, width: size - 6, height: size - 6 });
  api.picture(state.gallery, point.label).then((url) => { if (url) image.setAttribute("href", url); }, () => {});
  group.append(svg("rect", { x: -half, y: -half, width: size, height: size, rx: size / 7 }), image);
  return group;
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function neighbourTowards(places, from, key) {
  const direction = DIRECTIONS[key];
  if (!direction) return null;
  let [best, least] = [null, Infinity];
  places.forEach(([x, y], place) => {
    const [dx, dy] = [x - places[from][0], y - places[from][1]];
    const ahead = dx * direction[0] + dy * direction[1];
    const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
    if (ahead > 1 && ahead + 2 * aside < least) [best, least] = [place, ahead + 2 * aside];
  });
  return best;
}

function details(point) {
  const near = point.neighbours.map((each) => el("li", { class: "card other" }, api.thumbnail(state.gallery, each.label),
    el("div", { class: "card-text" },
      el("div", { class: "card-line" }, el("b", { class: "label" }, each.label), el("span", { class: "number" }, percent(each.similarity))),
      gauge(each.similarity, 1, "plain"))));
  return [el("div", { class: "focus" }, api.thumbnail(state.gallery, point.label), el("h2", { class: "label" }, point.label)),
    near.length ? el("h3", {}, "Nearest") : el("p", { class: "muted" }, "Nobody else is here."),
    el("ol", { class: "cards" }, near)];
}
