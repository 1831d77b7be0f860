/** How long nobody has used the kiosk; given the time, so that it needs no clock. */

export class Idle {
  #idleMs;
  #countdownMs;
  #activeAtMs = 0;

  /**
   * @param {number} idleMs Before the countdown.
   * @param {number} countdownMs
   */
  constructor(idleMs, countdownMs) {
    this.#idleMs = idleMs;
    this.#countdownMs = countdownMs;
  }

  /** @param {number} nowMs */
  active(nowMs) {
    this.#activeAtMs = nowMs;
  }

  /**
   * @param {number} nowMs
   * @returns {number | undefined} Whole seconds that are left, 0 at the end; undefined while
   *   nothing is counted.
   */
  left(nowMs) {
    const overMs = nowMs - this.#activeAtMs - this.#idleMs;
    if (overMs < 0) return undefined;
    return Math.max(0, Math.ceil((this.#countdownMs - overMs) / 1000));
  }
}
