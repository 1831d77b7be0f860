/** Notices which part of the page has shown no sign of life for too long. */

export class Watchdog {
  #limitMs;
  /** When each part was last seen alive. @type {Map<string, number>} */
  #seenAtMs = new Map();

  /** @param {number} limitMs */
  constructor(limitMs) {
    this.#limitMs = limitMs;
  }

  /**
   * @param {string} part
   * @param {number} nowMs
   */
  alive(part, nowMs) {
    this.#seenAtMs.set(part, nowMs);
  }

  /**
   * @param {number} nowMs
   * @returns {string | undefined} A part that is dead.
   */
  dead(nowMs) {
    for (const [part, seenAtMs] of this.#seenAtMs) {
      if (nowMs - seenAtMs > this.#limitMs) return part;
    }
    return undefined;
  }
}
