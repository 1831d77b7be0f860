/** The page itself: what the buttons do, and how a session is shown. */

import { Log } from "./log.js";
import { Session } from "./session.js";

const STATES = {
  idle: "",
  connecting: "Connecting",
  waiting: "Ready for your message",
  listening: "Listening",
  user: "You speak",
  thinking: "Thinking",
  agent: "Agent speaks",
};
/** What a meter shows at its lowest; quieter is silence. */
const FLOOR_DB = -54;

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`no ${kind.name} named ${id}`);
  return found;
}

const talk = element("talk", HTMLButtonElement);
const state = element("state", HTMLElement);
const latency = element("latency", HTMLElement);
const model = element("model", HTMLElement);
const problem = element("problem", HTMLElement);
const text = element("text", HTMLInputElement);

/** @type {Session | undefined} */
let session;
/** Whether the latest session began to converse. */
let began = Promise.resolve(false);

/** @type {import("./session.js").View} */
const view = {
  log: new Log(element("log", HTMLElement), element("scroll", HTMLElement)),
  phase: showPhase,
  connected(name) {
    model.textContent = name;
    // Whose turn it is can be heard; a screen reader that says so too would talk over it.
    state.ariaLive = "off";
  },
  level(speaker, rms) {
    const level = rms > 0 ? 1 - (20 * Math.log10(rms)) / FLOOR_DB : 0;
    const shown = Math.max(0, Math.min(1, level)).toFixed(2);
    document.body.style.setProperty(`--${speaker}-level`, shown);
  },
  latency(ms) {
    latency.textContent = `answered in ${(ms / 1000).toFixed(2)} s`;
  },
  problem: showProblem,
  ended(reason) {
    session = undefined;
    view.log.end();
    showPhase("idle");
    view.level("user", 0);
    view.level("agent", 0);
    if (reason) showProblem(reason);
  },
};

/** @param {import("./session.js").Phase} phase */
function showPhase(phase) {
  if (document.body.dataset.phase === phase) return;
  document.body.dataset.phase = phase;
  state.textContent = STATES[phase];
  talk.textContent = phase === "idle" ? "Talk" : "Hang up";
  // An answer is the end of whatever kept the last one away.
  if (phase === "agent") showProblem(undefined);
}

/** @param {Error | undefined} reason */
function showProblem(reason) {
  problem.textContent = reason?.message ?? "";
  problem.hidden = reason === undefined;
}

/** @param {{microphone: boolean}} options */
function begin(options) {
  showProblem(undefined);
  state.ariaLive = "polite";
  latency.textContent = "";
  view.log.begin();
  session = new Session(view);
  began = session.start(options);
}

talk.addEventListener("click", () => {
  if (session) session.hangUp();
  else begin({ microphone: true });
});

element("type", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!text.value.trim()) return;
  if (!session) begin({ microphone: false });
  if (!(await began)) return;
  const message = text.value.trim();
  text.value = "";
  if (message) session?.say(message);
});
