/** The page itself: what buttons and keys do, and how a session is shown. */

import { Alarm } from "./alarm.js";
import { element, showLevel } from "./dom.js";
import { Duplex } from "./duplex.js";
import { Log } from "./log.js";
import * as memory from "./memory.js";
import { Problem } from "./problem.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";

const STATES = {
  idle: "",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  waiting: "Your turn",
  listening: "Listening…",
  user: "Listening…",
  thinking: "Thinking…",
  agent: "Speak to interrupt",
};
/** The state `agent` for those whose voice is not heard by itself. */
const UNINTERRUPTED = "Speaking…";

const talk = element("talk", HTMLButtonElement);
const hold = element("hold", HTMLButtonElement);
const speak = element("speak", HTMLButtonElement);
const interrupt = element("interrupt", HTMLButtonElement);
const state = element("state", HTMLElement);
const latency = element("latency", HTMLElement);
const model = element("model", HTMLElement);
const text = element("text", HTMLInputElement);
const keyForm = element("key-form", HTMLFormElement);
const keyField = element("key", HTMLInputElement);
const details = element("settings", HTMLDetailsElement);
const alarm = new Alarm(element("problem", HTMLElement));
const log = new Log(element("log", HTMLElement), element("scroll", HTMLElement));

let key = memory.key("sessionStorage");
/** @type {Session | undefined} */
let session;
/** Whether the latest session began to converse. */
let began = Promise.resolve(false);
let hasMicrophone = true;
/** The call that the page before this one was in. */
let interruptedCall = memory.takeCall();

const settings = new Settings({
  microphone: (device) => session?.duplex?.useMicrophone(device).catch(showProblem),
  loudspeaker: (device) =>
    session?.duplex
      ?.useLoudspeaker(device)
      .catch(() => showProblem(new Problem("no-loudspeaker"))),
  pushToTalk: showPushToTalk,
});

/** @type {import("./view.js").Shown} */
const view = {
  log,
  phase: showPhase,
  connected() {
    interruptedCall = undefined;
    settings.list();
    // Whose turn it is can be heard; a screen reader that says so too would talk over it.
    state.ariaLive = "off";
  },
  level: showLevel,
  latency(ms) {
    latency.textContent = `answered in ${(ms / 1000).toFixed(2)} s`;
  },
  problem: showProblem,
  answeredBy(name) {
    model.textContent = name;
  },
  sound({ trouble, hasMicrophone: isListening }) {
    alarm.trouble = trouble;
    document.body.dataset.microphone = isListening ? "on" : "off";
  },
  ended,
};

/** @param {import("./view.js").Phase} phase */
function showPhase(phase) {
  if (document.body.dataset.phase === phase) return;
  document.body.dataset.phase = phase;
  const { push, microphone } = document.body.dataset;
  const isHeard = push !== "on" && microphone !== "off";
  state.textContent = phase === "agent" && !isHeard ? UNINTERRUPTED : STATES[phase];
  talk.textContent = phase !== "idle" ? "Hang up" : interruptedCall ? "Resume" : "Talk";
  interrupt.disabled = phase !== "agent" && phase !== "thinking";
  // An answer is the end of whatever kept the last one away.
  if (phase === "agent") showProblem(undefined);
}

/** @param {Error | undefined} reason */
function showProblem(reason) {
  alarm.problem = reason;
}

/** @param {boolean} isOn */
function showPushToTalk(isOn) {
  document.body.dataset.push = isOn ? "on" : "off";
  if (session) session.pushToTalk = isOn;
}

/** @param {Problem} [reason] */
function ended(reason) {
  session = undefined;
  // The page may yet go on with the call, once it was clicked.
  if (reason?.code !== "silenced") log.end();
  showPhase("idle");
  showLevel("user", 0);
  showLevel("agent", 0);
  alarm.trouble = undefined;
  if (reason) showProblem(reason);
  if (reason?.code === "key") askForKey();
}

function askForKey() {
  if (key) showProblem(new Problem("key-refused"));
  keyForm.hidden = false;
  keyField.focus();
}

function begin() {
  const resumption = interruptedCall?.resumption;
  showProblem(undefined);
  keyForm.hidden = true;
  state.ariaLive = "polite";
  document.body.dataset.microphone = hasMicrophone ? "on" : "off";
  latency.textContent = "";
  if (!resumption) log.begin();
  const open = async () => {
    const duplex = await Duplex.open(memory.choices(), { hasMicrophone });
    return { duplex, close: () => duplex.close() };
  };
  session = new Session(view, { open, key, resumption });
  session.pushToTalk = memory.choices().pushToTalk;
  began = session.start();
}

talk.addEventListener("click", () => {
  hasMicrophone = true;
  if (session) session.hangUp();
  else begin();
});

interrupt.addEventListener("click", () => session?.interrupt());

speak.addEventListener("click", async () => {
  try {
    await session?.duplex?.listen();
    hasMicrophone = true;
    showProblem(undefined);
    settings.list();
  } catch (error) {
    showProblem(error instanceof Error ? error : undefined);
  }
});

element("type", HTMLFormElement).addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!text.value.trim()) return;
  if (!session) {
    hasMicrophone = false;
    begin();
  }
  if (!(await began)) return;
  const message = text.value.trim();
  text.value = "";
  if (message) session?.say(message);
});

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  key = keyField.value.trim();
  keyField.value = "";
  if (!key) return;
  memory.keepKey("sessionStorage", key);
  begin();
});

/** @param {boolean} isDown */
function holdKey(isDown) {
  hold.ariaPressed = String(isDown);
  if (isDown) session?.press();
  else session?.release();
}

hold.addEventListener("pointerdown", (event) => {
  hold.setPointerCapture(event.pointerId);
  holdKey(true);
});
hold.addEventListener("pointerup", () => holdKey(false));
hold.addEventListener("pointercancel", () => holdKey(false));
// A long touch is no wish for a menu here.
hold.addEventListener("contextmenu", (event) => event.preventDefault());
addEventListener("blur", () => holdKey(false));

/** @param {KeyboardEvent} event */
function isHoldKey({ code, target }) {
  const isElsewhere = target instanceof Element && target.matches("input, select, summary");
  return code === "Space" && !isElsewhere && session && memory.choices().pushToTalk;
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (details.open) details.open = false;
    else session?.interrupt();
  }
  if (!isHoldKey(event)) return;
  // Else it would scroll, or press the button that has the focus.
  event.preventDefault();
  if (!event.repeat) holdKey(true);
});

addEventListener("keyup", (event) => {
  if (!isHoldKey(event)) return;
  event.preventDefault();
  holdKey(false);
});

document.addEventListener("click", ({ target }) => {
  if (target instanceof Node && !details.contains(target)) details.open = false;
});

addEventListener("pagehide", () => {
  const resumption = session?.resumption;
  if (resumption) memory.keepCall({ resumption, captions: log.keep(), hasMicrophone });
});

showPushToTalk(memory.choices().pushToTalk);
if (interruptedCall) {
  log.restore(interruptedCall.captions);
  hasMicrophone = interruptedCall.hasMicrophone;
  begin();
}
