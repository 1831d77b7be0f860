/** Captions: what the server's events, and what was heard of them, add to the log. */

import { Pieces } from "./heard.js";

/**
 * @typedef {import("./socket.js").ServerEvent} ServerEvent
 * @typedef {import("./log.js").Log} Log
 * @typedef {import("./playing.js").Cut} Cut
 */

export class Captions {
  #log;
  /** Answers that were not heard to their end. @type {Map<string, Pieces>} */
  #answers = new Map();

  /** @param {Log} log */
  constructor(log) {
    this.#log = log;
  }

  /**
   * @param {ServerEvent} event
   * @param {(item: string) => number} soundOf Samples of an item that were received so far.
   */
  received(event, soundOf) {
    const item = event.item_id;
    switch (event.type) {
      case "conversation.item.added":
        if (event.item.role === "user") this.#addUserItem(event.item);
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.#log.settle(item, "user", event.transcript);
        break;
      case "conversation.item.input_audio_transcription.failed":
        this.#log.settle(item, "user", "(could not be transcribed)");
        break;
      case "response.output_audio_transcript.delta":
        this.#answer(item).add(soundOf(item), this.#log.textOf(item));
        this.#log.extend(item, "agent", event.delta);
        break;
      case "response.output_audio_transcript.done":
        this.#log.settle(item, "agent", event.transcript);
        break;
      case "response.done":
        if (event.response.status === "cancelled") this.#cancelled(event.response, soundOf);
        break;
    }
  }

  /**
   * The agent was cut short: only what was heard is kept, as the server keeps it.
   *
   * @param {Cut} cut
   */
  cut({ item, received, heard }) {
    const text = this.#answer(item).heard(this.#log.textOf(item), received, heard);
    this.#answers.delete(item);
    this.#log.cut(item, text);
  }

  /**
   * Nothing more will be heard.
   *
   * @param {Cut[]} cut
   */
  end(cut) {
    for (const each of cut) this.cut(each);
    for (const item of this.#answers.keys()) this.#log.remove(item);
    this.#answers.clear();
  }

  /** @param {string} item Was heard to its end. */
  ended(item) {
    this.#answers.delete(item);
  }

  /**
   * The place of the user's words comes before the answer, though they are known later.
   *
   * @param {ServerEvent} item
   */
  #addUserItem(item) {
    const [{ text }] = item.content;
    if (text === undefined) this.#log.add(item.id, "user");
    else this.#log.settle(item.id, "user", text);
  }

  /**
   * What has sound is cut when it is known how much of it was played.
   *
   * @param {ServerEvent} response
   * @param {(item: string) => number} soundOf
   */
  #cancelled(response, soundOf) {
    for (const { id } of response.output) {
      if (soundOf(id) === 0 && this.#answers.delete(id)) this.#log.remove(id);
    }
  }

  /** @param {string} item */
  #answer(item) {
    const known = this.#answers.get(item) ?? new Pieces();
    this.#answers.set(item, known);
    return known;
  }
}
