/** One call: opens the ends of sound and the connection, and joins them with what is shown. */

import { caption } from "./captions.js";
import { Connection } from "./connection.js";
import { Problem } from "./problem.js";
import { Loudspeaker, Microphone, RATE, base64Of } from "./sound.js";
import { SpeechClock, Turn } from "./turn.js";

/**
 * @typedef {"idle" | "connecting" | "waiting" | import("./turn.js").Holder} Phase
 *   `waiting` is `listening` without a microphone.
 *
 * @typedef {object} View What a session shows.
 * @property {import("./log.js").Log} log
 * @property {(phase: Phase) => void} phase
 * @property {(model: string) => void} connected
 * @property {(speaker: import("./log.js").Speaker, level: number) => void} level RMS, 0 to 1.
 * @property {(ms: number) => void} latency From the end of speech to the first sound.
 * @property {(problem: Problem) => void} problem Something failed and the call goes on.
 * @property {(problem?: Problem) => void} ended The call is over; said once.
 *
 * @typedef {import("./connection.js").ServerEvent} ServerEvent
 */

export class Session {
  #view;
  #turn = new Turn();
  #clock = new SpeechClock();
  /** @type {Connection | undefined} */
  #connection;
  /** @type {Loudspeaker | undefined} */
  #loudspeaker;
  #hasMicrophone = false;
  /** What has to be closed at the end, in the order it was opened. @type {{close(): void}[]} */
  #owned = [];
  #isOver = false;
  /** Settled with whether the conversation began. @type {PromiseWithResolvers<boolean>} */
  #began = Promise.withResolvers();
  #silenceMs = 0;
  /** When the user's last words ended, until the answer is heard. @type {number | undefined} */
  #speechEndMs;

  /** @param {View} view */
  constructor(view) {
    this.#view = view;
  }

  /**
   * Must be called while a click is being answered. Never rejects: trouble ends the session.
   *
   * @param {{microphone: boolean}} options Without a microphone the user can only type.
   * @returns Whether the conversation began.
   */
  async start({ microphone }) {
    this.#view.phase("connecting");
    try {
      if (!isSecureContext) throw new Problem("insecure");
      this.#loudspeaker = this.#own(await Loudspeaker.open((report) => this.#played(report)));
      if (microphone) await this.#listen(this.#loudspeaker.context);
      if (!this.#isOver) this.#connect();
    } catch (error) {
      this.#end(error instanceof Problem ? error : new Problem("unexpected", String(error)));
    }
    return this.#began.promise;
  }

  /**
   * Asks in writing; whatever the agent is saying gives way.
   *
   * @param {string} text
   */
  async say(text) {
    if (this.#turn.hasRunningResponse) this.#send({ type: "response.cancel" });
    this.#turn.asked();
    await this.#silenceAgent();
    this.#send({
      type: "conversation.item.create",
      item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
    });
    this.#send({ type: "response.create" });
  }

  hangUp() {
    this.#end();
  }

  /** @param {Problem} [problem] */
  #end(problem) {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const resource of this.#owned.reverse()) resource.close();
    this.#began.resolve(false);
    this.#view.ended(problem);
  }

  /**
   * Closes the resource with the session, at once if it was hung up while the resource opened.
   *
   * @template {{close(): void}} T
   * @param {T} resource
   */
  #own(resource) {
    if (this.#isOver) resource.close();
    else this.#owned.push(resource);
    return resource;
  }

  /** @param {AudioContext} context */
  async #listen(context) {
    if (this.#isOver) return;
    this.#own(
      await Microphone.open(context, {
        frame: ({ pcm, level }) => this.#heard(pcm, level),
        lost: () => this.#end(new Problem("microphone-lost")),
      }),
    );
    this.#hasMicrophone = true;
  }

  #connect() {
    const connection = new Connection({
      received: (event) => this.#received(event),
      ended: (problem) => this.#end(problem),
    });
    this.#connection = this.#own(connection);
  }

  /** @param {object} event */
  #send(event) {
    this.#connection?.send(event);
  }

  /**
   * The microphone gave a frame.
   *
   * @param {Int16Array<ArrayBuffer>} pcm
   * @param {number} level
   */
  #heard(pcm, level) {
    this.#view.level("user", level);
    if (!this.#connection?.isOpen) return;
    this.#send({ type: "input_audio_buffer.append", audio: base64Of(pcm) });
    this.#clock.sent((1000 * pcm.length) / RATE, performance.now());
  }

  /**
   * The loudspeaker reports what was played.
   *
   * @param {import("./sound.js").PlayoutReport} report
   */
  #played(report) {
    if (this.#isOver || !this.#loudspeaker) return;
    switch (report.type) {
      case "position":
        this.#view.level("agent", report.level);
        return;
      case "started":
        this.#turn.agentIsAudible(true);
        this.#measureLatency(this.#loudspeaker.delayMs);
        break;
      case "ended":
        this.#turn.agentIsAudible(this.#loudspeaker.isBusy);
        break;
    }
    this.#showPhase();
  }

  /** @param {number} delayMs */
  #measureLatency(delayMs) {
    if (this.#speechEndMs === undefined) return;
    this.#view.latency(performance.now() + delayMs - this.#speechEndMs);
    this.#speechEndMs = undefined;
  }

  /** Stops the agent, and tells the server how much was heard, so that it forgets the rest. */
  async #silenceAgent() {
    this.#speechEndMs = undefined;
    const cut = (await this.#loudspeaker?.flush()) ?? [];
    this.#turn.agentIsAudible(false);
    for (const { item, samples } of cut) {
      this.#send({
        type: "conversation.item.truncate",
        item_id: item,
        content_index: 0,
        audio_end_ms: Math.floor((samples * 1000) / RATE),
      });
      this.#view.log.interrupt(item);
    }
    this.#showPhase();
  }

  #showPhase() {
    if (this.#isOver) return;
    const holder = this.#turn.holder(this.#loudspeaker?.isBusy ?? false);
    this.#view.phase(holder === "listening" && !this.#hasMicrophone ? "waiting" : holder);
  }

  /** @param {ServerEvent} event */
  #received(event) {
    // Late: the user has cut in since.
    if (event.response_id && !this.#turn.wants(event.response_id)) return;
    caption(this.#view.log, event);
    if (event.type.startsWith("response.")) this.#receivedOfResponse(event);
    else this.#receivedOfSession(event);
    this.#showPhase();
  }

  /** @param {ServerEvent} event */
  #receivedOfSession(event) {
    switch (event.type) {
      case "session.created":
        this.#send({
          type: "session.update",
          session: { type: "realtime", audio: { input: { transcription: { model: "embedded" } } } },
        });
        this.#view.connected(event.session.model);
        this.#began.resolve(true);
        break;
      case "session.updated":
        this.#silenceMs = event.session.audio.input.turn_detection?.silence_duration_ms ?? 0;
        break;
      case "input_audio_buffer.speech_started":
        this.#turn.speechStarted();
        this.#silenceAgent();
        break;
      case "input_audio_buffer.speech_stopped":
        this.#turn.speechStopped();
        this.#speechEndMs = this.#clock.timeOf(event.audio_end_ms - this.#silenceMs);
        break;
      case "input_audio_buffer.cleared":
        this.#turn.speechDropped();
        break;
      case "error":
        this.#receivedError(event.error);
        break;
    }
  }

  /** @param {{code?: string, message: string}} error */
  #receivedError({ code, message }) {
    // The response ended by itself while our wish to cancel it was on its way.
    if (code === "response_cancel_not_active") return;
    this.#view.problem(new Problem("protocol", message));
  }

  /** @param {ServerEvent} event */
  #receivedOfResponse(event) {
    switch (event.type) {
      case "response.created":
        this.#turn.responseCreated(event.response.id);
        break;
      case "response.output_audio.delta":
        this.#loudspeaker?.play(event.item_id, event.delta);
        break;
      case "response.output_audio.done":
        this.#loudspeaker?.complete(event.item_id);
        break;
      case "response.done":
        this.#responseDone(event.response);
        break;
    }
  }

  /** @param {ServerEvent} response */
  #responseDone(response) {
    this.#turn.responseDone(response.id);
    if (response.status !== "failed") return;
    this.#view.problem(new Problem("unanswered", response.status_details?.error?.message));
  }
}
