/** Plays a sweep through the loudspeaker and listens for it with the microphone. */

import { Problem } from "./problem.js";
import { Microphone, RATE } from "./sound.js";

/** Longer is found in more noise, and heard by more visitors. */
const SWEEP_S = 0.6;
/** To the next: what small loudspeakers and microphones both carry. */
const FROM_HZ = 400;
const TO_HZ = 3000;
/** Louder annoys and distorts, quieter is lost in a noisy hall. */
const AMPLITUDE = 0.3;
/** How long to listen: the sweep, and the way through buffers, room and echo. */
const LISTEN_SAMPLES = 1.5 * RATE;
/** Devices may take seconds to open; longer only delays saying that they don't work. */
const TIMEOUT_MS = 6000;
/** Noise alone reaches 0.07; a sweep in an echoing hall 0.3. */
const LEAST_LIKENESS = 0.15;
/** Both are compared at 8 kHz. */
const DECIMATION = 3;
/** The browser's cleaning would take the sweep for an echo. */
const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/**
 * @param {import("./sound.js").Loudspeaker} loudspeaker
 * @throws {Problem} When the microphone doesn't hear the loudspeaker.
 */
export async function selfTest(loudspeaker) {
  const played = sweep();
  const heard = await listen(loudspeaker, () => {
    loudspeaker.play("self-test", played.slice());
    loudspeaker.complete("self-test");
  });
  if (likeness(heard, played) < LEAST_LIKENESS) throw new Problem("unheard");
}

/**
 * @param {import("./sound.js").Loudspeaker} loudspeaker
 * @param {() => void} begin Called when the microphone gives its first frame.
 * @returns {Promise<Int16Array>}
 */
async function listen(loudspeaker, begin) {
  const heard = new Int16Array(LISTEN_SAMPLES);
  let filled = 0;
  /** @type {PromiseWithResolvers<void>} */
  const full = Promise.withResolvers();
  const frame = (/** @type {import("./sound.js").CapturedFrame} */ { pcm }) => {
    if (filled === 0) begin();
    heard.set(pcm.subarray(0, LISTEN_SAMPLES - filled), filled);
    filled = Math.min(LISTEN_SAMPLES, filled + pcm.length);
    if (filled === LISTEN_SAMPLES) full.resolve();
  };
  const lost = () => full.reject(new Problem("microphone-lost"));
  const microphone = await Microphone.open(loudspeaker.context, { frame, lost }, RAW);
  const timer = setTimeout(() => full.reject(new Problem("unheard")), TIMEOUT_MS);
  try {
    await full.promise;
  } finally {
    clearTimeout(timer);
    microphone.close();
  }
  return heard;
}

/** @returns {Int16Array<ArrayBuffer>} A tone that rises evenly, faded in and out over 20 ms. */
export function sweep() {
  const fade = 0.02 * RATE;
  const length = SWEEP_S * RATE;
  return Int16Array.from({ length }, (_, index) => {
    const t = index / RATE;
    const cycles = FROM_HZ * t + ((TO_HZ - FROM_HZ) * t * t) / (2 * SWEEP_S);
    const gain = Math.min(1, index / fade, (length - index) / fade);
    return Math.round(32_767 * AMPLITUDE * gain * Math.sin(2 * Math.PI * cycles));
  });
}

/**
 * The largest correlation at any delay, from 0 to 1.
 *
 * @param {Int16Array} heard
 * @param {Int16Array} wanted
 */
function likeness(heard, wanted) {
  const found = decimated(heard);
  const pattern = decimated(wanted);
  const patternEnergy = energyOf(pattern);
  let energy = energyOf(found.subarray(0, pattern.length));
  let most = 0;
  for (let delay = 0; delay + pattern.length < found.length; delay++) {
    let product = 0;
    for (let index = 0; index < pattern.length; index++) {
      product += pattern[index] * found[delay + index];
    }
    // One more than nothing: silence is like nothing.
    most = Math.max(most, Math.abs(product) / Math.sqrt(patternEnergy * energy + 1));
    energy += found[delay + pattern.length] ** 2 - found[delay] ** 2;
  }
  return most;
}

/** @param {Int16Array} samples */
function decimated(samples) {
  return Float64Array.from({ length: Math.floor(samples.length / DECIMATION) }, (_, index) => {
    const start = index * DECIMATION;
    return (samples[start] + samples[start + 1] + samples[start + 2]) / DECIMATION;
  });
}

/** @param {Float64Array} samples */
function energyOf(samples) {
  return samples.reduce((sum, sample) => sum + sample * sample, 0);
}
