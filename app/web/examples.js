// The first minute: a gallery of characters that the page draws itself, enrolled through the same API as any other.

import * as api from "./api.js";
import { glyph, names } from "./glyphs.js";
import { strokesToBlob } from "./pad.js";
import { chooseGallery } from "./state.js";

export const EXAMPLES = "examples";
const AT_ONCE = 4;

/** Enrols the samples that the gallery doesn't have yet, and chooses it. `progress(done, total)`. */
export async function makeExamples(progress) {
  const waiting = [...names];
  let done = 0;
  const work = async () => {
    for (let name = waiting.shift(); name; name = waiting.shift()) {
      await api.enroll(EXAMPLES, name, strokesToBlob(glyph(name)), "replace");
      progress((done += 1), names.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  api.forgetPictures();
  await chooseGallery(EXAMPLES);
}
