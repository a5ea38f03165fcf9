// The model card: what is running, how good it was on held-out data, and whether its probabilities are right.

import * as api from "./api.js";
import { attempt, el, percent, svg } from "./dom.js";
import { fact } from "./verify.js";

const SIDE = 320;
const LEFT = 54;
const TOP = 16;

export function mountModel(root) {
  const card = el("div", { class: "model" });
  root.append(el("h1", {}, "Model"), card);
  attempt(async () => card.replaceChildren(...describe(await api.model())));
}

function describe(found) {
  const { manifest } = found;
  const { calibration, preprocess, weights } = manifest;
  const facts = el("dl", { class: "facts" },
    fact("Similarity", `${found.similarity} (metric ${found.metric})`),
    fact("Embedding", `${found.dim} numbers`),
    fact("Network", manifest.network.kind),
    fact("Parameters", weights.parameters.toLocaleString("en")),
    fact("Input", `${preprocess.size} × ${preprocess.size}, ${preprocess.channels === 1 ? "grey" : "colour"}`),
    fact("Runs on", found.device),
    fact("Made", new Date(manifest.created).toLocaleDateString(undefined, { dateStyle: "long" })),
    fact("Digest", el("code", {}, found.digest.slice(0, 16))));
  const quality = el("dl", { class: "facts" },
    fact("Expected calibration error", percent(calibration.quality.ece)),
    fact("Log-loss of a pair", `${calibration.quality.log_loss.toFixed(3)} nats`),
    fact("Fitted on", `${calibration.n_classes.toLocaleString("en")} classes: ${calibration.source}`),
    fact("Method", calibration.method));
  return [
    el("section", { class: "panel" }, el("h2", {}, found.model), facts),
    el("section", { class: "panel" }, el("h2", {}, "Measured"), accuracy(manifest.accuracy)),
    el("section", { class: "panel wide" }, el("h2", {}, "Can its probabilities be believed?"),
      el("p", { class: "muted" }, "Each dot is a group of pairs of images of classes that were never trained on. On the line, what was predicted is what happened."),
      el("div", { class: "split" }, reliability(calibration.quality), quality)),
  ];
}

function accuracy(rows) {
  if (!rows.length) return el("p", { class: "muted" }, "Nothing was measured for this model.");
  const cells = rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.protocol),
    el("td", { class: "number" }, `${row.value} ${row.unit}`),
    el("td", { class: "number" }, row.low === null ? "" : `${row.low} to ${row.high}`)));
  const head = el("tr", {}, el("th", { scope: "col" }, "Protocol"), el("th", { scope: "col" }, "Result"), el("th", { scope: "col" }, "95 % interval"));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measured results" },
    el("table", {}, el("thead", {}, head), el("tbody", {}, cells)));
}

/** Predicted against observed share of "same", as SVG. */
export function reliability({ predicted, observed }) {
  const x = (value) => LEFT + value * SIDE;
  const y = (value) => TOP + (1 - value) * SIDE;
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((value) => [
    svg("line", { class: "rule", x1: x(0), x2: x(1), y1: y(value), y2: y(value) }),
    svg("text", { x: x(value), y: y(0) + 20, "text-anchor": "middle" }, `${value * 100}`),
    svg("text", { x: x(0) - 9, y: y(value) + 4, "text-anchor": "end" }, `${value * 100}`),
  ]);
  const dots = predicted.map((value, place) => svg("circle", { class: "dot", cx: x(value), cy: y(observed[place]), r: 5 },
    svg("title", {}, `predicted ${percent(value)}, observed ${percent(observed[place])}`)));
  const line = svg("polyline", { class: "curve", points: predicted.map((value, place) => `${x(value)},${y(observed[place])}`).join(" ") });
  return svg("svg", { class: "plot", viewBox: `0 0 ${LEFT + SIDE + 20} ${TOP + SIDE + 48}`, role: "img", "aria-label": "Reliability: predicted against observed share of the same class" },
    ticks, svg("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }), line, dots,
    svg("text", { x: x(0.5), y: y(0) + 42, "text-anchor": "middle" }, "predicted, %"),
    svg("text", { x: 0, y: 0, transform: `translate(13 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "observed, %"));
}
