/** Says what is wrong: with the call, and with the sound that it needs. */

export class Alarm {
  #element;
  #words;
  #problem = "";
  #trouble = "";

  /**
   * @param {HTMLElement} element Hidden while nothing is wrong.
   * @param {(reason: Error) => string} [words] In which a reason is shown.
   */
  constructor(element, words = ({ message }) => message) {
    this.#element = element;
    this.#words = words;
  }

  /** @param {Error | undefined} reason What went wrong. */
  set problem(reason) {
    this.#problem = reason ? this.#words(reason) : "";
    this.#show();
  }

  /** @param {Error | undefined} reason What is wrong for as long as it lasts. */
  set trouble(reason) {
    this.#trouble = reason ? this.#words(reason) : "";
    this.#show();
  }

  #show() {
    const text = [this.#problem, this.#trouble].filter(Boolean).join("\n");
    // What is written again is read out again.
    if (this.#element.textContent !== text) this.#element.textContent = text;
    this.#element.hidden = !text;
  }
}
