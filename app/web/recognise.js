// Draw, see who it is while drawing, and give it a name.

import * as api from "./api.js";
import { attempt, el, gauge, percent, setGauge, setText, toast } from "./dom.js";
import { EXAMPLES, makeExamples } from "./examples.js";
import { glyph, names, strangers } from "./glyphs.js";
import { Live } from "./live.js";
import { Pad, drawStrokes } from "./pad.js";
import { exists, onState, refreshGalleries, size, state } from "./state.js";

let hand = 0; // each demonstration is by another hand

export function mountRecognise(root) {
  const result = el("section", { class: "panel result", "aria-label": "Result" });
  const announce = el("p", { class: "unseen", role: "status" });
  const thumbs = new Map(); // label -> its <img>, moved from answer to answer: a new one would flicker while it loads
  const pad = new Pad("Drawing", () => (pad.isEmpty ? reset() : live.poke()));
  const live = new Live(ask, show, (error) => result.replaceChildren(verdict("error", "No answer", error.message)));

  async function ask(signal) {
    if (!exists()) return { candidates: [], gallery_size: 0 };
    const image = pad.image();
    return image && api.classify(state.gallery, image, signal);
  }

  function show(answer, milliseconds) {
    if (!answer) return;
    const title = view.show(answer, milliseconds);
    if (result.firstChild !== view.element) result.replaceChildren(view.element);
    result.dataset.ms = milliseconds.toFixed(1);
    setText(announce, title);
  }

  function reset() {
    live.cancel();
    delete result.dataset.ms;
    announce.textContent = "";
    result.replaceChildren(size() ? waiting() : welcome());
  }

  function thumb(label) {
    if (!thumbs.has(label)) thumbs.set(label, api.thumbnail(state.gallery, label));
    return thumbs.get(label);
  }

  const view = answerView(thumb);
  const enrol = enrolForm(pad, () => { thumbs.clear(); live.poke(); });
  const samples = el("div", { class: "samples" });
  const offer = () => samples.replaceChildren(...(state.gallery === EXAMPLES && size() ? demonstrations(pad) : []));
  root.append(el("h1", { class: "unseen" }, "Recognise"),
    el("section", { class: "panel input", "aria-label": "Image" }, pad.element),
    el("section", { class: "panel naming", "aria-label": "Enrolment" }, enrol),
    result, samples, announce);
  const stop = onState(() => { offer(); if (pad.isEmpty) reset(); });
  pad.redraw();
  offer();
  reset();
  return () => { stop(); live.cancel(); pad.close(); };
}

/** Kind, title and explanation of an answer. */
export function judge(answer) {
  const [best, second] = answer.candidates;
  if (!best) return ["unknown", "Nobody to compare with", "This gallery is empty. Give the drawing a name to enrol it."];
  if (answer.label === null) {
    return ["unknown", "Unknown", `Nobody here reaches ${percent(answer.threshold)}, which at most ${percent(answer.fpir)} of strangers would.`];
  }
  if (answer.ambiguous) {
    return ["ambiguous", `Ambiguous: ${answer.label}${second ? ` or ${second.label}` : ""}`, "Two candidates fit about equally well. Another image would tell."];
  }
  return ["match", answer.label, `Similarity ${percent(best.similarity)}, among ${answer.gallery_size} enrolled.`];
}

const TAGS = { match: "Recognised", unknown: "Stranger", ambiguous: "Not sure", error: "Problem" };

export function verdict(kind, title, why, ...more) {
  return el("div", { class: `verdict ${kind}` },
    el("div", { class: "verdict-head" }, el("span", { class: "tag" }, TAGS[kind]), ...more),
    el("h2", {}, title), el("p", {}, why));
}

/** Where an answer is shown. It is changed in place: to build it anew for each takes longer than the answer itself. */
function answerView(thumb) {
  const took = el("span", { class: "took", title: "From a change to its answer" });
  const head = verdict("unknown", "", "", took);
  const [tag, title, why] = ["span", "h2", "p"].map((name) => head.querySelector(name));
  const list = el("ol", { class: "cards", "aria-label": "Candidates" });
  const threshold = el("span");
  const legend = el("p", { class: "legend" }, el("span", { class: "legend-mark" }), threshold);
  const cards = [];

  function show(answer, milliseconds) {
    const [kind, name, reason] = judge(answer);
    head.className = `verdict ${kind}`;
    [[tag, TAGS[kind]], [title, name], [why, reason], [took, `${Math.round(milliseconds)} ms`],
      [threshold, `threshold ${percent(answer.threshold ?? 0)}`]].forEach(([node, text]) => setText(node, text));
    while (cards.length < answer.candidates.length) cards.push(candidateCard(thumb));
    if (list.childElementCount !== answer.candidates.length) list.replaceChildren(...cards.slice(0, answer.candidates.length).map((each) => each.element));
    answer.candidates.forEach((each, place) =>
      cards[place].show(each, answer.threshold, place === 0 || (kind === "ambiguous" && place === 1) ? kind : "other"));
    list.hidden = legend.hidden = !answer.candidates.length;
    return name;
  }
  return { element: el("div", {}, head, list, legend), show };
}

function candidateCard(thumb) {
  const label = el("b", { class: "label" });
  const number = el("span", { class: "number" });
  const bar = gauge(0, 0, "short");
  const slot = el("span", { class: "slot" }); // a picture that moves to another card leaves it empty
  const element = el("li", { class: "card" }, slot,
    el("div", { class: "card-text" }, el("div", { class: "card-line" }, label, number), bar));

  function show(candidate, threshold, kind) {
    const picture = thumb(candidate.label);
    if (slot.firstChild !== picture) slot.replaceChildren(picture);
    element.className = `card ${kind}`;
    setText(label, candidate.label);
    setText(number, percent(candidate.similarity));
    setGauge(bar, candidate.similarity, threshold, candidate.similarity >= threshold ? "reached" : "short");
  }
  return { element, show };
}

function waiting() {
  return el("div", { class: "blank" }, el("h2", {}, "Draw something"),
    el("p", {}, `It is compared with ${size()} ${size() === 1 ? "class" : "classes"} of “${state.gallery}” while you draw.`));
}

function welcome() {
  const button = el("button", { type: "button", class: "primary large" }, "Try with examples");
  const bar = el("progress", { max: "1", value: "0", hidden: true, "aria-label": "Enrolling examples" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    bar.hidden = false;
    await attempt(async () => {
      await makeExamples((done, total) => { bar.value = done / total; });
      document.dispatchEvent(new Event("gallery-chosen"));
      document.querySelector("[data-demo=known]")?.click();
    });
    button.disabled = false;
  });
  return el("div", { class: "blank" }, el("h2", {}, "One example is enough"),
    el("p", {}, "Draw a sign, give it a name, and draw it again: it is recognised. No training, no waiting."),
    el("p", {}, "Or start with a small alphabet that nobody has ever seen."),
    button, bar, sheet(names.slice(0, 12)));
}

function demonstrations(pad) {
  const known = el("button", { type: "button", "data-demo": "known" }, "Draw a known one");
  const unknown = el("button", { type: "button", "data-demo": "stranger" }, "Draw a stranger");
  const pick = (list) => list[(hand * 7 + 12) % list.length];
  known.addEventListener("click", () => { hand += 1; pad.play(glyph(pick(names), hand)); });
  unknown.addEventListener("click", () => { hand += 1; pad.play(glyph(pick(strangers), hand)); });
  return [el("section", { class: "panel", "aria-label": "Examples" },
    el("div", { class: "panel-head" }, el("h2", {}, "Copy one, or watch"), el("div", { class: "tools" }, known, unknown)),
    sheet(names))];
}

function sheet(shown) {
  return el("ul", { class: "sheet" }, shown.map((name) => {
    const canvas = el("canvas", { width: "72", height: "72", "aria-hidden": "true" });
    drawStrokes(canvas.getContext("2d"), glyph(name), 72, "#1c1e24");
    return el("li", {}, canvas, el("span", {}, name));
  }));
}

/** Asks for a name; where it is taken, whether the image replaces the class's or joins them. */
export function enrolForm(pad, done) {
  const field = el("input", { id: "name", required: true, maxlength: "256", autocomplete: "off", placeholder: "Its name" });
  const button = el("button", { class: "primary" }, "Enrol");
  const taken = el("div", { class: "taken", hidden: true, role: "alert" });
  const form = el("form", { class: "enrol" },
    el("label", { for: "name" }, "Enrol it as"), el("div", { class: "row" }, field, button), taken);

  async function send(onConflict) {
    const image = pad.image();
    if (!image) return toast("Draw or choose an image first.", "error");
    const label = field.value.trim();
    try {
      await api.enroll(state.gallery, label, image, onConflict);
    } catch (error) {
      if (error.slug !== "class-exists") throw error;
      return askWhichWay(label);
    }
    taken.hidden = true;
    field.value = "";
    api.forgetPictures(label);
    toast(`Enrolled “${label}”.`, "good");
    await refreshGalleries();
    return done();
  }

  function askWhichWay(label) {
    const choice = (text, how) => el("button", { type: "button", onclick: () => attempt(() => send(how)) }, text);
    taken.replaceChildren(el("p", {}, `“${label}” is enrolled already.`),
      el("div", { class: "tools" }, choice("Add as another image", "add"), choice("Replace its images", "replace")));
    taken.hidden = false;
  }

  field.addEventListener("input", () => { taken.hidden = true; });
  form.addEventListener("submit", (event) => { event.preventDefault(); attempt(() => send("fail")); });
  return form;
}
