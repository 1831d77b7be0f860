/** The page's ends of sound: microphone and loudspeaker, each over its worklet. */

import { Problem, microphoneProblem } from "./problem.js";

/** Samples a second of the Realtime protocol. */
export const RATE = 24_000;
/** How long a browser may take to begin sound, when it was clicked and when it was not. */
const CLICKED_MS = 10_000;
const UNCLICKED_MS = 1500;
/** Firefox may stand still for good when it is asked how long its loudspeaker takes. */
const TELLS_LATENCY = !navigator.userAgent.includes("Firefox");

/**
 * @typedef {import("./playout.js").PlayoutOrder} PlayoutOrder
 * @typedef {import("./playout.js").PlayoutReport} PlayoutReport
 * @typedef {import("./playout.js").Played} Played
 * @typedef {import("./playout.js").Volume} Volume
 * @typedef {import("./capture.js").CapturedFrame} CapturedFrame
 */

export class Loudspeaker {
  #node;
  /** Items with sound that was neither played to its end nor flushed. @type {Set<string>} */
  #pending = new Set();
  /** Who waits for a flush to be reported. @type {((cut: Played[]) => void)[]} */
  #flushing = [];

  /**
   * Fails with the problem `silenced` where the browser lets sound begin only after a click.
   *
   * @param {(report: PlayoutReport) => void} reported
   */
  static async open(reported) {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    try {
      await addWorklet(context, "playout.js");
      await begin(context);
      return new Loudspeaker(context, reported);
    } catch (error) {
      await context.close();
      throw error;
    }
  }

  /**
   * @param {AudioContext} context
   * @param {(report: PlayoutReport) => void} reported
   */
  constructor(context, reported) {
    this.context = context;
    this.#node = new AudioWorkletNode(context, "playout", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    this.#node.port.onmessage = ({ data }) => {
      if (data.type === "ended") this.#pending.delete(data.item);
      if (data.type === "flushed") this.#flushing.shift()?.(data.items);
      reported(data);
    };
    this.#node.connect(context.destination);
  }

  /** Whether it plays, or was stopped by what is beyond the page. */
  get isAwake() {
    return this.context.state === "running";
  }

  /** Whether there is sound that is still to be played. */
  get isBusy() {
    return this.#pending.size > 0;
  }

  /** How long a sample still takes to the ear after the page has played it, as far as known. */
  get delayMs() {
    const { context } = this;
    return 1000 * ((TELLS_LATENCY && context.outputLatency) || context.baseLatency);
  }

  /**
   * @param {string} item
   * @param {Int16Array<ArrayBuffer>} pcm Mono at 24 kHz; the loudspeaker takes it away.
   */
  play(item, pcm) {
    if (pcm.length === 0) return;
    this.#pending.add(item);
    this.#order({ type: "chunk", item, pcm }, [pcm.buffer]);
  }

  /**
   * All sound of the item was given.
   *
   * @param {string} item
   */
  complete(item) {
    if (this.#pending.has(item)) this.#order({ type: "complete", item });
  }

  /** @param {Volume} state Until the next flush at most. */
  set volume(state) {
    this.#order({ type: "volume", state });
  }

  /**
   * Plays through another device, where the browser can; "" is the browser's own choice.
   *
   * @param {string} device
   */
  async useDevice(device) {
    if ("setSinkId" in this.context) await this.context.setSinkId(device);
  }

  /**
   * Falls silent within 8 ms.
   *
   * @returns {Promise<Played[]>} How much was played of each item that had not ended.
   */
  flush() {
    this.#pending.clear();
    this.#order({ type: "flush" });
    return new Promise((resolve) => this.#flushing.push(resolve));
  }

  close() {
    this.context.close();
  }

  /**
   * @param {PlayoutOrder} order
   * @param {Transferable[]} [transfer]
   */
  #order(order, transfer = []) {
    this.#node.port.postMessage(order, transfer);
  }
}

/**
 * @typedef {object} MicrophoneListener
 * @property {(captured: CapturedFrame) => void} frame
 * @property {() => void} lost The device went away.
 * @property {() => void} [muted] The system took its sound, or gave it back.
 */

export class Microphone {
  #track;
  #node;
  /** @type {AudioContext | undefined} */
  ownContext;

  /**
   * @param {AudioContext} context Captures in this context where the browser can.
   * @param {MicrophoneListener} listener
   * @param {MediaTrackConstraints} [wish] What differs from the usual: device, echo cancellation.
   */
  static async open(context, listener, wish = {}) {
    const stream = await requestStream(wish);
    try {
      const source = await sourceOf(stream, context);
      return new Microphone(stream, source, source.context !== context, listener);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  /**
   * @param {MediaStream} stream
   * @param {MediaStreamAudioSourceNode} source
   * @param {boolean} ownsContext Whether the source's context is closed with the microphone.
   * @param {MicrophoneListener} listener
   */
  constructor(stream, source, ownsContext, { frame, lost, muted }) {
    [this.#track] = stream.getAudioTracks();
    if (ownsContext) this.ownContext = /** @type {AudioContext} */ (source.context);
    this.#node = new AudioWorkletNode(source.context, "capture", { outputChannelCount: [1] });
    this.#node.port.onmessage = ({ data }) => frame(data);
    // Its output is silence; some browsers run only what leads to the loudspeaker.
    source.connect(this.#node).connect(source.context.destination);
    // Fires when the device goes away, not when the page stops the track.
    this.#track.onended = lost;
    this.#track.onmute = this.#track.onunmute = () => muted?.();
  }

  /** Its id, as far as the browser tells it. */
  get device() {
    return this.#track.getSettings().deviceId ?? "";
  }

  get name() {
    return this.#track.label;
  }

  /** Whether the browser takes out what its own loudspeaker plays. */
  get cancelsEchoes() {
    return Boolean(this.#track.getSettings().echoCancellation);
  }

  /** Whether the system keeps its sound to itself. */
  get isMuted() {
    return this.#track.muted;
  }

  close() {
    this.#node.port.onmessage = null;
    this.#track.onended = this.#track.onmute = this.#track.onunmute = null;
    this.#track.stop();
    this.ownContext?.close();
  }
}

/**
 * @param {AudioContext} context
 * @param {string} name
 */
async function addWorklet(context, name) {
  try {
    await context.audioWorklet.addModule(new URL(name, import.meta.url).href);
  } catch (error) {
    // The page may outlive the server that it came from.
    if (error instanceof DOMException && error.name === "AbortError") {
      throw new Problem("unreachable");
    }
    throw error;
  }
}

/**
 * A browser that waits for a click leaves the promise of `resume` open for good.
 *
 * @param {AudioContext} context
 */
async function begin(context) {
  const wasClicked = navigator.userActivation?.hasBeenActive;
  const problem = new Problem(wasClicked ? "soundless" : "silenced");
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(problem), wasClicked ? CLICKED_MS : UNCLICKED_MS);
  });
  await Promise.race([context.resume(), late]);
}

/** @param {MediaTrackConstraints} wish */
async function requestStream(wish) {
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
        ...wish,
      },
    });
  } catch (error) {
    throw microphoneProblem(error);
  }
}

/**
 * @param {MediaStream} stream
 * @param {AudioContext} shared
 */
async function sourceOf(stream, shared) {
  await addWorklet(shared, "capture.js");
  try {
    return shared.createMediaStreamSource(stream);
  } catch (error) {
    if (!(error instanceof DOMException && error.name === "NotSupportedError")) throw error;
  }
  // Firefox joins no two rates in one context: capture at the device's own, and resample.
  const own = new AudioContext();
  await addWorklet(own, "capture.js");
  await own.resume();
  return own.createMediaStreamSource(stream);
}

/** @param {Int16Array<ArrayBuffer>} pcm */
export function base64Of(pcm) {
  return btoa(String.fromCharCode(...new Uint8Array(pcm.buffer)));
}

/** @param {string} base64 Whole samples of PCM16. */
export function pcmOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}
