/** Push-to-talk: which frames of the microphone count, and when what was said is complete. */

/** People let go of the key on their last syllable: 96 ms more are listened to. */
const TAIL_FRAMES = 3;
/** Less than 256 ms is a slip of the finger. */
const LEAST_FRAMES = 8;

export class PushToTalk {
  isOn = false;
  #isHeld = false;
  #frames = 0;
  #tail = 0;

  press() {
    this.#isHeld = true;
    if (this.#tail === 0) this.#frames = 0;
  }

  /** @returns Whether the key was held. */
  release() {
    if (!this.#isHeld) return false;
    this.#isHeld = false;
    this.#tail = TAIL_FRAMES;
    return true;
  }

  get isHeld() {
    return this.#isHeld;
  }

  /**
   * What becomes of the frame that was just captured. `commit` and `clear` end what was said.
   *
   * @returns {"send" | "drop" | "commit" | "clear"}
   */
  frame() {
    if (!this.isOn) return "send";
    if (!this.#isHeld && this.#tail === 0) return "drop";
    this.#frames++;
    if (this.#isHeld || --this.#tail > 0) return "send";
    return this.#frames < LEAST_FRAMES + TAIL_FRAMES ? "clear" : "commit";
  }
}
