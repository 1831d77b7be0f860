/** Says what is wrong: with the call, and with the sound that it needs. */

export class Alarm {
  #element;
  #problem = "";
  #trouble = "";

  /** @param {HTMLElement} element Hidden while nothing is wrong. */
  constructor(element) {
    this.#element = element;
  }

  /** @param {Error | undefined} reason What went wrong. */
  set problem(reason) {
    this.#problem = reason?.message ?? "";
    this.#show();
  }

  /** @param {Error | undefined} reason What is wrong for as long as it lasts. */
  set trouble(reason) {
    this.#trouble = reason?.message ?? "";
    this.#show();
  }

  #show() {
    const text = [this.#problem, this.#trouble].filter(Boolean).join("\n");
    // What is written again is read out again.
    if (this.#element.textContent !== text) this.#element.textContent = text;
    this.#element.hidden = !text;
  }
}
