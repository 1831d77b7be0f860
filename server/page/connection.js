/** One WebSocket to the conversation server: events out, events in, and why it ended. */

import { Problem, closeProblem } from "./problem.js";

const CONNECT_TIMEOUT_MS = 10_000;

/** @typedef {any} ServerEvent One event of the Realtime protocol, decoded. */

export class Connection {
  #socket;
  #timer;
  #ended;

  /**
   * @param {{key: string, token: string, after: string}} credentials Of the API, and of the session
   *   to go on with; `after` is the last event received in it. Each is "" where there is none.
   * @param {{received: (event: ServerEvent) => void, ended: (problem?: Problem) => void}} listener
   *   `ended` is not told of a connection that the page closed.
   */
  constructor({ key, token, after }, { received, ended }) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const words = new URLSearchParams({ resume: token, ...(after && { after }) });
    const query = token ? `?${words}` : "";
    this.#ended = ended;
    this.#socket = new WebSocket(
      `${scheme}//${location.host}/v1/realtime${query}`,
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

  /** @param {object} event One client event; dropped when the connection is not open. */
  send(event) {
    if (this.isOpen) this.#socket.send(JSON.stringify(event));
  }

  /**
   * Gives the connection up, as if it had ended by itself.
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

/** A browser hides why a handshake failed; whether the server answers at all tells. */
async function whyRefused() {
  try {
    await fetch("/healthz", { cache: "no-store" });
    return new Problem("busy");
  } catch {
    return new Problem("unreachable");
  }
}
