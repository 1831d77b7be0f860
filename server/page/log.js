/** The conversation as text: one entry for each thing said, in the order it was said. */

/**
 * @typedef {"user" | "agent"} Speaker
 * @typedef {{item: string, speaker: Speaker, text: string, isCut: boolean}} Caption
 */

const NAMES = { user: "You", agent: "Agent" };
/** Pixels from the end within which the reader counts as reading along. */
const NEAR_END = 80;

export class Log {
  #list;
  #scroll;
  /** Whether who reads wants to see the newest. */
  #isFollowing = true;
  /** @type {Map<string, {entry: HTMLElement, words: HTMLElement}>} */
  #entries = new Map();

  /**
   * @param {HTMLElement} list Where entries go.
   * @param {HTMLElement} scroll What scrolls them.
   */
  constructor(list, scroll) {
    this.#list = list;
    this.#scroll = scroll;
    scroll.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = scroll;
      this.#isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END;
    });
    // The window may become lower, or a notice take some of its height.
    new ResizeObserver(() => this.#follow()).observe(scroll);
  }

  /** Marks that what follows is a new conversation, which knows nothing of the one before. */
  begin() {
    this.#entries.clear();
    if (this.#list.childElementCount > 0 && this.#list.lastElementChild?.tagName !== "HR") {
      this.#list.append(document.createElement("hr"));
    }
  }

  /** Nothing that was said may be seen any more. */
  wipe() {
    this.#entries.clear();
    this.#list.replaceChildren();
  }

  /**
   * What another page needs to show the same.
   *
   * @returns {Caption[]}
   */
  keep() {
    return Array.from(this.#entries, ([item, { entry, words }]) => ({
      item,
      speaker: entry.classList.contains("user") ? "user" : "agent",
      text: words.textContent ?? "",
      isCut: entry.classList.contains("interrupted"),
    }));
  }

  /** @param {Caption[]} captions */
  restore(captions) {
    for (const { item, speaker, text, isCut } of captions) {
      this.extend(item, speaker, text);
      if (isCut) this.cut(item, text);
    }
  }

  /** The conversation is over: words that are still unknown stay so. */
  end() {
    for (const { entry, words } of this.#entries.values()) {
      const isKnown = words.textContent || entry.classList.contains("interrupted");
      if (!isKnown) entry.remove();
      if (entry.classList.contains("unsent")) entry.classList.add("lost");
      entry.ariaBusy = "false";
    }
  }

  /**
   * Somebody said something whose words are not known yet.
   *
   * @param {string} item
   * @param {Speaker} speaker
   */
  add(item, speaker) {
    const known = this.#entries.get(item);
    if (known) return known;

    const name = document.createElement("b");
    name.textContent = NAMES[speaker];
    const words = document.createElement("span");
    const entry = document.createElement("p");
    entry.className = `entry ${speaker}`;
    entry.append(name, " ", words);
    // A reader of the screen waits for the whole entry instead of reading each addition.
    entry.ariaBusy = "true";
    this.#change(() => this.#list.append(entry));
    this.#entries.set(item, { entry, words });
    return { entry, words };
  }

  /**
   * The user wrote something that the server has not got yet.
   *
   * @param {string} item
   * @param {string} text
   */
  write(item, text) {
    const { entry, words } = this.add(item, "user");
    entry.classList.add("unsent");
    this.#change(() => {
      words.textContent = text;
      this.#isFollowing = true;
    });
  }

  /**
   * @param {string} item
   * @param {Speaker} speaker
   * @param {string} delta
   */
  extend(item, speaker, delta) {
    const { words } = this.add(item, speaker);
    this.#change(() => words.append(delta));
  }

  /**
   * @param {string} item
   * @param {Speaker} speaker
   * @param {string} text All that was said; with no words in it the entry goes.
   */
  settle(item, speaker, text) {
    const { entry, words } = this.add(item, speaker);
    this.#change(() => {
      if (text.trim()) words.textContent = text.trim();
      else entry.remove();
    });
    entry.classList.remove("unsent");
    entry.ariaBusy = "false";
  }

  /**
   * The agent was cut short in it.
   *
   * @param {string} item
   * @param {string} text What was heard.
   */
  cut(item, text) {
    const known = this.#entries.get(item);
    if (!known) return;
    known.words.textContent = text;
    known.entry.classList.add("interrupted");
    known.entry.ariaBusy = "false";
  }

  /** @param {string} item Was not said after all. */
  remove(item) {
    this.#entries.get(item)?.entry.remove();
    this.#entries.delete(item);
  }

  /**
   * @param {string} item
   * @returns {string} What is shown of it.
   */
  textOf(item) {
    return this.#entries.get(item)?.words.textContent ?? "";
  }

  /** @param {() => void} change */
  #change(change) {
    change();
    this.#follow();
  }

  #follow() {
    if (this.#isFollowing) this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }
}
