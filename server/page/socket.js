/** One WebSocket to the conversation server: events out, events in, and why it ended. */

import { Problem, closeProblem } from "./problem.js";

/** As all addresses, below the folder that the page is in: a proxy may put it anywhere. */
const REALTIME = "v1/realtime";
/** A busy server answers within it; longer only delays saying that it won't. */
const CONNECT_TIMEOUT_MS = 10_000;

/** @typedef {any} ServerEvent One event of the Realtime protocol, decoded. */

export class Socket {
  #socket;
  #timer;
  #ended;

  /**
   * @param {{key: string, token: string, after: string}} credentials Of the API, and of the session
   *   to go on with; `after` is the last event received in it. Each is "" where there is none.
   * @param {{received: (event: ServerEvent) => void, ended: (problem?: Problem) => void}} listener
   *   `ended` is not called for a socket that the page closed.
   */
  constructor({ key, token, after }, { received, ended }) {
    const url = new URL(REALTIME, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const words = new URLSearchParams({ resume: token, ...(after && { after }) });
    if (token) url.search = `${words}`;
    this.#ended = ended;
    this.#socket = new WebSocket(
      url,
      key ? ["realtime", `openai-insecure-api-key.${key}`] : [],
    );
    let wasOpen = false;
    this.#socket.onopen = () => {
      wasOpen = true;
    };
    this.#socket.onmessage = ({ data }) => {
      clearTimeout(this.#timer);
      received(JSON.parse(data));
    };
    this.#socket.onclose = async (close) => {
      clearTimeout(this.#timer);
      ended(wasOpen ? closeProblem(close) : await whyRefused());
    };
    this.#timer = setTimeout(() => this.fail(new Problem("unreachable")), CONNECT_TIMEOUT_MS);
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** @param {object} event One client event; dropped when the socket is not open. */
  send(event) {
    if (this.isOpen) this.#socket.send(JSON.stringify(event));
  }

  /**
   * Gives the socket up, as if it had ended by itself.
   *
   * @param {Problem} problem
   */
  fail(problem) {
    this.#letGo();
    this.#socket.close();
    this.#ended(problem);
  }

  /** For good: the server need not wait. */
  close() {
    this.#letGo();
    this.#socket.close(1000);
  }

  #letGo() {
    clearTimeout(this.#timer);
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
  }
}

/**
 * A browser hides why a handshake failed. The server itself refuses nobody who asks for a WebSocket,
 * so if it can be reached, what is in front of it did.
 */
async function whyRefused() {
  try {
    const options = /** @type {RequestInit} */ ({ cache: "no-store" });
    // Not the error page of a proxy.
    await (await fetch("healthz", options)).json();
    const { status } = await fetch(REALTIME, options);
    return new Problem([429, 503].includes(status) ? "busy" : "proxy");
  } catch {
    return new Problem("unreachable");
  }
}
