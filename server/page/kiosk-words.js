/** What a kiosk says of trouble: one thing to visitors, another to whoever looks after it. */

/**
 * @typedef {import("./problem.js").Problem} Problem
 * @typedef {import("./problem.js").Code} Code
 */

/** Nothing here is about browsers, servers or keys. @type {Partial<Record<Code, string>>} */
const FOR_VISITORS = {
  busy: "All lines are busy. Please try again in a moment.",
  dead: "We will be back in a moment.",
  dropped: "One moment: reconnecting…",
  expired: "This conversation has reached its time limit. You are welcome to start another.",
  "no-model": "We will be back soon.",
  lost: "The connection was lost. Please try again.",
  "loudspeaker-replaced": "",
  "microphone-replaced": "",
  replaced: "Sorry, the connection was lost. Please start again.",
  silenced: "Touch the button to turn on the sound.",
  silent: "I can't hear anything. Is the microphone muted?",
  suspended: "Sound has stopped. Touch the screen to resume.",
  unanswered: "Sorry, I could not answer that. Please try again.",
  protocol: "Sorry, something went wrong. Please try again.",
};
const OTHERWISE = "Please try again later.";

const NO_MICROPHONE =
  "There is no microphone that this page may use. Plug one in, and let the browser's policy allow it for this address (AudioCaptureAllowedUrls, or AudioCaptureAllowed).";
const NO_KEY =
  "The server requires an API key. Open this page once with the key in its address: add #key=… to it.";
/** Nobody is there to press or to allow anything. @type {Partial<Record<Code, string>>} */
const FOR_TECHNICIANS = {
  denied: NO_MICROPHONE,
  key: NO_KEY,
  "microphone-taken": "The microphone can't be opened. Another program may be using it.",
  "no-microphone": NO_MICROPHONE,
  silenced:
    "The browser lets a page sound only after a touch. Start it with --autoplay-policy=no-user-gesture-required.",
};

/** @param {Error | undefined} reason */
export function forVisitors(reason) {
  if (!reason) return "";
  return FOR_VISITORS[/** @type {Problem} */ (reason).code] ?? OTHERWISE;
}

/** @param {Error} reason */
export function forTechnicians(reason) {
  return FOR_TECHNICIANS[/** @type {Problem} */ (reason).code] ?? reason.message;
}
