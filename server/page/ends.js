/** The two ends of a call, microphone and loudspeaker, which may serve several calls in turn. */

import { Problem } from "./problem.js";
import { Loudspeaker, Microphone } from "./sound.js";

/**
 * @typedef {object} Listener
 * @property {(frame: import("./sound.js").CapturedFrame) => void} heard
 * @property {(report: import("./sound.js").PlayoutReport) => void} played
 * @property {() => void} lost The microphone went away.
 *
 * @typedef {{microphone: string, loudspeaker: string}} Devices
 *   Ids as the browser gives them; "" is its own choice.
 */

export class Ends {
  /** Whom the call belongs to now. @type {Listener | undefined} */
  listener;
  /** @type {Loudspeaker} */
  loudspeaker;
  /** @type {Microphone | undefined} */
  #microphone;

  /**
   * @param {Devices} devices
   * @param {{hasMicrophone: boolean}} options Without a microphone the user can only type.
   */
  static async open(devices, { hasMicrophone }) {
    const ends = new Ends();
    ends.loudspeaker = await Loudspeaker.open((report) => ends.listener?.played(report));
    try {
      // A device that was unplugged since it was chosen is no reason to stay silent.
      await ends.useLoudspeaker(devices.loudspeaker).catch(() => undefined);
      if (hasMicrophone) await ends.#useMicrophoneIfThere(devices.microphone);
    } catch (error) {
      ends.close();
      throw error;
    }
    return ends;
  }

  get hasMicrophone() {
    return this.#microphone !== undefined;
  }

  /**
   * Listens to that microphone from now on; the one before it is closed.
   *
   * @param {string} device
   */
  async useMicrophone(device) {
    const opened = await Microphone.open(
      this.loudspeaker.context,
      {
        frame: (frame) => this.listener?.heard(frame),
        lost: () => this.listener?.lost(),
      },
      device ? { deviceId: { exact: device } } : {},
    );
    this.#microphone?.close();
    this.#microphone = opened;
  }

  /** @param {string} device */
  async #useMicrophoneIfThere(device) {
    try {
      await this.useMicrophone(device);
    } catch (error) {
      const isGone = error instanceof Problem && error.code === "no-microphone";
      if (!device || !isGone) throw error;
      await this.useMicrophone("");
    }
  }

  /** @param {string} device */
  async useLoudspeaker(device) {
    await this.loudspeaker.useDevice(device);
  }

  close() {
    this.#microphone?.close();
    this.loudspeaker.close();
  }
}

/**
 * The same ends, which a call may use but not close.
 *
 * @param {Ends} ends
 */
export function lent(ends) {
  return {
    ends,
    close() {
      ends.listener = undefined;
      ends.loudspeaker.flush();
    },
  };
}
