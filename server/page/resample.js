/** Changes the sample rate of a stream: a windowed-sinc filter, one set of taps per phase. */

/** On each side of the filter: fewer let more of other rates through, more delay the sound. */
const ZERO_CROSSINGS = 16;

export class Resampler {
  #step;
  #phases;
  #taps;
  #filters;
  #phase = 0;
  /** The input that later output still needs; it begins with the first tap of the next sample. */
  #input;

  /**
   * @param {number} from Samples a second that come in; a whole number, as is `to`.
   * @param {number} to Samples a second that go out.
   */
  constructor(from, to) {
    const common = commonDivisor(from, to);
    this.#step = from / common;
    this.#phases = to / common;
    const cutoff = Math.min(1, to / from);
    const reach = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.#taps = 2 * reach;
    this.#filters = Array.from({ length: this.#phases }, (_, phase) =>
      taps(phase / this.#phases, reach, cutoff),
    );
    // Silence before the first sample lets the output begin at once.
    this.#input = new Float32Array(reach - 1);
  }

  /**
   * @param {Float32Array} samples Any number of samples.
   * @returns {Float32Array} Those that are ready; it lags by 16 samples of the lower rate.
   */
  push(samples) {
    const input = new Float32Array(this.#input.length + samples.length);
    input.set(this.#input);
    input.set(samples, this.#input.length);

    const output = [];
    let start = 0;
    while (start + this.#taps <= input.length) {
      output.push(product(this.#filters[this.#phase], input, start));
      const next = this.#phase + this.#step;
      start += Math.floor(next / this.#phases);
      this.#phase = next % this.#phases;
    }
    this.#input = input.slice(start);
    return Float32Array.from(output);
  }
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function commonDivisor(a, b) {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/**
 * The taps that give the value `fraction` of a sample after tap number `reach - 1`.
 *
 * @param {number} fraction
 * @param {number} reach
 * @param {number} cutoff Share of the input's band that is kept.
 */
function taps(fraction, reach, cutoff) {
  const filter = Float32Array.from({ length: 2 * reach }, (_, index) => {
    const distance = index - (reach - 1) - fraction;
    const angle = Math.PI * distance * cutoff;
    const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / reach);
    return sinc * window;
  });
  // A sum of exactly one keeps the level the same in every phase.
  const sum = filter.reduce((total, tap) => total + tap, 0);
  return filter.map((tap) => tap / sum);
}

/**
 * @param {Float32Array} filter
 * @param {Float32Array} input
 * @param {number} start
 */
function product(filter, input, start) {
  let sum = 0;
  for (let index = 0; index < filter.length; index++) sum += filter[index] * input[start + index];
  return sum;
}
