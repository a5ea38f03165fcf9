// Answers that keep up with a hand: at most one question under way, the newest asked next, stale answers dropped.

const PAUSE = 25; // ms between a change and the question; changes meanwhile share it
const MEASURE = "live answer"; // in the browser's own timing, where benchmarks/live.py reads it

export class Live {
  /** `ask(signal)` resolves to an answer or null, `show(answer, milliseconds)`, `fail(error)`. The milliseconds are
   *  those since the oldest change that this answer is the first to know of. */
  constructor(ask, show, fail) {
    Object.assign(this, { ask, show, fail, since: null, turn: 0, busy: false, timer: null, abort: null });
  }

  /** Something changed: ask soon. */
  poke() {
    this.since ??= performance.now();
    if (!this.busy) this.timer ??= setTimeout(() => this.run(), PAUSE);
  }

  /** Whatever is under way no longer matters. */
  cancel() {
    clearTimeout(this.timer);
    this.timer = this.since = null;
    this.turn += 1;
    this.abort?.abort();
  }

  async run() {
    const [turn, since, asked] = [this.turn, this.since, performance.now()];
    this.timer = this.since = null;
    this.busy = true;
    this.abort = new AbortController();
    try {
      const answer = await this.ask(this.abort.signal);
      if (turn !== this.turn) return;
      this.show(answer, performance.now() - since);
      performance.clearMeasures(MEASURE); // one is enough to be observed; all of them would be a leak
      performance.measure(MEASURE, { start: since, detail: { question: performance.now() - asked } });
    } catch (error) {
      if (turn === this.turn && error.name !== "AbortError") this.fail(error);
    } finally {
      this.busy = false;
      if (this.since !== null) this.timer ??= setTimeout(() => this.run(), PAUSE);
    }
  }
}
