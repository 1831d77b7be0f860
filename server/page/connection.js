/** The connection to the server, which outlives its sockets: it asks for the same session again. */

import { backoff } from "./backoff.js";
import { Problem } from "./problem.js";
import { Socket } from "./socket.js";

/** As long as the server keeps a session whose client has gone. */
const GRACE_MS = 60_000;
/** A server that was silent for so long is asked for a sign, and after twice that given up. */
const QUIET_MS = 15_000;
/** Frames of speech kept while the connection is away: the newest 10 s, as in the terminal. */
const MOST_FRAMES = 313;

/**
 * @typedef {import("./socket.js").ServerEvent} ServerEvent
 * @typedef {{type: string, [field: string]: unknown}} ClientEvent
 *
 * @typedef {{token: string, session: string}} Resumption What it takes to go on with a session.
 *
 * @typedef {"first" | "resumed" | "replaced"} Beginning
 *   `replaced`: the session that was asked for is gone, and this one knows nothing of it.
 *
 * @typedef {object} Listener
 * @property {(beginning: Beginning, session: ServerEvent) => void} began
 *   The server greets; what is sent now comes before all that waited.
 * @property {(event: ServerEvent) => void} received
 * @property {() => void} dropped The socket is lost, and the connection tries to come back.
 * @property {(problem?: Problem) => void} ended For good; not called when the page closed it.
 */

export class Connection {
  #listener;
  #key;
  #token;
  #session;
  /** The last event that this page received; another page's are not known to have been heard. */
  #last = "";
  /** @type {Socket | undefined} */
  #socket;
  #hasBegun = false;
  /** @type {ClientEvent[]} */
  #waiting = [];
  #waits = backoff();
  #droppedAtMs = performance.now();
  #receivedAtMs = 0;
  #timer = 0;
  #watch;

  /**
   * @param {Listener} listener
   * @param {{key: string, resumption?: Resumption}} options
   */
  constructor(listener, { key, resumption }) {
    this.#listener = listener;
    this.#key = key;
    this.#token = resumption?.token ?? "";
    this.#session = resumption?.session;
    this.#watch = setInterval(() => this.#check(), 1000);
    addEventListener("offline", this.#goneOffline);
    this.#connect();
  }

  /** What another page needs to go on; undefined while the server has not offered it. */
  get resumption() {
    if (!this.#token || !this.#session) return undefined;
    return { token: this.#token, session: this.#session };
  }

  /** @param {string} token For the next socket; the one before it is used up. */
  set token(token) {
    this.#token = token;
  }

  /** @param {ClientEvent} event Waits for a socket, if there is none. */
  send(event) {
    if (this.#hasBegun) {
      this.#socket?.send(event);
      return;
    }
    this.#waiting.push(event);
    // What was written is kept, whatever was said meanwhile.
    const frames = this.#waiting.filter(({ type }) => type === "input_audio_buffer.append");
    if (frames.length > MOST_FRAMES) this.#waiting.splice(this.#waiting.indexOf(frames[0]), 1);
  }

  /** @param {object} event Is of no use later. */
  sendNow(event) {
    if (this.#hasBegun) this.#socket?.send(event);
  }

  close() {
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    removeEventListener("offline", this.#goneOffline);
    this.#socket?.close();
  }

  #connect() {
    this.#receivedAtMs = performance.now();
    this.#socket = new Socket(
      { key: this.#key, token: this.#token, after: this.#last },
      {
        received: (event) => this.#received(event),
        ended: (problem) => this.#lost(problem),
      },
    );
  }

  /** @param {ServerEvent} event */
  #received(event) {
    this.#receivedAtMs = performance.now();
    if (!this.#hasBegun && event.type === "error") return;
    this.#last = event.event_id ?? "";
    if (event.type === "session.created") this.#begin(event.session);
    else this.#listener.received(event);
  }

  /** @param {ServerEvent} session */
  #begin(session) {
    const before = this.#session;
    const beginning = !before ? "first" : before === session.id ? "resumed" : "replaced";
    this.#session = session.id;
    this.#token = session.x_mimo?.resume_token ?? (beginning === "resumed" ? this.#token : "");
    this.#waits = backoff();
    this.#hasBegun = true;
    this.#listener.began(beginning, session);
    const waiting = beginning === "replaced" ? [] : this.#waiting;
    this.#waiting = [];
    for (const event of waiting) this.#socket?.send(event);
  }

  /** @param {Problem} [problem] */
  #lost(problem) {
    const wasOpen = this.#hasBegun;
    if (wasOpen) this.#droppedAtMs = performance.now();
    this.#hasBegun = false;
    if (!this.#mayReturn(problem)) {
      this.close();
      this.#listener.ended(problem);
      return;
    }
    // The server doesn't know the session any more: what it can still give is a new one.
    const isForgotten = !wasOpen && this.#token && problem?.code === "refused";
    if (isForgotten) this.#token = "";
    this.#listener.dropped();
    this.#timer = setTimeout(() => this.#connect(), isForgotten ? 0 : this.#waits.next().value);
  }

  /** @param {Problem} [problem] */
  #mayReturn(problem) {
    if (!problem || !this.#session) return false;
    if (performance.now() - this.#droppedAtMs > GRACE_MS) return false;
    if (problem.code === "refused") return !this.#hasBegun && this.#token !== "";
    return ["lost", "busy", "proxy", "unreachable"].includes(problem.code);
  }

  /** A network that was cut says nothing: only silence tells. */
  #check() {
    if (!this.#hasBegun) return;
    const quietMs = performance.now() - this.#receivedAtMs;
    if (quietMs > 2 * QUIET_MS) this.#socket?.fail(new Problem("lost"));
    else if (quietMs > QUIET_MS) this.send({ type: "session.update", session: SIGN });
  }

  #goneOffline = () => {
    if (this.#hasBegun) this.#socket?.fail(new Problem("lost"));
  };
}

/** Changes nothing, and is answered. */
const SIGN = { type: "realtime" };
