// Elements from data. Text goes in as text nodes only, so a label is never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element: attributes, `onclick` and the like as listeners, then children (nodes or text). */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** A probability for people: more digits where they matter, never a false 100 %. */
export function percent(value) {
  const shown = value * 100;
  if (shown > 99.99 && value < 1) return "> 99.99 %";
  if (shown > 0 && shown < 0.01) return "< 0.01 %";
  return `${shown.toFixed(shown > 99 || shown < 1 ? 2 : 1)} %`;
}

/** A bar from 0 to 1 with a mark at the threshold. */
export function gauge(value, threshold, kind) {
  const bar = el("div", { role: "img" }, el("div", { class: "gauge-fill" }), el("div", { class: "gauge-mark" }));
  setGauge(bar, value, threshold, kind);
  return bar;
}

/** Makes a bar show something else. */
export function setGauge(bar, value, threshold, kind) {
  const label = `similarity ${percent(value)}, threshold ${percent(threshold)}`;
  bar.className = `gauge ${kind}`;
  bar.title = label;
  bar.setAttribute("aria-label", label);
  bar.firstChild.style.width = `${Math.max(0.6, value * 100)}%`;
  bar.lastChild.style.left = `${threshold * 100}%`;
}

/** Makes an element's text something else, if it is. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A short message that goes away by itself. */
export function toast(text, kind = "info") {
  const place = document.getElementById("toasts");
  const note = el("div", { class: `toast ${kind}` }, text);
  place.append(note);
  setTimeout(() => note.remove(), kind === "error" ? 8000 : 4000);
}

/** Runs an action of a person; what goes wrong is shown, not lost. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, "error");
    return undefined;
  }
}

/** A modal dialog with a title, closed by Escape or its button, removed when closed. */
export function dialog(title, ...children) {
  const close = el("button", { type: "button", class: "quiet", "aria-label": "Close" }, "✕");
  const head = el("div", { class: "dialog-head" }, el("h2", { id: "dialog-title" }, title), close);
  const box = el("dialog", { "aria-labelledby": "dialog-title" }, head, ...children);
  close.addEventListener("click", () => box.close());
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}
