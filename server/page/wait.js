/**
 * How long the loudspeaker holds sound back, so that later sound may be late; by the same rules as
 * `client/dialogue/wait.py`, and like it without a clock: samples that were due tell the time.
 *
 * It waits for 1.75 times the wait's worth of sound, as answers come faster than they play, and for
 * half a chunk more, which is the time until the next one; but not longer than the wait. That
 * begins at 100 ms, grows with each underrun by half of it, up to 320 ms, and shrinks by 3 ms with
 * each item that plays without one.
 */

export class Wait {
  #shortest;
  #longest;
  #calmer;
  #wait;
  /** Since there has been sound to play, but not enough. */
  #waited = 0;
  /** Since there has been none, though the item goes on. */
  #dry = 0;
  /** No underrun so far in this item. */
  #calm = true;

  /** @param {number} rate Samples a second. */
  constructor(rate) {
    this.#shortest = Math.round(0.1 * rate);
    this.#longest = Math.round(0.32 * rate);
    this.#calmer = Math.round(0.003 * rate);
    this.#wait = this.#shortest;
  }

  /**
   * Whether the sound may play now. To be asked for each sample that is due while it may not.
   *
   * @param {number} queued Samples of it.
   * @param {number} newest Samples of the newest chunk of it.
   * @param {boolean} wasHeard Whether the item has been heard already: then a gap ends soon.
   */
  isOver(queued, newest, wasHeard) {
    const isEnough = queued >= (wasHeard ? this.#wait / 2 : this.#least(newest));
    if (!isEnough) this.#waited++;
    return isEnough;
  }

  /** @param {number} newest */
  #least(newest) {
    return this.#waited >= this.#wait ? this.#wait : 1.75 * this.#wait + newest / 2;
  }

  /** A sample was due, and there was none, though the item goes on. */
  ranDry() {
    this.#dry++;
  }

  /** The item that ran dry does go on. */
  underrun() {
    this.#wait = Math.min(this.#longest, this.#wait + Math.floor(this.#dry / 2));
    this.#calm = false;
  }

  /** Sound plays. */
  started() {
    this.#waited = 0;
    this.#dry = 0;
  }

  /** An item is complete. */
  completed() {
    if (this.#calm) this.#wait = Math.max(this.#shortest, this.#wait - this.#calmer);
    this.#calm = true;
  }

  /** What is waited for was dropped. */
  flushed() {
    this.started();
    this.#calm = true;
  }
}
