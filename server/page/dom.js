/** What pages have in common. */

/** What a meter shows at its lowest; quieter is silence. */
const FLOOR_DB = -54;

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`no ${kind.name} named ${id}`);
  return found;
}

/**
 * Moves the meters and the ring around the button.
 *
 * @param {import("./log.js").Speaker} speaker
 * @param {number} rms From 0 to 1.
 */
export function showLevel(speaker, rms) {
  const level = rms > 0 ? 1 - (20 * Math.log10(rms)) / FLOOR_DB : 0;
  const shown = Math.max(0, Math.min(1, level)).toFixed(2);
  document.body.style.setProperty(`--${speaker}-level`, shown);
}
