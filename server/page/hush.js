/** Notices a microphone that gives nothing but digital silence, which no room is. */

/** 3 s of frames of 32 ms. */
const FRAMES = 94;

export class Hush {
  #silentFrames = 0;

  /** Whether nothing has been heard for long. */
  get isSilent() {
    return this.#silentFrames >= FRAMES;
  }

  /**
   * @param {number} level RMS of a frame, from 0 to 1.
   * @returns Whether `isSilent` has changed.
   */
  heard(level) {
    const wasSilent = this.isSilent;
    this.#silentFrames = level > 0 ? 0 : this.#silentFrames + 1;
    return this.isSilent !== wasSilent;
  }
}
