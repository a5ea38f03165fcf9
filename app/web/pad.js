// Where an image comes in: drawn by pointer or keyboard, chosen, photographed, pasted or dropped.

import { el } from "./dom.js";
import { shrink } from "./api.js";

const SENT_SIZE = 256;
const PEN = 0.031; // of the side: the width of a pen on paper, for a character that fills most of the pad
const STEP = 0.03;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Draw with mouse, finger or pen. By keyboard: arrow keys move, space puts the pen down or lifts it, backspace undoes.";

/** Draws strokes (lists of [x, y], 0 to 1) into a square of `side` pixels. */
export function drawStrokes(context, strokes, side, colour) {
  Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: PEN * side });
  context.strokeStyle = context.fillStyle = colour;
  for (const stroke of strokes) {
    context.beginPath();
    stroke.forEach(([x, y], place) => context[place ? "lineTo" : "moveTo"](x * side, y * side));
    if (stroke.length === 1) context.lineTo(stroke[0][0] * side + 0.01, stroke[0][1] * side);
    context.stroke();
  }
}

/** Strokes as a PNG file: black on white, whatever the page's colours.
 *  Not by toBlob, which waits for an idle moment, up to a second while somebody draws. */
export function strokesToBlob(strokes) {
  const canvas = el("canvas", { width: SENT_SIZE, height: SENT_SIZE });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SENT_SIZE, SENT_SIZE);
  drawStrokes(context, strokes, SENT_SIZE, "#000");
  const bytes = Uint8Array.from(atob(canvas.toDataURL("image/png").split(",")[1]), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

let active = null; // the pad that a paste goes to: the last one touched
const connected = new Set();
const target = () => (active && connected.has(active) ? active : [...connected][0]);

document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (!file || !target()) return;
  event.preventDefault();
  target().setFile(file);
});
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => {
  event.preventDefault(); // a file dropped beside a pad must not replace the page
  if (kind === "drop" && event.dataTransfer.files[0]) target()?.setFile(event.dataTransfer.files[0]);
});

/** A pad with its tools. `onchange` is called at every change, also while a stroke is being drawn. */
export class Pad {
  constructor(name, onchange) {
    this.onchange = onchange;
    this.strokes = [];
    this.file = null;
    this.bitmap = null;
    this.cursor = null; // of the keyboard: [x, y]
    this.penDown = false;
    this.playing = 0;
    this.frame = null; // the next one to be painted
    const hint = `hint-${name.replaceAll(" ", "-").toLowerCase()}`;
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": name, "aria-describedby": hint });
    this.empty = el("p", { class: "pad-empty", "aria-hidden": "true" }, "Draw here", el("small", {}, "or paste or drop an image"));
    this.sheet = el("div", { class: "pad-sheet" }, this.canvas, this.empty);
    this.undoButton = el("button", { type: "button", onclick: () => this.undo() }, "Undo");
    this.clearButton = el("button", { type: "button", onclick: () => this.clear() }, "Clear");
    const tools = el("div", { class: "tools pad-tools" }, this.undoButton, this.clearButton,
      this.chooser("Choose image"), navigator.maxTouchPoints > 0 ? this.chooser("Take photo", "environment") : null);
    this.element = el("div", { class: "pad" }, this.sheet, el("p", { id: hint, class: "unseen" }, HINT), tools);
    this.listen();
    this.redraw();
  }

  chooser(text, capture = null) {
    const field = el("input", { type: "file", accept: "image/*", class: "unseen", capture });
    field.addEventListener("change", () => {
      if (field.files[0]) this.setFile(field.files[0]);
      field.value = "";
    });
    return el("label", { class: "button" }, field, text);
  }

  listen() {
    const at = (event) => {
      const box = this.canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    let drawing = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || drawing !== null) return;
      drawing = event.pointerId;
      this.canvas.setPointerCapture(drawing);
      this.begin(at(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== drawing) return;
      const events = event.getCoalescedEvents?.() ?? [];
      (events.length ? events : [event]).forEach((each) => this.strokes.at(-1)?.push(at(each)));
      this.changed();
    });
    for (const kind of ["pointerup", "pointercancel"]) this.canvas.addEventListener(kind, () => { drawing = null; });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.penDown = false; this.redraw(); });
    this.element.addEventListener("focusin", () => { active = this; });
    this.element.addEventListener("pointerdown", () => { active = this; });
    this.element.addEventListener("dragover", () => this.sheet.classList.add("over"));
    for (const kind of ["dragleave", "drop"]) this.element.addEventListener(kind, () => this.sheet.classList.remove("over"));
    this.element.addEventListener("drop", () => { active = this; });
    this.observer = new ResizeObserver(() => this.redraw());
    this.observer.observe(this.sheet);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.onTheme = () => this.redraw();
    this.theme.addEventListener("change", this.onTheme);
    connected.add(this);
  }

  close() {
    this.playing += 1;
    connected.delete(this);
    this.observer.disconnect();
    this.theme.removeEventListener("change", this.onTheme);
  }

  get isEmpty() {
    return !this.file && this.strokes.length === 0;
  }

  begin(point) {
    this.playing += 1;
    this.file = this.bitmap = null;
    this.strokes.push([point]);
    this.changed();
  }

  key(event) {
    const direction = ARROWS[event.key];
    if (direction) {
      this.cursor ??= [0.5, 0.5];
      const step = STEP * (event.shiftKey ? 0.3 : 1);
      this.cursor = this.cursor.map((value, axis) => Math.min(1, Math.max(0, value + direction[axis] * step)));
      if (this.penDown) this.strokes.at(-1)?.push(this.cursor);
    } else if (event.key === " ") {
      this.cursor ??= [0.5, 0.5];
      this.penDown = !this.penDown;
      if (this.penDown) this.begin(this.cursor);
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) this.undo();
    else return;
    event.preventDefault();
    if (this.penDown) this.changed();
    else this.redraw();
  }

  undo() {
    this.penDown = false;
    if (this.file) this.file = this.bitmap = null;
    else this.strokes.pop();
    this.changed();
  }

  clear() {
    this.playing += 1;
    this.penDown = false;
    this.strokes = [];
    this.file = this.bitmap = null;
    this.changed();
  }

  /** Shows a file in place of a drawing. */
  async setFile(file) {
    const small = await shrink(file);
    const bitmap = await createImageBitmap(small).catch(() => null);
    this.clear();
    this.file = small;
    this.bitmap = bitmap;
    this.changed();
  }

  /** Draws strokes as a hand would, within `milliseconds`; at once where motion is unwelcome. */
  async play(strokes, milliseconds = 900) {
    this.clear();
    const turn = this.playing;
    this.element.scrollIntoView({ block: "nearest" });
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const total = strokes.reduce((sum, stroke) => sum + stroke.length, 0);
    let owed = 0;
    for (const stroke of strokes) {
      this.strokes.push([]);
      for (const point of stroke) {
        if (turn !== this.playing) return;
        this.strokes.at(-1).push(point);
        owed += still ? 0 : milliseconds / total;
        if (owed < 16) continue;
        this.changed();
        await new Promise((resolve) => setTimeout(resolve, owed));
        owed = 0;
      }
    }
    if (turn === this.playing) this.changed();
  }

  /** The image as a file, or null when there is none. */
  image() {
    if (this.file) return this.file;
    return this.isEmpty ? null : strokesToBlob(this.strokes);
  }

  changed() {
    this.redraw();
    this.onchange();
  }

  /** Shows what there is, once a frame however often it changes. */
  redraw() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.paint(); });
    this.empty.hidden = !this.isEmpty || this.cursor !== null;
    this.undoButton.disabled = this.clearButton.disabled = this.isEmpty;
  }

  paint() {
    const side = Math.round(this.sheet.clientWidth * devicePixelRatio);
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.sheet);
    context.clearRect(0, 0, side, side);
    if (this.bitmap) {
      const scale = Math.min(side / this.bitmap.width, side / this.bitmap.height);
      const [width, height] = [this.bitmap.width * scale, this.bitmap.height * scale];
      context.drawImage(this.bitmap, (side - width) / 2, (side - height) / 2, width, height);
    }
    drawStrokes(context, this.strokes, side, style.color);
    if (this.cursor) {
      context.beginPath();
      context.arc(this.cursor[0] * side, this.cursor[1] * side, side * 0.022, 0, 7);
      context.fillStyle = style.caretColor;
      context[this.penDown ? "fill" : "stroke"]();
    }
  }
}
