/** The kiosk: visitor after visitor, none of whom finds anything of the one before. */

import { Alarm } from "./alarm.js";
import { element, showLevel } from "./dom.js";
import { Duplex, lent } from "./duplex.js";
import { Idle } from "./idle.js";
import { health, readSettings } from "./kiosk-server.js";
import { forTechnicians, forVisitors } from "./kiosk-words.js";
import { Log } from "./log.js";
import * as memory from "./memory.js";
import { Presence } from "./presence.js";
import { Problem } from "./problem.js";
import { selfTest } from "./selftest.js";
import { Session } from "./session.js";
import { Watchdog } from "./watchdog.js";

const STATES = {
  idle: "",
  connecting: "One moment…",
  reconnecting: "Reconnecting…",
  waiting: "Your turn",
  listening: "Your turn",
  user: "Listening…",
  thinking: "Thinking…",
  agent: "Speak to interrupt",
};
/** The countdown shows seconds, which must not seem to jump. */
const TICK_MS = 250;
/** Between looks at the server: how late a visitor finds that it is gone. */
const HEALTH_MS = 2000;
/** Between attempts while out of service; each may play the self-test's sweep. */
const RETRY_MS = 15_000;
/** How long a notice stays: time to read it. */
const NOTICE_MS = 8000;
/** How much of what was said before the start is sent: 1.5 s. */
const FRAMES_BEFORE = 47;
const BROWSERS_CHOICE = { microphone: "", loudspeaker: "" };

/**
 * @typedef {import("./kiosk-server.js").KioskSettings} KioskSettings
 * @typedef {import("./sound.js").CapturedFrame} CapturedFrame
 */

const notice = element("notice", HTMLElement);
const alarm = new Alarm(element("problem", HTMLElement), forVisitors);
const state = element("state", HTMLElement);
const countdown = element("countdown", HTMLElement);
const left = element("left", HTMLElement);
const log = new Log(element("log", HTMLElement), element("scroll", HTMLElement));
const key = memory.key("localStorage");

class Kiosk {
  #settings;
  #duplex;
  #idle;
  #watchdog;
  #presence = new Presence();
  /** @type {CapturedFrame[]} */
  #before = [];
  /** @type {Session | undefined} */
  #session;
  #noticeUntilMs = 0;
  #healthAtMs = 0;
  #isDead = false;
  /** Whether the model answers, as far as anybody knows. */
  #hasModel = true;

  /**
   * @param {KioskSettings} settings
   * @param {Duplex} duplex
   */
  constructor(settings, duplex) {
    this.#settings = settings;
    this.#duplex = duplex;
    this.#idle = new Idle(1000 * settings.idle_s, 1000 * settings.countdown_s);
    this.#watchdog = new Watchdog(1000 * settings.dead_s);
    for (const part of ["microphone", "loudspeaker", "connection"]) this.#alive(part);
    setInterval(() => this.#tick(), TICK_MS);
  }

  /** Nobody is there. */
  attract() {
    log.wipe();
    showProblem(undefined);
    this.#session = undefined;
    this.#before = [];
    this.#presence.forget();
    this.#duplex.listener = {
      heard: (frame) => this.#overheard(frame),
      played: () => this.#alive("loudspeaker"),
      changed: () => this.#showTrouble(this.#duplex.trouble),
      replaced: () => undefined,
    };
    document.body.dataset.phase = "idle";
    show("attract");
    this.#showTrouble(this.#duplex.trouble);
  }

  /** Somebody is there. */
  begin() {
    if (this.#session || this.#isDead || !this.#hasModel) return;
    notice.textContent = "";
    this.#idle.active(performance.now());
    /** @type {import("./view.js").Shown} */
    const view = {
      log,
      phase: (phase) => this.#showPhase(phase),
      connected: () => undefined,
      answeredBy: () => undefined,
      level: (speaker, level) => {
        this.#alive(speaker === "user" ? "microphone" : "loudspeaker");
        showLevel(speaker, level);
      },
      latency: () => undefined,
      problem: showProblem,
      sound: ({ trouble }) => this.#showTrouble(trouble),
      ended: (reason) => this.#ended(reason),
    };
    show("talking");
    const before = this.#settings.starts_on_speech ? this.#before : [];
    this.#session = new Session(view, { open: async () => lent(this.#duplex), key, before });
    this.#session.start();
  }

  /** The visitor is done, or gone. */
  finish() {
    this.#session?.hangUp();
  }

  touched() {
    this.#idle.active(performance.now());
  }

  /** @param {Problem} [reason] */
  #ended(reason) {
    if (this.#isDead) return;
    this.attract();
    if (reason && ["key", "origin", "proxy"].includes(reason.code)) showTrouble(reason);
    notice.textContent = forVisitors(reason);
    this.#noticeUntilMs = performance.now() + NOTICE_MS;
  }

  /**
   * Heard while nobody is there: it stays in this room.
   *
   * @param {CapturedFrame} frame
   */
  #overheard(frame) {
    this.#alive("microphone");
    this.#before = [...this.#before, frame].slice(-FRAMES_BEFORE);
    if (this.#presence.heard(frame.level) && this.#settings.starts_on_speech) this.begin();
  }

  /** @param {Problem | undefined} trouble */
  #showTrouble(trouble) {
    alarm.trouble = trouble;
    if (trouble && !this.#duplex.hasMicrophone) this.#fail("microphone");
  }

  /** @param {import("./view.js").Phase} phase */
  #showPhase(phase) {
    document.body.dataset.phase = phase;
    state.textContent = STATES[phase];
    if (phase === "agent") showProblem(undefined);
  }

  #tick() {
    const nowMs = performance.now();
    if (this.#session) this.#countDown(nowMs);
    else if (nowMs > this.#noticeUntilMs) notice.textContent = "";
    this.#checkServer(nowMs);
    const dead = this.#watchdog.dead(nowMs);
    if (dead) this.#fail(dead);
  }

  /** @param {number} nowMs */
  #countDown(nowMs) {
    const phase = document.body.dataset.phase ?? "";
    if (["user", "thinking", "agent"].includes(phase)) this.#idle.active(nowMs);
    const seconds = this.#idle.left(nowMs);
    countdown.hidden = seconds === undefined;
    left.textContent = `${seconds ?? ""}`;
    if (seconds === 0) this.finish();
  }

  /** @param {number} nowMs */
  async #checkServer(nowMs) {
    const phase = document.body.dataset.phase;
    if (this.#session && phase !== "reconnecting") this.#alive("connection");
    if (this.#session || nowMs - this.#healthAtMs < HEALTH_MS) return;
    this.#healthAtMs = nowMs;
    const found = await health();
    if (found) this.#alive("connection");
    if (found && !this.#session && !this.#isDead) this.#useModel(found.status !== "unavailable");
  }

  /** @param {boolean} isThere Nobody is invited to talk with a model that does not answer. */
  #useModel(isThere) {
    if (isThere === this.#hasModel) return;
    this.#hasModel = isThere;
    if (isThere) this.attract();
    else showTrouble(new Problem("no-model"));
  }

  /** @param {string} part */
  #alive(part) {
    this.#watchdog.alive(part, performance.now());
  }

  /**
   * Something is dead that only a new page can mend, and that needs the server.
   *
   * @param {string} part
   */
  async #fail(part) {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#session?.hangUp();
    log.wipe();
    showTrouble(new Problem("dead", part));
    while (!(await health())) await new Promise((resolve) => setTimeout(resolve, 1000));
    location.reload();
  }
}

/** @param {"starting" | "attract" | "talking" | "trouble"} screen */
function show(screen) {
  document.body.dataset.screen = screen;
  countdown.hidden = true;
}

/** @param {Error | undefined} reason */
function showProblem(reason) {
  alarm.problem = reason;
}

/** @param {Error} reason */
function showTrouble(reason) {
  element("trouble", HTMLElement).textContent = forVisitors(reason);
  element("technical", HTMLElement).textContent = forTechnicians(reason);
  show("trouble");
}

/** @returns {Promise<Kiosk>} */
async function start() {
  if (!isSecureContext) throw new Problem("insecure");
  const settings = await readSettings();
  element("greeting", HTMLElement).textContent = settings.greeting;
  element("hint", HTMLElement).textContent = settings.starts_on_speech
    ? "Start speaking, or touch the screen."
    : "Touch the screen to start.";
  const duplex = await Duplex.open(BROWSERS_CHOICE, { hasMicrophone: false });
  try {
    if (settings.self_test) await selfTest(duplex.loudspeaker);
    await duplex.useMicrophone("");
  } catch (error) {
    duplex.close();
    throw error;
  }
  return new Kiosk(settings, duplex);
}

/** @type {Kiosk | undefined} */
let kiosk;
let retry = 0;

async function tryToStart() {
  clearTimeout(retry);
  show("starting");
  try {
    kiosk = await start();
    kiosk.attract();
  } catch (error) {
    showTrouble(error instanceof Error ? error : new Problem("unexpected", String(error)));
    retry = setTimeout(tryToStart, RETRY_MS);
  }
}

element("begin", HTMLButtonElement).addEventListener("click", () => kiosk?.begin());
element("finish", HTMLButtonElement).addEventListener("click", () => kiosk?.finish());
element("retry", HTMLButtonElement).addEventListener("click", () => {
  if (kiosk) location.reload();
  else tryToStart();
});
addEventListener("pointerdown", () => kiosk?.touched());
addEventListener("keydown", () => {
  kiosk?.touched();
  kiosk?.begin();
});
// A visitor whom a new page cuts off is not coming back: the server need not wait.
addEventListener("pagehide", () => kiosk?.finish());
addEventListener("contextmenu", (event) => event.preventDefault());
addEventListener("dragstart", (event) => event.preventDefault());

tryToStart();
