/** What the kiosk asks its server for beside conversations. */

import { Problem } from "./problem.js";

/** The kiosk's own server answers in milliseconds; longer only delays the notice. */
const TIMEOUT_MS = 2000;

/**
 * @typedef {object} KioskSettings As the server has them, section `kiosk` of its configuration.
 * @property {string} greeting
 * @property {boolean} starts_on_speech
 * @property {number} idle_s
 * @property {number} countdown_s
 * @property {number} dead_s
 * @property {boolean} self_test
 */

/**
 * @returns {Promise<{status?: string} | undefined>} What the server says of itself and of the model;
 *   undefined if it does not answer.
 */
export async function health() {
  try {
    const options = { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
    const answer = await fetch("healthz", /** @type {RequestInit} */ (options));
    return answer.ok ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

/** @returns {Promise<KioskSettings>} */
export async function readSettings() {
  try {
    return await (await fetch("page/kiosk.json", { cache: "no-store" })).json();
  } catch {
    throw new Problem("unreachable");
  }
}
