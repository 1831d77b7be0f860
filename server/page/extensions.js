/** Our extensions of the protocol: asked for, and used only as far as the server grants them. */

export class Extensions {
  /** @type {Record<string, true>} */
  #asked = { duck: true, marks: true, playout: true, resume: true, echo_cancelled: true };
  /** @type {Record<string, unknown>} */
  #granted = {};
  #cancelsEchoes = true;

  /** What to add to `session.update`. */
  get wish() {
    const { echo_cancelled, ...others } = this.#asked;
    const asked = echo_cancelled && this.#cancelsEchoes ? this.#asked : others;
    return Object.keys(asked).length > 0 ? { x_mimo: asked } : {};
  }

  /**
   * Another microphone may come with its echo.
   *
   * @param {boolean} isCancelled
   * @returns Whether the server has to know.
   */
  echo(isCancelled) {
    const isNews = this.#cancelsEchoes !== isCancelled;
    this.#cancelsEchoes = isCancelled;
    return isNews;
  }

  /** @param {Record<string, unknown> | undefined} granted `x_mimo` of `session.updated`. */
  grant(granted) {
    this.#granted = granted ?? {};
  }

  /** @param {"duck" | "playout" | "resume"} name */
  has(name) {
    return Boolean(this.#granted[name]);
  }

  /**
   * Takes back what a server does not know, which refused the whole update for it.
   *
   * @param {{code?: string, param?: string | null}} error
   * @returns Whether the update is worth sending again.
   */
  isRefusedBy({ code, param }) {
    if (code !== "unknown_parameter" || !param?.startsWith("session.x_mimo")) return false;
    const name = param.split(".")[2];
    if (name in this.#asked) delete this.#asked[name];
    else this.#asked = {};
    return true;
  }
}
