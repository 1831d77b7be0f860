/** One call: joins the ends of sound, the connection to the server, and what is shown. */

import { Connection } from "./connection.js";
import { Dialogue } from "./dialogue.js";
import { Extensions } from "./extensions.js";
import { Problem } from "./problem.js";
import { PushToTalk } from "./push_to_talk.js";
import { ScreenLock } from "./screenlock.js";
import { base64Of } from "./sound.js";
import { Written } from "./written.js";

/**
 * @typedef {import("./view.js").Shown} Shown
 * @typedef {import("./view.js").View} View
 *
 * @typedef {object} Options
 * @property {() => Promise<{duplex: import("./duplex.js").Duplex, close(): void}>} open
 * @property {string} key Of the API; "" where the server wants none.
 * @property {import("./connection.js").Resumption} [resumption] The session to go on with.
 * @property {import("./sound.js").CapturedFrame[]} [before] What was said before the call began.
 *
 * @typedef {import("./socket.js").ServerEvent} ServerEvent
 */

export class Session {
  #view;
  #options;
  #push = new PushToTalk();
  #extensions = new Extensions();
  /** @type {Dialogue | undefined} */
  #dialogue;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {import("./duplex.js").Duplex | undefined} */
  #duplex;
  /** What has to be closed at the end, in the order it was opened. @type {{close(): void}[]} */
  #owned = [];
  #isOver = false;
  #hasBegun = false;
  #isDropped = false;
  #written;
  /** Settled with whether the conversation began. @type {PromiseWithResolvers<boolean>} */
  #began = Promise.withResolvers();

  /**
   * @param {Shown} view
   * @param {Options} options
   */
  constructor(view, options) {
    this.#view = { ...view, changed: () => this.#showPhase() };
    this.#options = options;
    this.#written = new Written(view.log, (event) => this.#send(event));
  }

  /**
   * Must be called while a click is being answered, where the browser makes sound wait for one.
   * Never rejects: trouble ends the session.
   *
   * @returns Whether the conversation began.
   */
  async start() {
    this.#view.phase("connecting");
    try {
      if (!isSecureContext) throw new Problem("insecure");
      const { duplex } = this.#own(await this.#options.open());
      if (!this.#isOver) this.#connect(duplex);
    } catch (error) {
      this.#end(error instanceof Problem ? error : new Problem("unexpected", String(error)));
    }
    return this.#began.promise;
  }

  /** What another page needs to go on with this session; undefined where the server can't. */
  get resumption() {
    return this.#connection?.resumption;
  }

  /** The ends of sound, once they are open. */
  get duplex() {
    return this.#duplex;
  }

  /**
   * Asks in writing; whatever the agent is saying gives way.
   *
   * @param {string} text
   */
  async say(text) {
    await this.#dialogue?.interrupt();
    this.#dialogue?.asked();
    // A server that is away may still be answering when it is back.
    if (this.#isDropped) this.#send({ type: "response.cancel" });
    this.#written.write(text);
    this.#showPhase();
  }

  /** The agent falls silent, and nobody has the floor. */
  interrupt() {
    this.#dialogue?.interrupt();
  }

  /** @param {boolean} isOn Whether the user says by a key when a turn begins and ends. */
  set pushToTalk(isOn) {
    if (this.#push.isOn === isOn) return;
    this.#push.isOn = isOn;
    if (this.#hasBegun) this.#configure();
    this.#showPhase();
  }

  /** The key goes down: the floor is the user's. */
  press() {
    if (!this.#push.isOn || this.#push.isHeld || !this.#hasBegun) return;
    this.#push.press();
    this.#dialogue?.pressed();
    this.#showPhase();
  }

  /** The key comes up: what was said is complete. */
  release() {
    if (this.#push.release()) this.#dialogue?.released();
  }

  hangUp() {
    this.#end();
  }

  /** @param {Problem} [problem] */
  #end(problem) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#dialogue?.end();
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

  /** @param {import("./duplex.js").Duplex} duplex */
  #connect(duplex) {
    this.#duplex = duplex;
    this.#dialogue = new Dialogue(this.#view, duplex.loudspeaker, (event) => this.#sendNow(event));
    duplex.listener = {
      heard: (frame) => this.#heard(frame),
      played: (report) => this.#played(report),
      changed: () => this.#showSound(),
      replaced: (problem) => this.#view.problem(problem),
    };
    this.#own(new ScreenLock());
    const listener = {
      began: this.#connected.bind(this),
      received: this.#received.bind(this),
      dropped: this.#dropped.bind(this),
      ended: this.#end.bind(this),
    };
    this.#connection = this.#own(new Connection(listener, this.#options));
    for (const frame of this.#options.before ?? []) this.#heard(frame);
    this.#showSound();
  }

  /** @param {import("./connection.js").ClientEvent} event Waits for the server, if it is not there. */
  #send(event) {
    this.#connection?.send(event);
  }

  /** @param {object} event Is of no use to a server that is not there. */
  #sendNow(event) {
    this.#connection?.sendNow(event);
  }

  /**
   * @param {import("./connection.js").Beginning} beginning
   */
  #connected(beginning) {
    const isReplaced = beginning === "replaced";
    if (isReplaced) {
      this.#written.withdraw();
      this.#dialogue?.startOver();
    }
    else if (beginning === "resumed") this.#dialogue?.resume(this.#hasBegun);
    this.#hasBegun = true;
    this.#isDropped = false;
    this.#configure();
    if (isReplaced && this.#written.writeAgain()) this.#dialogue?.asked();
    this.#view.connected();
    this.#view.problem(isReplaced ? new Problem("replaced") : undefined);
    this.#began.resolve(true);
    this.#showPhase();
  }

  #configure() {
    const input = {
      transcription: { model: "embedded" },
      turn_detection: this.#push.isOn ? null : { type: "semantic_vad" },
    };
    const session = { type: "realtime", audio: { input }, ...this.#extensions.wish };
    this.#sendNow({ type: "session.update", session });
  }

  #dropped() {
    this.#isDropped = true;
    this.#view.problem(new Problem("dropped"));
    this.#view.phase("reconnecting");
  }

  /**
   * The microphone gave a frame.
   *
   * @param {import("./sound.js").CapturedFrame} frame
   */
  #heard({ pcm, level }) {
    this.#view.level("user", level);
    const fate = this.#push.frame();
    if (fate === "drop") return;
    this.#send({ type: "input_audio_buffer.append", audio: base64Of(pcm) });
    this.#dialogue?.sent(pcm.length);
    if (fate === "commit") this.#commit();
    else if (fate === "clear") this.#forget();
  }

  #commit() {
    this.#send({ type: "input_audio_buffer.commit" });
    this.#send({ type: "response.create" });
    this.#dialogue?.committed();
    this.#showPhase();
  }

  #forget() {
    this.#send({ type: "input_audio_buffer.clear" });
    this.#dialogue?.dropped();
    this.#view.problem(new Problem("held-briefly"));
    this.#showPhase();
  }

  /** @param {import("./sound.js").PlayoutReport} report */
  #played(report) {
    if (this.#isOver) return;
    this.#dialogue?.played(report);
    if (report.type !== "position") this.#showPhase();
  }

  #showSound() {
    if (!this.#duplex) return;
    this.#view.sound(this.#duplex);
    if (this.#extensions.echo(this.#duplex.cancelsEchoes) && this.#hasBegun) this.#configure();
    this.#showPhase();
  }

  #showPhase() {
    if (this.#isOver || !this.#hasBegun || this.#isDropped || !this.#dialogue) return;
    const { holder } = this.#dialogue;
    const isDeaf = this.#push.isOn || !this.#duplex?.hasMicrophone;
    this.#view.phase(holder === "listening" && isDeaf ? "waiting" : holder);
  }

  /** @param {ServerEvent} event */
  #received(event) {
    switch (event.type) {
      case "session.updated":
        this.#updated(event.session);
        break;
      case "error":
        this.#receivedError(event.error);
        break;
      case "conversation.item.added":
        this.#written.confirmed(event.item.id);
      // falls through
      default:
        this.#dialogue?.received(event);
    }
    this.#showPhase();
  }

  /** @param {ServerEvent} session */
  #updated(session) {
    this.#extensions.grant(session.x_mimo);
    if (this.#dialogue) this.#dialogue.reports = this.#extensions.has("playout");
    this.#view.answeredBy(session.x_mimo?.answered_by ?? "");
    const token = session.x_mimo?.resume_token;
    if (token && this.#connection) this.#connection.token = token;
  }

  /** @param {{code?: string, param?: string, message: string}} error */
  #receivedError(error) {
    // The response ended by itself while our wish to cancel it was on its way.
    if (error.code === "response_cancel_not_active") return;
    if (this.#extensions.isRefusedBy(error)) this.#configure();
    else this.#view.problem(new Problem("protocol", error.message));
  }
}
