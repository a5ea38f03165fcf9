// Are these two the same?

import * as api from "./api.js";
import { el, gauge, percent } from "./dom.js";
import { Live } from "./live.js";
import { Pad } from "./pad.js";
import { exists, state } from "./state.js";

export function mountVerify(root) {
  const result = el("section", { class: "panel result compare", "aria-label": "Result" });
  const announce = el("p", { class: "unseen", role: "status" });
  const changed = () => {
    if (!pads.some((pad) => pad.isEmpty)) return live.poke();
    live.cancel();
    announce.textContent = "";
    return result.replaceChildren(el("div", { class: "blank" }, el("h2", {}, "Two images, one question"),
      el("p", {}, "Draw or choose an image on each side. Neither has to be enrolled.")));
  };
  const pads = [new Pad("First image", changed), new Pad("Second image", changed)];
  const live = new Live(ask, show, (error) => result.replaceChildren(el("p", { class: "verdict error" }, error.message)));

  async function ask(signal) {
    const [first, second] = pads.map((pad) => pad.image());
    return first && second && api.verify(exists() ? state.gallery : null, first, second, signal);
  }

  function show(answer, milliseconds) {
    if (!answer) return;
    const title = answer.verified ? "The same" : "Different";
    result.replaceChildren(
      el("div", { class: `verdict ${answer.verified ? "match" : "unknown"}` },
        el("div", { class: "verdict-head" }, el("span", { class: "tag" }, percent(answer.similarity)),
          el("span", { class: "took" }, `${Math.round(milliseconds)} ms`)),
        el("h2", {}, title)),
      gauge(answer.similarity, answer.threshold, answer.verified ? "reached" : "short"),
      el("p", { class: "legend" }, el("span", { class: "legend-mark" }), `threshold ${percent(answer.threshold)}`),
      el("dl", { class: "facts" },
        fact("Different pairs taken for the same", percent(answer.fmr)),
        fact("Same pairs missed", `${percent(answer.fnmr.value)} (${percent(answer.fnmr.low)} to ${percent(answer.fnmr.high)})`),
        fact("Evidence", `${answer.llr.toFixed(1)} nats`)));
    if (announce.textContent !== title) announce.textContent = title;
  }

  root.append(el("h1", { class: "unseen" }, "Verify"),
    ...pads.map((pad) => el("section", { class: "panel", "aria-label": pad.canvas.getAttribute("aria-label") }, pad.element)),
    result, announce);
  pads.forEach((pad) => pad.redraw());
  changed();
  return () => { live.cancel(); pads.forEach((pad) => pad.close()); };
}

export const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
