/** Which words of an answer were heard: whole words, by the rules of `agent/words.py`. */

const BLANK = /\p{White_Space}/u;
const WITHOUT_BLANKS =
  /[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u{10ffff}]/u;
/** Marks, vowels behind their consonant, joiners, voicing, tones of skin, and tags. */
const GOES_ON =
  /[\p{M}\u0e30\u0e32\u0e33\u0e45\u0e46\u0e2f\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6\u200c\u200d\uff9e\uff9f\u{1f3fb}-\u{1f3ff}\u{e0020}-\u{e007f}]/u;
/** Vowels before their consonant, what joins the next consonant, and the joiner. */
const WAITS = /[\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2\u1a60\u1b44\ua9c0\u200d]/u;
const TIBETAN = /[\u0f00-\u0fff]/u;
const PUNCTUATION = /\p{P}/u;
/** The first of the two regional indicators that are one flag, and what is before it. */
const HALF_FLAG =
  /(^|\P{Regional_Indicator})(\p{Regional_Indicator}{2})*\p{Regional_Indicator}$/u;
const REGIONAL = /\p{Regional_Indicator}/u;

/** Where the pieces of one answer's text came in, which precede their sound. */
export class Pieces {
  /** Samples of sound and characters of text so far. @type {[number, number][]} */
  #starts = [];

  /**
   * More text comes in.
   *
   * @param {number} samples How much sound there is before it.
   * @param {string} text What there is before it.
   */
  add(samples, text) {
    this.#starts.push([samples, [...text].length]);
  }

  /**
   * Each piece of text is laid evenly over the sound that came between it and the next one.
   *
   * @param {string} text All of it.
   * @param {number} received Samples of sound that there are.
   * @param {number} heard How many of them were played.
   */
  heard(text, received, heard) {
    const characters = [...text];
    const starts = this.#starts.length > 0 ? this.#starts : [[0, 0]];
    let cut = 0;
    starts.forEach(([start, first], index) => {
      const [end, last] = starts[index + 1] ?? [received, characters.length];
      if (heard <= start) return;
      const share = Math.min(1, (heard - start) / Math.max(1, end - start));
      cut = first + Math.floor(share * (last - first));
    });
    const end = lastWordEnd(characters, cut);
    const kept = characters.slice(0, end).join("");
    return end < characters.length ? kept.trimEnd() : kept;
  }
}

/**
 * The latest place to cut a text at or before one; 0 if it is in the first word.
 *
 * @param {string[]} text By characters.
 * @param {number} at
 */
function lastWordEnd(text, at) {
  while (at > 0 && at < text.length && !mayBeCut(text, at)) at--;
  return at;
}

/**
 * @param {string[]} text
 * @param {number} at
 */
function mayBeCut(text, at) {
  const [before, after] = [text[at - 1], text[at]];
  if (BLANK.test(before) || BLANK.test(after)) return true;
  const hasNoBlanks = WITHOUT_BLANKS.test(before) || WITHOUT_BLANKS.test(after);
  return hasNoBlanks && isBetweenClusters(text, at);
}

/**
 * @param {string[]} text
 * @param {number} at
 */
function isBetweenClusters(text, at) {
  const [before, after] = [text[at - 1], text[at]];
  if (GOES_ON.test(after) || WAITS.test(before)) return false;
  if (TIBETAN.test(before) && TIBETAN.test(after)) return PUNCTUATION.test(before);
  return !(REGIONAL.test(after) && HALF_FLAG.test(text.slice(0, at).join("")));
}
