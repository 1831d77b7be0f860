/** The agent's sound in a call: what is played of which item, and what is reported of it to the server. */

import { RATE, pcmOf } from "./sound.js";

/** Less sends more events, more lets the server guess longer at what was heard. */
const REPORT_MS = 200;

/**
 * @typedef {import("./sound.js").PlayoutReport} PlayoutReport
 * @typedef {import("./sound.js").Played} Played
 *
 * @typedef {object} Item Counted in samples of the whole item, wherever our own sound began.
 * @property {number} start Where the sound that this page got begins.
 * @property {number} received Where it ends.
 * @property {number} heard Where it was last seen playing.
 * @property {number} skip How much of what comes next is there already.
 *
 * @typedef {object} Cut What was played of an item that did not end, in samples.
 * @property {string} item
 * @property {number} received
 * @property {number} heard
 */

export class Playing {
  #loudspeaker;
  #send;
  /** @type {Map<string, Item>} */
  #items = new Map();
  #reportedAtMs = 0;

  /**
   * @param {import("./sound.js").Loudspeaker} loudspeaker
   * @param {(event: object) => void} send
   */
  constructor(loudspeaker, send) {
    this.#loudspeaker = loudspeaker;
    this.#send = send;
  }

  /** Whether reports are wanted. */
  reports = false;

  get isBusy() {
    return this.#loudspeaker.isBusy;
  }

  /** How long a sample still takes to the ear after it was played. */
  get delayMs() {
    return this.#loudspeaker.delayMs;
  }

  /** @param {import("./sound.js").Volume} volume */
  set volume(volume) {
    this.#loudspeaker.volume = volume;
  }

  /**
   * @param {string} id
   * @param {string} base64
   */
  play(id, base64) {
    const item = this.#item(id);
    const pcm = pcmOf(base64);
    const skipped = Math.min(item.skip, pcm.length);
    item.skip -= skipped;
    item.received += pcm.length - skipped;
    this.#loudspeaker.play(id, pcm.slice(skipped));
  }

  /** @param {string} id */
  complete(id) {
    this.#loudspeaker.complete(id);
  }

  /**
   * The server goes on with an item from that sample, which may have been received before.
   *
   * @param {string} id
   * @param {number} start
   */
  resume(id, start) {
    if (this.#items.has(id)) this.#item(id).skip = Math.max(0, this.#item(id).received - start);
    else this.#items.set(id, { start, received: start, heard: start, skip: 0 });
  }

  /** @param {PlayoutReport} report */
  reported(report) {
    if (report.type === "ended") {
      this.#report(report.item, this.#end(report));
      this.#items.delete(report.item);
    } else if (report.type === "position") {
      const ours = report.items.filter(({ item }) => this.#items.has(item));
      for (const played of ours) this.#item(played.item).heard = this.#end(played);
      const [current] = ours;
      const isDue = performance.now() - this.#reportedAtMs > REPORT_MS;
      if (isDue && current?.samples > 0) this.#report(current.item, this.#end(current));
    }
  }

  /**
   * How much sound of an item there is, in samples; 0 once it was heard to its end or cut.
   *
   * @param {string} id
   */
  received(id) {
    return this.#items.get(id)?.received ?? 0;
  }

  /**
   * Falls silent, and tells the server how much was heard, so that it forgets the rest.
   *
   * @returns {Promise<Cut[]>} What was cut.
   */
  async cut() {
    // One that sleeps would not answer before it is awake.
    const cut = this.#loudspeaker.isAwake ? await this.#flush() : this.drop();
    for (const { item, heard } of cut) {
      this.#report(item, heard);
      this.#send({
        type: "conversation.item.truncate",
        item_id: item,
        content_index: 0,
        audio_end_ms: Math.floor((heard * 1000) / RATE),
      });
    }
    return cut;
  }

  async #flush() {
    const flushed = await this.#loudspeaker.flush();
    return flushed.map((played) => {
      const cut = { item: played.item, received: this.received(played.item), heard: this.#end(played) };
      this.#items.delete(played.item);
      return cut;
    });
  }

  /**
   * Falls silent with nobody to tell: the conversation is over.
   *
   * @returns {Cut[]} What was cut, by the latest word of the loudspeaker.
   */
  drop() {
    const cut = Array.from(this.#items, ([item, { received, heard }]) => ({ item, received, heard }));
    this.#items.clear();
    this.#loudspeaker.flush();
    return cut;
  }

  /**
   * @param {string} item
   * @param {number} heard
   */
  #report(item, heard) {
    if (!this.reports) return;
    this.#reportedAtMs = performance.now();
    this.#send({ type: "x_mimo.playout", item_id: item, audio_end_samples: heard });
  }

  /** @param {Played} played */
  #end({ item, samples }) {
    return (this.#items.get(item)?.start ?? 0) + samples;
  }

  /** @param {string} id */
  #item(id) {
    const known = this.#items.get(id);
    if (known) return known;
    const item = { start: 0, received: 0, heard: 0, skip: 0 };
    this.#items.set(id, item);
    return item;
  }
}
