/**
 * The loudspeaker's worklet: a jitter buffer that knows how much of each item was played.
 *
 * Playing starts when enough is there to ride out late chunks, which `wait.js` says, or all there
 * will be. Every break, at an underrun, a hold or a cut, is faded, because a step in the waveform
 * clicks; a break loses no sample but those that a cut drops.
 */

import { Wait } from "./wait.js";

/** Less would click, more would swallow the first sound of a word. */
const FADE_SAMPLES = Math.round(0.008 * sampleRate);
/** How finely the page knows what was heard; less would only cost messages. */
const REPORT_SAMPLES = Math.round(0.032 * sampleRate);
/** How loud the agent goes on under a sound of the user; as in `client/dialogue/ducking.py`. */
const DUCKED = 10 ** (-15 / 20);
/** Within the 50 ms that the server's echo guard allows, without a click. */
const DUCK_SAMPLES = Math.round(0.04 * sampleRate);
/** More slowly: after a cough the voice returns, and doesn't jump out. */
const RESTORE_SAMPLES = Math.round(0.2 * sampleRate);

/**
 * @typedef {{type: "chunk", item: string, pcm: Int16Array}
 *   | {type: "complete", item: string}
 *   | {type: "flush"}
 *   | {type: "volume", state: Volume}} PlayoutOrder
 *
 * @typedef {"full" | "ducked" | "held"} Volume
 *   `held` stops at a sample, and `full` goes on from the next.
 *
 * @typedef {{item: string, samples: number}} Played How much of an item was played.
 *
 * @typedef {{type: "started", item: string}
 *   | ({type: "ended"} & Played)
 *   | {type: "flushed", items: Played[]}
 *   | {type: "position", level: number, items: Played[]}} PlayoutReport
 *   `flushed` names every item that had not ended; `position` comes every 32 ms with
 *   those being played.
 *
 * @typedef {{
 *   id: string, chunks: Int16Array[], offset: number, played: number, complete: boolean,
 * }} Item
 */

class Playout extends AudioWorkletProcessor {
  /** @type {Item[]} */
  #items = [];
  #queued = 0;
  #flowing = false;
  #gain = 0;
  #wait = new Wait(sampleRate);
  /** @type {Volume} */
  #volume = "full";
  #loudness = 1;
  /** What is left of a flush: samples already faded and counted, played before all else. */
  #tail = new Float32Array(0);
  #squares = 0;
  #unreported = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#take(data);
  }

  /** @param {PlayoutOrder} order */
  #take(order) {
    switch (order.type) {
      case "chunk":
        if (order.item === this.#starved?.id) this.#wait.underrun();
        this.#itemNamed(order.item).chunks.push(order.pcm);
        this.#queued += order.pcm.length;
        break;
      case "complete":
        this.#itemNamed(order.item).complete = true;
        this.#wait.completed();
        this.#endPlayed();
        break;
      case "flush":
        this.#flush();
        break;
      case "volume":
        this.#volume = order.state;
        break;
    }
  }

  /** @param {string} id */
  #itemNamed(id) {
    const known = this.#items.find((item) => item.id === id);
    if (known) return known;
    const item = { id, chunks: [], offset: 0, played: 0, complete: false };
    this.#items.push(item);
    return item;
  }

  /** Takes the samples of the fade now, so that the count in the report is already exact. */
  #flush() {
    const length = this.#flowing ? Math.min(FADE_SAMPLES, this.#queued) : 0;
    const from = this.#gain * this.#loudness;
    this.#tail = Float32Array.from(
      { length },
      (_, index) => this.#next() * from * (1 - (index + 1) / length),
    );
    this.#report({ type: "flushed", items: this.#positions() });
    this.#items = [];
    this.#queued = 0;
    this.#flowing = false;
    this.#gain = 0;
    this.#wait.flushed();
    this.#volume = "full";
    this.#loudness = 1;
  }

  /**
   * @param {Float32Array[][]} _inputs
   * @param {Float32Array[][]} outputs
   */
  process(_inputs, [[output]]) {
    const faded = Math.min(this.#tail.length, output.length);
    output.set(this.#tail.subarray(0, faded));
    this.#tail = this.#tail.slice(faded);

    for (let index = faded; index < output.length; index++) output[index] = this.#sample();
    this.#measure(output);
    return true;
  }

  #sample() {
    if (!this.#flowing && (this.#volume === "held" || !this.#starts())) return 0;

    const runsDry = this.#queued <= FADE_SAMPLES && !this.#isComplete();
    const fades = runsDry || this.#volume === "held";
    this.#gain = clamp(this.#gain + (fades ? -1 : 1) / FADE_SAMPLES, 0, 1);
    this.#follow(this.#volume === "full" ? 1 : DUCKED);
    const sample = this.#next() * this.#gain * this.#loudness;
    if (this.#queued === 0) {
      this.#flowing = false;
      this.#gain = 0;
    }
    if (this.#volume === "held" && this.#gain === 0) this.#flowing = false;
    return sample;
  }

  /** @param {number} loudness Where the ramp leads. */
  #follow(loudness) {
    const fall = (1 - DUCKED) / DUCK_SAMPLES;
    const rise = (1 - DUCKED) / RESTORE_SAMPLES;
    this.#loudness = clamp(loudness, this.#loudness - fall, this.#loudness + rise);
  }

  /** The item that ran dry while it was open: an underrun, if it does go on. */
  get #starved() {
    const open = this.#items.at(-1);
    return open && this.#queued === 0 && open.played > 0 && !open.complete ? open : undefined;
  }

  #starts() {
    if (this.#starved) this.#wait.ranDry();
    this.#flowing = this.#queued > 0 && (this.#isComplete() || this.#hasEnough());
    if (this.#flowing) this.#wait.started();
    return this.#flowing;
  }

  #hasEnough() {
    const { chunks, played } = /** @type {Item} */ (this.#items.at(-1));
    return this.#wait.isOver(this.#queued, chunks.at(-1)?.length ?? 0, played > 0);
  }

  #isComplete() {
    return this.#items.at(-1)?.complete ?? true;
  }

  /** The next sample of the queue, which must not be empty. */
  #next() {
    const item = /** @type {Item} */ (this.#items.find(({ chunks }) => chunks.length > 0));
    if (item.played === 0) this.#report({ type: "started", item: item.id });
    const value = item.chunks[0][item.offset++] / 32_768;
    item.played++;
    this.#queued--;
    if (item.offset === item.chunks[0].length) {
      item.chunks.shift();
      item.offset = 0;
      this.#endPlayed();
    }
    return value;
  }

  #endPlayed() {
    while (this.#items[0]?.complete && this.#items[0].chunks.length === 0) {
      const { id, played } = /** @type {Item} */ (this.#items.shift());
      this.#report({ type: "ended", item: id, samples: played });
    }
  }

  /** @param {Float32Array} output */
  #measure(output) {
    for (const sample of output) this.#squares += sample * sample;
    this.#unreported += output.length;
    if (this.#unreported < REPORT_SAMPLES) return;

    const level = Math.sqrt(this.#squares / this.#unreported);
    this.#report({ type: "position", level, items: this.#positions() });
    this.#squares = 0;
    this.#unreported = 0;
  }

  #positions() {
    return this.#items.map(({ id, played }) => ({ item: id, samples: played }));
  }

  /** @param {PlayoutReport} report */
  #report(report) {
    this.port.postMessage(report);
  }
}

/**
 * @param {number} value
 * @param {number} least
 * @param {number} most
 */
function clamp(value, least, most) {
  return Math.max(least, Math.min(most, value));
}

registerProcessor("playout", Playout);

// Lets the types above be imported.
export {};
