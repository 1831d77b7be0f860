/** What the user wrote, until the server confirms it: a connection or a session may end before. */

/** @typedef {import("./socket.js").ServerEvent} ServerEvent */

export class Written {
  #log;
  #send;
  /** What is not confirmed, by item. @type {Map<string, string>} */
  #texts = new Map();

  /**
   * @param {import("./log.js").Log} log
   * @param {(event: import("./connection.js").ClientEvent) => void} send
   */
  constructor(log, send) {
    this.#log = log;
    this.#send = send;
  }

  /** @param {string} text */
  write(text) {
    const id = `item_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
    this.#texts.set(id, text);
    this.#ask(id, text);
    this.#send({ type: "response.create" });
  }

  /** @param {string} item */
  confirmed(item) {
    this.#texts.delete(item);
  }

  /** It is not said in this conversation. */
  withdraw() {
    for (const id of this.#texts.keys()) this.#log.remove(id);
  }

  /** @returns Whether there is something that is asked in another conversation now. */
  writeAgain() {
    for (const [id, text] of this.#texts) this.#ask(id, text);
    if (this.#texts.size === 0) return false;
    this.#send({ type: "response.create" });
    return true;
  }

  /**
   * @param {string} id
   * @param {string} text
   */
  #ask(id, text) {
    this.#log.write(id, text);
    const content = [{ type: "input_text", text }];
    const item = { id, type: "message", role: "user", content };
    this.#send({ type: "conversation.item.create", item });
  }
}
