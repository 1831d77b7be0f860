/** Tells from the loudness of a room whether somebody began to speak into the microphone. */

/** Where the noise of the room is thought to be at first: -40 dB. */
const FIRST_FLOOR = 0.01;
/** Nothing quieter than -46 dB is speech to a visitor's microphone. */
const LEAST_LEVEL = 0.005;
/** Speech is 12 dB above the room. */
const ABOVE = 4;
/** The room is as loud as its quietest moments; it is believed to get louder by 1 dB a second. */
const RISE = 10 ** (1 / 20 / 31.25);
/** Of the way to a quieter moment: less would learn the room late, more believe one gap. */
const FALL = 0.2;
/** A door bangs for less: 8 of 12 frames of 32 ms have to be loud. */
const FRAMES = 12;
const LOUD_FRAMES = 8;

export class Presence {
  #floor = FIRST_FLOOR;
  /** @type {boolean[]} */
  #loud = [];

  /**
   * @param {number} level RMS of a frame of 32 ms, from 0 to 1.
   * @returns Whether somebody speaks.
   */
  heard(level) {
    const isLoud = level > Math.max(LEAST_LEVEL, ABOVE * this.#floor);
    const quieter = this.#floor + FALL * (level - this.#floor);
    this.#floor = level < this.#floor ? quieter : this.#floor * RISE;
    this.#loud = [...this.#loud, isLoud].slice(-FRAMES);
    return this.#loud.filter(Boolean).length >= LOUD_FRAMES;
  }

  /** What was heard so far counts no more; how loud the room is does. */
  forget() {
    this.#loud = [];
  }
}
