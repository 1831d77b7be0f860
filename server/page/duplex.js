/** The two ends of a call, microphone and loudspeaker, which may serve several calls in turn. */

import { Hush } from "./hush.js";
import { Problem } from "./problem.js";
import { Loudspeaker, Microphone } from "./sound.js";
import { Waker } from "./waker.js";

/** Between looks for a microphone while there is none. */
const LOOK_MS = 2000;

/**
 * @typedef {object} Listener
 * @property {(frame: import("./sound.js").CapturedFrame) => void} heard
 * @property {(report: import("./sound.js").PlayoutReport) => void} played
 * @property {() => void} changed `trouble` or `hasMicrophone` may be another.
 * @property {(problem: Problem) => void} replaced A device went away, and another one serves.
 *
 * @typedef {{microphone: string, loudspeaker: string}} Devices
 *   Ids as the browser gives them; "" is its own choice.
 */

export class Duplex {
  /** Whom the call belongs to now. @type {Listener | undefined} */
  listener;
  /** @type {Loudspeaker} */
  loudspeaker;
  /** @type {Microphone | undefined} */
  #microphone;
  #hush = new Hush();
  #waker = new Waker(() => this.listener?.changed());
  /** @type {Devices} */
  #wanted;
  #playsThrough = "";
  /** Why there is no microphone, though one is wanted. @type {Problem | undefined} */
  #missing;
  /** Counts what was opened, as only the latest counts. */
  #opening = 0;
  #isClosed = false;
  #timer = 0;

  /** @param {Devices} devices */
  constructor({ microphone, loudspeaker }) {
    this.#wanted = { microphone, loudspeaker };
  }

  /**
   * @param {Devices} devices
   * @param {{hasMicrophone: boolean}} options Without a microphone the user can only type.
   */
  static async open(devices, { hasMicrophone }) {
    const duplex = new Duplex(devices);
    try {
      await duplex.#open();
      if (hasMicrophone) await duplex.#openMicrophoneThatIsThere();
    } catch (error) {
      duplex.close();
      throw error;
    }
    return duplex;
  }

  get hasMicrophone() {
    return this.#microphone !== undefined;
  }

  /** Whether the agent does not hear itself, which without a microphone it can't. */
  get cancelsEchoes() {
    return this.#microphone?.cancelsEchoes ?? true;
  }

  /** What keeps the user from being heard, or from hearing, while it lasts. */
  get trouble() {
    if (this.#waker.isAsleep) return new Problem("suspended");
    if (this.#missing) return this.#missing;
    const isSilent = this.#hush.isSilent || this.#microphone?.isMuted;
    return isSilent ? new Problem("silent") : undefined;
  }

  /** Listens to the user who has only typed so far. */
  async listen() {
    await this.#openMicrophoneThatIsThere();
  }

  /**
   * Listens to that microphone from now on; the one before it is closed.
   *
   * @param {string} device
   */
  async useMicrophone(device) {
    this.#wanted.microphone = device;
    await this.#openMicrophone(device);
  }

  /** @param {string} device */
  async useLoudspeaker(device) {
    this.#wanted.loudspeaker = device;
    await this.#playThrough(device);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    navigator.mediaDevices?.removeEventListener("devicechange", this.#devicesChanged);
    this.#waker.close();
    this.#microphone?.close();
    this.loudspeaker?.close();
  }

  async #open() {
    this.loudspeaker = await Loudspeaker.open((report) => this.listener?.played(report));
    this.#waker.watch(this.loudspeaker.context);
    this.loudspeaker.context.addEventListener("error", this.#devicesChanged);
    navigator.mediaDevices?.addEventListener("devicechange", this.#devicesChanged);
    // A device that was unplugged since it was chosen is no reason to stay silent.
    await this.#playThrough(this.#wanted.loudspeaker).catch(() => undefined);
  }

  /** @param {string} device */
  async #openMicrophone(device) {
    const number = ++this.#opening;
    const listener = {
      frame: this.#heard.bind(this),
      lost: this.#lost.bind(this),
      muted: () => this.listener?.changed(),
    };
    const wish = device ? { deviceId: { exact: device } } : {};
    const opened = await Microphone.open(this.loudspeaker.context, listener, wish);
    if (this.#isClosed || number !== this.#opening) {
      opened.close();
      return;
    }
    this.#dropMicrophone();
    this.#microphone = opened;
    if (opened.ownContext) this.#waker.watch(opened.ownContext);
    this.listener?.changed();
  }

  /** Opens the microphone that is wanted or, where that is not there, the browser's choice. */
  async #openMicrophoneThatIsThere() {
    try {
      await this.#openMicrophone(this.#wanted.microphone);
    } catch (error) {
      const isGone = error instanceof Problem && error.code === "no-microphone";
      if (!this.#wanted.microphone || !isGone) throw error;
      await this.#openMicrophone("");
    }
  }

  /** @param {string} device */
  async #playThrough(device) {
    await this.loudspeaker.useDevice(device);
    this.#playsThrough = device;
  }

  /** @param {import("./sound.js").CapturedFrame} frame */
  #heard(frame) {
    if (this.#hush.heard(frame.level)) this.listener?.changed();
    this.listener?.heard(frame);
  }

  #lost() {
    this.#dropMicrophone();
    this.#findMicrophone();
  }

  #dropMicrophone() {
    clearTimeout(this.#timer);
    this.#missing = undefined;
    this.#hush = new Hush();
    if (this.#microphone?.ownContext) this.#waker.forget(this.#microphone.ownContext);
    this.#microphone?.close();
    this.#microphone = undefined;
  }

  /** Another microphone takes the place of the one that went away, as soon as there is one. */
  async #findMicrophone() {
    clearTimeout(this.#timer);
    try {
      await this.#openMicrophoneThatIsThere();
      this.listener?.replaced(new Problem("microphone-replaced", this.#microphone?.name));
    } catch (error) {
      if (this.#isClosed) return;
      const isDenied = error instanceof Problem && error.code === "denied";
      this.#missing = isDenied ? error : new Problem("microphone-lost");
      this.#timer = setTimeout(() => this.#findMicrophone(), LOOK_MS);
      this.listener?.changed();
    }
  }

  #devicesChanged = async () => {
    if (this.#missing) this.#findMicrophone();
    const devices = await navigator.mediaDevices.enumerateDevices();
    const isThere = (/** @type {string} */ device) =>
      devices.some(({ deviceId }) => deviceId === device);
    const { microphone, loudspeaker } = this.#wanted;
    if (this.#microphone && isThere(microphone) && this.#microphone.device !== microphone) {
      this.#openMicrophone(microphone).catch(() => undefined);
    }
    const next = isThere(loudspeaker) ? loudspeaker : "";
    if (next === this.#playsThrough || this.#isClosed) return;
    await this.#playThrough(next).catch(() => undefined);
    if (!next) this.listener?.replaced(new Problem("loudspeaker-replaced"));
  };
}

/**
 * The same ends, which a call may use but not close.
 *
 * @param {Duplex} duplex
 */
export function lent(duplex) {
  return {
    duplex,
    close() {
      duplex.listener = undefined;
      duplex.loudspeaker.flush();
    },
  };
}
