// The service's HTTP API, with the key that it may ask for.

import { el, dialog } from "./dom.js";

const BASE = new URL(".", document.baseURI);
const KEY = "oneshot-key";
const LARGEST_SIDE = 1600;

/** An RFC 9457 problem as an exception. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The service answered ${status}.`);
    this.status = status;
    this.slug = (body.type || "").split(":").pop();
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const forgetKey = () => sessionStorage.removeItem(KEY);

let asking = null;

/** Asks for a key, once however many requests wait for it. Resolves to whether one was given. */
function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    const field = el("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
    const send = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      box.returnValue = "given";
      box.close("given");
    };
    const why = refused ? "The service refused that key. Try another." : "This service asks for an API key.";
    const form = el("form", { class: "stack", onsubmit: send },
      el("p", {}, why, " It is kept until you close this tab."),
      el("label", { for: "key" }, "API key"), field,
      el("button", { class: "primary" }, "Use this key"));
    const box = dialog("Key needed", form);
    box.addEventListener("close", () => {
      asking = null;
      document.dispatchEvent(new Event("key-changed"));
      resolve(box.returnValue === "given");
    });
    field.focus();
  });
  return asking;
}

async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(new URL(path, BASE), { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The service can't be reached." });
  }
  if (response.ok) return response;
  const stale = key !== sessionStorage.getItem(KEY);
  if (response.status === 401 && (stale || (await askForKey(key !== null)))) return request(path, options);
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

const json = async (path, options) => (await request(path, options)).json();
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null)).toString();
const classPath = (label) => `classes/${encodeURIComponent(label)}`;

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value);
  return { method: "POST", body: data };
}

export const galleries = () => json("galleries");
export const model = () => json("model");
export const map = (gallery) => json(`galleries/${encodeURIComponent(gallery)}/map`);

/** One page of classes; `search`: only those whose label contains it. */
export const classes = (gallery, limit, after = null, search = null) => json(`classes?${query({ gallery, limit, after, search })}`);
export const oneClass = (gallery, label) => json(`${classPath(label)}?${query({ gallery })}`);

export const classify = (gallery, image, signal) =>
  json(`classify?${query({ gallery, k: 5 })}`, { ...form({ image }), signal });

/** `gallery` decides whose calibration counts; null: the model's. */
export const verify = (gallery, image1, image2, signal) =>
  json(`verify?${query({ gallery })}`, { ...form({ image1, image2 }), signal });

/** `onConflict`: replace, add or fail. */
export const enroll = (gallery, label, image, onConflict) =>
  json("enroll", form({ gallery, label, image, on_conflict: onConflict }));

export const rename = (gallery, label, newLabel) =>
  json(`${classPath(label)}?${query({ gallery })}`, {
    method: "PATCH", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ label: newLabel }),
  });

export const remove = (gallery, label) => request(`${classPath(label)}?${query({ gallery })}`, { method: "DELETE" });
export const removeGallery = (gallery) => request(`galleries/${encodeURIComponent(gallery)}`, { method: "DELETE" });

const pictures = new Map(); // address -> promise of an object URL; fetched by script, because <img> can't send a key
const MOST_PICTURES = 3000;

/** The enrolled image of a class as an object URL; null where none was kept. `version` changes when the class does. */
export function picture(gallery, label, version = "", shot = 0) {
  const path = `${classPath(label)}/image?${query({ gallery, shot })}`;
  const address = `${path} ${version}`;
  if (!pictures.has(address)) {
    const coming = request(path).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob), (error) => {
      pictures.delete(address);
      if (error.status === 404) return null;
      throw error;
    });
    coming.catch(() => {});
    pictures.set(address, coming);
    if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(address);
}

/** Forgets the images of a gallery's class, or of the whole gallery. */
export function forgetPictures(label = null) {
  const start = label === null ? "" : `${classPath(label)}/image?`;
  for (const address of [...pictures.keys()]) if (address.startsWith(start)) pictures.delete(address);
}

/** An <img> of a class; it stays blank where there is no image. */
export function thumbnail(gallery, label, version, shot = 0) {
  const image = el("img", { alt: "", class: "thumb", draggable: "false" });
  picture(gallery, label, version, shot).then((url) => { if (url) image.src = url; }, () => {});
  return image;
}

/** A photo made small enough to send quickly; anything smaller stays as it is. */
export async function shrink(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file; // a format that the browser can't read: the service may
  const scale = LARGEST_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return file;
  const canvas = el("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob || file), "image/jpeg", 0.92));
}
