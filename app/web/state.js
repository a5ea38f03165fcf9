// What all views share: the galleries, and which one is chosen.

import * as api from "./api.js";

const CHOSEN = "oneshot-gallery";
const listeners = new Set();

export const state = { gallery: sessionStorage.getItem(CHOSEN) || "default", galleries: [] };

/** Calls `listener` whenever the choice or the list changes; returns how to stop it. */
export function onState(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = () => [...listeners].forEach((listener) => listener());

/** How many classes the chosen gallery has. */
export const size = () => state.galleries.find((each) => each.name === state.gallery)?.classes ?? 0;

/** Whether the chosen gallery is in the store; one that was only named is there from its first class on. */
export const isStored = () => state.galleries.some((each) => each.name === state.gallery);

/** Whether it can be asked; `default` always can. */
export const exists = () => state.gallery === "default" || isStored();

export async function refreshGalleries() {
  state.galleries = (await api.galleries()).galleries;
  tell();
}

export async function chooseGallery(name) {
  state.gallery = name;
  sessionStorage.setItem(CHOSEN, name);
  await refreshGalleries();
}
