/** Whose turn it is, and when what was said was said; derived from events, without I/O. */

/**
 * @typedef {"listening" | "user" | "thinking" | "agent"} Holder
 */

export class Turn {
  #userSpeaks = false;
  #answerIsDue = false;
  #agentIsAudible = false;
  /** The response being made; "" when none is. */
  #running = "";
  /**
   * The response whose words and sound are still wanted; "" after the user cut in, and undefined
   * for the one that a resumed session is in the middle of.
   *
   * @type {string | undefined}
   */
  #wanted = "";

  speechStarted() {
    this.#userSpeaks = true;
    this.#answerIsDue = false;
    this.#wanted = "";
  }

  speechStopped() {
    this.#userSpeaks = false;
    this.#answerIsDue = true;
  }

  /** What the user began to say was thrown away. */
  speechDropped() {
    this.#userSpeaks = false;
    this.#answerIsDue = false;
  }

  /** The user wants the agent silent. */
  interrupted() {
    this.#answerIsDue = false;
    this.#wanted = "";
  }

  /** The user asked in writing. */
  asked() {
    this.#answerIsDue = true;
    this.#wanted = "";
  }

  /** @param {string} response */
  responseCreated(response) {
    this.#answerIsDue = false;
    this.#running = response;
    this.#wanted = response;
  }

  /** @param {string} response */
  responseDone(response) {
    if (this.#running === response) this.#running = "";
  }

  /** This page goes on where another one was. */
  takenOver() {
    this.#wanted = undefined;
  }

  /** @param {boolean} isAudible */
  agentIsAudible(isAudible) {
    this.#agentIsAudible = isAudible;
  }

  get hasRunningResponse() {
    return this.#running !== "";
  }

  /** @param {string} response */
  wants(response) {
    this.#wanted ??= response;
    return response === this.#wanted;
  }

  /**
   * @param {boolean} soundIsPending Whether the loudspeaker still has something to play.
   * @returns {Holder}
   */
  holder(soundIsPending) {
    if (this.#userSpeaks) return "user";
    if (this.#agentIsAudible) return "agent";
    if (this.#answerIsDue || this.#running || soundIsPending) return "thinking";
    return "listening";
  }
}

/** Tells the server's time, which counts the audio that it was sent, in the page's time. */
export class SpeechClock {
  #sentMs = 0;
  #sentAtMs = 0;
  #isWhole = true;

  /**
   * @param {number} durationMs Of the audio that was just captured and sent.
   * @param {number} nowMs
   */
  sent(durationMs, nowMs) {
    this.#sentMs += durationMs;
    this.#sentAtMs = nowMs;
  }

  /** Not all that was sent has arrived, or another page sent some of it. */
  lost() {
    this.#isWhole = false;
  }

  /**
   * The page's time at which that moment of the microphone's audio was captured, if it is known.
   *
   * @param {number} audioMs Counted from the first sample sent.
   */
  timeOf(audioMs) {
    return this.#isWhole ? this.#sentAtMs - (this.#sentMs - audioMs) : undefined;
  }
}
