// Answers that keep up with a hand: at most one question under way, the newest asked next, stale answers dropped.

const PAUSE = 30; // ms between a change and the question; changes meanwhile share it

export class Live {
  /** `ask(signal)` resolves to an answer or null, `show(answer, milliseconds)`, `fail(error)`. */
  constructor(ask, show, fail) {
    Object.assign(this, { ask, show, fail, wanted: 0, turn: 0, busy: false, timer: null, abort: null });
  }

  /** Something changed: ask soon. */
  poke() {
    this.wanted += 1;
    if (!this.busy) this.timer ??= setTimeout(() => this.run(), PAUSE);
  }

  /** Whatever is under way no longer matters. */
  cancel() {
    clearTimeout(this.timer);
    this.timer = null;
    this.turn += 1;
    this.abort?.abort();
  }

  async run() {
    this.timer = null;
    this.busy = true;
    const [asked, turn] = [this.wanted, this.turn];
    this.abort = new AbortController();
    const began = performance.now();
    try {
      const answer = await this.ask(this.abort.signal);
      if (turn === this.turn) this.show(answer, performance.now() - began);
    } catch (error) {
      if (turn === this.turn && error.name !== "AbortError") this.fail(error);
    } finally {
      this.busy = false;
      if (this.wanted !== asked) this.timer ??= setTimeout(() => this.run(), PAUSE);
    }
  }
}
