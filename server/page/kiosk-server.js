/** What the kiosk asks its server for beside conversations. */

import { Problem } from "./problem.js";

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

export async function isServerThere() {
  try {
    const options = { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
    return (await fetch("healthz", /** @type {RequestInit} */ (options))).ok;
  } catch {
    return false;
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
