/** The microphone's worklet: cuts what it hears into frames of PCM16 at 24 kHz. */

import { Resampler } from "./resample.js";

/** Samples a second of the Realtime protocol. */
const RATE = 24_000;
/** 32 ms, the frame that the server's voice detection takes. */
const FRAME_SAMPLES = 768;

/**
 * @typedef {object} CapturedFrame
 * @property {Int16Array<ArrayBuffer>} pcm 768 samples of mono PCM16 at 24 kHz.
 * @property {number} level Root mean square, from 0 to 1.
 */

class Capture extends AudioWorkletProcessor {
  #resampler = sampleRate === RATE ? null : new Resampler(sampleRate, RATE);
  #frame = new Int16Array(FRAME_SAMPLES);
  #filled = 0;
  #squares = 0;

  /** @param {Float32Array[][]} inputs */
  process([[samples]]) {
    // Without a channel the microphone gives nothing at this moment.
    if (samples) {
      for (const sample of this.#resampler ? this.#resampler.push(samples) : samples) {
        this.#add(sample);
      }
    }
    return true;
  }

  /** @param {number} sample */
  #add(sample) {
    const clipped = Math.max(-1, Math.min(32_767 / 32_768, sample));
    this.#squares += clipped * clipped;
    this.#frame[this.#filled++] = Math.round(clipped * 32_768);
    if (this.#filled === FRAME_SAMPLES) this.#send();
  }

  #send() {
    const level = Math.sqrt(this.#squares / FRAME_SAMPLES);
    /** @type {CapturedFrame} */
    const captured = { pcm: this.#frame, level };
    this.port.postMessage(captured, [this.#frame.buffer]);
    this.#frame = new Int16Array(FRAME_SAMPLES);
    this.#filled = 0;
    this.#squares = 0;
  }
}

registerProcessor("capture", Capture);
