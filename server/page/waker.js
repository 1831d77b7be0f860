/** Brings sound back that the browser, the system or a telephone call has taken away. */

/** Between attempts that no click asks for; the browser may refuse each. */
const RETRY_MS = 1000;
/** What a person does that lets a browser begin sound, and signs that the page is in use again. */
const SIGNS = ["click", "keydown", "pointerdown", "touchend", "focus", "pageshow"];

export class Waker {
  /** @type {Set<BaseAudioContext & {resume(): Promise<void>}>} */
  #contexts = new Set();
  #changed;
  #timer = 0;

  /** @param {() => void} changed Called when `isAsleep` may have changed. */
  constructor(changed) {
    this.#changed = changed;
    for (const sign of SIGNS) addEventListener(sign, this.#wake, { capture: true });
    document.addEventListener("visibilitychange", this.#wake);
  }

  /** @param {AudioContext} context Which runs, and is to go on running. */
  watch(context) {
    this.#contexts.add(context);
    context.addEventListener("statechange", this.#stateChanged);
  }

  /** @param {AudioContext} context */
  forget(context) {
    this.#contexts.delete(context);
    context.removeEventListener("statechange", this.#stateChanged);
  }

  /** Whether sound has been taken away. */
  get isAsleep() {
    return this.#asleep.length > 0;
  }

  close() {
    clearTimeout(this.#timer);
    for (const sign of SIGNS) removeEventListener(sign, this.#wake, { capture: true });
    document.removeEventListener("visibilitychange", this.#wake);
    this.#contexts.clear();
  }

  /** Safari has a state `interrupted` beside `suspended`. */
  get #asleep() {
    return Array.from(this.#contexts).filter(({ state }) => !["running", "closed"].includes(state));
  }

  #stateChanged = () => {
    this.#wake();
    this.#changed();
  };

  #wake = () => {
    clearTimeout(this.#timer);
    // Refused as long as what took the sound has it.
    for (const context of this.#asleep) context.resume().catch(() => undefined);
    if (this.isAsleep) this.#timer = setTimeout(this.#wake, RETRY_MS);
  };
}
