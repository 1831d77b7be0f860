/** Keeps the screen on, where the browser can: a phone that sleeps hears nobody. */

export class ScreenLock {
  /** @type {WakeLockSentinel | undefined} */
  #lock;
  #isClosed = false;

  constructor() {
    document.addEventListener("visibilitychange", this.#take);
    this.#take();
  }

  close() {
    this.#isClosed = true;
    document.removeEventListener("visibilitychange", this.#take);
    this.#lock?.release();
  }

  /** A page that is hidden loses its lock. */
  #take = async () => {
    if (document.visibilityState !== "visible" || this.#lock?.released === false) return;
    try {
      const lock = await navigator.wakeLock?.request("screen");
      if (this.#isClosed) lock?.release();
      else this.#lock = lock;
    } catch {
      // The battery is low, or the browser forbids it.
    }
  };
}
