/** The exchange of turns: what the server's events and the user's acts change in it. */

import { Captions } from "./captions.js";
import { Playing } from "./playing.js";
import { Problem } from "./problem.js";
import { RATE } from "./sound.js";
import { SpeechClock, Turn } from "./turn.js";

/**
 * @typedef {import("./socket.js").ServerEvent} ServerEvent
 */

export class Dialogue {
  #view;
  #send;
  #playing;
  #captions;
  #turn = new Turn();
  #clock = new SpeechClock();
  /** When the key was released, until the answer to what was said. @type {number | undefined} */
  #releasedAtMs;
  /** When the speech ended whose answer is next to be heard. @type {number | undefined} */
  #speechEndMs;

  /**
   * @param {import("./view.js").View} view
   * @param {import("./sound.js").Loudspeaker} loudspeaker
   * @param {(event: object) => void} send
   */
  constructor(view, loudspeaker, send) {
    this.#view = view;
    this.#send = send;
    this.#playing = new Playing(loudspeaker, send);
    this.#captions = new Captions(view.log);
  }

  get holder() {
    return this.#turn.holder(this.#playing.isBusy);
  }

  /**
   * The session goes on.
   *
   * @param {boolean} isOurs Whether it began on this page, and not on the one before.
   */
  resume(isOurs) {
    this.#playing.volume = "full";
    this.#clock.lost();
    if (!isOurs) this.#turn.takenOver();
  }

  /** The session is another one, which knows nothing of this. */
  startOver() {
    this.end();
    this.#view.log.end();
    this.#turn = new Turn();
    this.#clock = new SpeechClock();
    this.#speechEndMs = undefined;
    this.#view.log.begin();
  }

  /** Nothing more will be said. */
  end() {
    this.#captions.end(this.#playing.drop());
  }

  /** @param {boolean} areWanted Whether the server wants to know what was played. */
  set reports(areWanted) {
    this.#playing.reports = areWanted;
  }

  /** @param {number} samples Of the microphone, sent just now. */
  sent(samples) {
    this.#clock.sent((1000 * samples) / RATE, performance.now());
  }

  /** The agent falls silent, and nobody has the floor. */
  async interrupt() {
    if (this.#turn.hasRunningResponse) this.#send({ type: "response.cancel" });
    this.#turn.interrupted();
    await this.#silenceAgent();
  }

  /** The user asked in writing. */
  asked() {
    this.#turn.asked();
  }

  /** The user takes the floor by a key. */
  pressed() {
    this.interrupt();
    this.#turn.speechStarted();
  }

  released() {
    this.#releasedAtMs = performance.now();
  }

  /** What was said while the key was held awaits its answer. */
  committed() {
    this.#turn.speechStopped();
  }

  /** What the user began to say is thrown away. */
  dropped() {
    this.#turn.speechDropped();
    this.#releasedAtMs = undefined;
  }

  /** @param {import("./sound.js").PlayoutReport} report */
  played(report) {
    this.#playing.reported(report);
    switch (report.type) {
      case "position":
        this.#view.level("agent", report.level);
        break;
      case "started":
        this.#turn.agentIsAudible(true);
        this.#measureLatency();
        break;
      case "ended":
        this.#captions.ended(report.item);
        this.#turn.agentIsAudible(this.#playing.isBusy);
        break;
    }
  }

  /** @param {ServerEvent} event */
  received(event) {
    // Late: the user has cut in since.
    if (event.response_id && !this.#turn.wants(event.response_id)) return;
    this.#captions.received(event, (item) => this.#playing.received(item));
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this.#turn.speechStarted();
        this.#silenceAgent();
        break;
      case "input_audio_buffer.speech_stopped":
        this.#turn.speechStopped();
        break;
      case "input_audio_buffer.cleared":
        this.#turn.speechDropped();
        break;
      case "response.created":
        this.#playing.volume = "full";
        this.#turn.responseCreated(event.response.id);
        break;
      case "response.output_audio.delta":
        this.#playing.play(event.item_id, event.delta);
        break;
      case "response.output_audio.done":
        this.#playing.complete(event.item_id);
        break;
      case "response.done":
        this.#responseDone(event.response);
        break;
      case "x_mimo.marks":
        this.#speechEndMs = this.#endOfSpeech(event);
        break;
      case "x_mimo.duck":
        this.#playing.volume = "ducked";
        break;
      case "x_mimo.hold":
        this.#playing.volume = "held";
        break;
      case "x_mimo.restore":
        this.#playing.volume = "full";
        break;
      case "x_mimo.resumed":
        this.#playing.resume(event.item_id, event.audio_start_samples);
        break;
    }
  }

  /**
   * When the speech ended that this response answers; undefined if no sound does.
   *
   * @param {ServerEvent} marks
   */
  #endOfSpeech({ speech_end_ms: position, first_sound_ms: afterMs }) {
    const releasedAtMs = this.#releasedAtMs;
    this.#releasedAtMs = undefined;
    if (afterMs === null) return undefined;
    const saidAtMs = position === null ? releasedAtMs : this.#clock.timeOf(position);
    return saidAtMs ?? performance.now() - afterMs;
  }

  #measureLatency() {
    if (this.#speechEndMs === undefined) return;
    this.#view.latency(performance.now() + this.#playing.delayMs - this.#speechEndMs);
    this.#speechEndMs = undefined;
  }

  async #silenceAgent() {
    this.#speechEndMs = undefined;
    const cut = await this.#playing.cut();
    this.#turn.agentIsAudible(false);
    for (const each of cut) this.#captions.cut(each);
    this.#view.changed();
  }

  /** @param {ServerEvent} response */
  #responseDone(response) {
    this.#turn.responseDone(response.id);
    if (response.status !== "failed") return;
    this.#view.problem(new Problem("unanswered", response.status_details?.error?.message));
  }
}
