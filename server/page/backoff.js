/** How long to wait before each attempt to reach a server that is not there. */

const FIRST_MS = 250;
/** A sixth of the time for which a server keeps a session. */
const LONGEST_MS = 10_000;

/**
 * Milliseconds to wait before each next attempt, without end: doubling, then about 10 s; by the same
 * rules as `client/dialogue/backoff.py`.
 *
 * Chance takes or adds up to half of each, which keeps the many clients of a restarted server from
 * coming at once.
 *
 * @returns {Generator<number, never>}
 */
export function* backoff() {
  for (let waitMs = FIRST_MS; ; waitMs = Math.min(LONGEST_MS, 2 * waitMs)) {
    yield waitMs * (0.5 + Math.random());
  }
}
