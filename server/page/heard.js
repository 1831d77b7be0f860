/** Which words of an answer were heard, as `agent/conversation.py` tells it: by whole words. */

const words = new Intl.Segmenter(undefined, { granularity: "word" });

/** Where the pieces of one answer's text came in, which precede their sound. */
export class Pieces {
  /** Samples of sound and characters of text so far. @type {[number, number][]} */
  #starts = [];

  /**
   * More text comes in.
   *
   * @param {number} samples How much sound there is before it.
   * @param {number} characters How much text.
   */
  add(samples, characters) {
    this.#starts.push([samples, characters]);
  }

  /**
   * Each piece of text is laid evenly over the sound that came between it and the next one.
   *
   * @param {string} text All of it.
   * @param {number} received Samples of sound that there are.
   * @param {number} heard How many of them were played.
   */
  heard(text, received, heard) {
    const starts = this.#starts.length > 0 ? this.#starts : [[0, 0]];
    let end = 0;
    starts.forEach(([start, first], index) => {
      const [stop, last] = starts[index + 1] ?? [received, text.length];
      if (heard <= start) return;
      const share = Math.min(1, (heard - start) / Math.max(1, stop - start));
      end = first + Math.floor(share * (last - first));
    });
    return wholeWords(text, end);
  }
}

/**
 * The text up to a character, or up to the word that it is in. Not every script has blanks.
 *
 * @param {string} text
 * @param {number} end
 */
function wholeWords(text, end) {
  if (end >= text.length) return text;
  const within = words.segment(text).containing(end);
  return text.slice(0, within?.isWordLike ? within.index : end).trim();
}
