/** What can go wrong with a call, and how it is said to the person who made it. */

const SENTENCES = {
  insecure:
    "Browsers allow the microphone only on secure pages. Open this page over https, or at http://127.0.0.1 on the server's own machine.",
  denied:
    "Microphone access is blocked for this page. Allow it in the browser's address bar and press Talk again, or type a message.",
  "no-microphone":
    "No microphone was found. Plug one in and press Talk again, or type a message.",
  "microphone-taken": "The microphone can't be opened. Another program may be using it.",
  "microphone-lost": "The microphone was unplugged. Plug one in, or type a message.",
  "microphone-replaced": "The microphone was unplugged. Another one is in use now.",
  "loudspeaker-replaced": "The loudspeaker was unplugged. The default one is in use now.",
  silent: "Your microphone gives only silence: is it muted?",
  suspended: "Sound has stopped. Click or touch the page to resume.",
  unreachable: "The server can't be reached. Is it running?",
  silenced: "The browser plays sound only after a click. Press the button to continue.",
  soundless: "The browser can't play sound. Is a loudspeaker connected?",
  "no-loudspeaker": "That loudspeaker can't be used. Choose another one.",
  "held-briefly": "That was too short. Hold the key for as long as you speak.",
  busy: "The server is busy with other calls. Try again in a moment.",
  proxy:
    "A proxy in front of the server does not pass WebSocket connections on. It must use HTTP/1.1 and forward the Upgrade and Connection headers.",
  origin:
    "The server does not accept pages from this address. Its operator must add it to allowed_origins in the server's configuration.",
  unheard:
    "The microphone does not hear the loudspeaker. Check that both are plugged in, switched on and not muted. The test repeats by itself.",
  "no-model":
    "The server is running, but its model does not answer. This page goes on by itself once it does.",
  dead: "Something stopped working. This page restarts as soon as the server answers.",
  key: "The server requires an API key.",
  "key-refused": "The API key is wrong.",
  refused: "The server refused the call.",
  lost: "The connection to the server was lost.",
  dropped: "The connection to the server was lost. Reconnecting…",
  replaced: "The server no longer has the conversation above. This is a new one.",
  expired: "The conversation has reached its maximum length.",
  unanswered: "The agent could not answer.",
  protocol: "The server reported an error.",
  unexpected: "The call could not be started in this browser.",
};

/** @typedef {keyof typeof SENTENCES} Code */

export const CODES = /** @type {Code[]} */ (Object.keys(SENTENCES));

export class Problem extends Error {
  /**
   * @param {Code} code What kind of trouble it is.
   * @param {string} [detail] What the server or the browser said about it, if anything.
   */
  constructor(code, detail = "") {
    super(detail ? `${SENTENCES[code]} (${detail})` : SENTENCES[code]);
    this.code = code;
  }
}

/**
 * Names the failure of `getUserMedia`.
 *
 * @param {unknown} error
 */
export function microphoneProblem(error) {
  switch (error instanceof Error && error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("denied");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem("no-microphone");
    case "NotReadableError":
    case "AbortError":
      return new Problem("microphone-taken");
    default:
      return new Problem("unexpected", String(error));
  }
}

/**
 * Names why an established connection ended; undefined for a normal end.
 *
 * @param {{code: number, reason: string}} close
 */
export function closeProblem({ code, reason }) {
  if (code === 1000) return undefined;
  if (code === 1013) return new Problem("busy");
  if (code === 1001 && reason.includes("maximum duration")) return new Problem("expired");
  if (code === 3000 && reason.includes("origin")) return new Problem("origin", location.origin);
  if (code === 3000) return new Problem("key");
  if (code === 1008 || code >= 3000) return new Problem("refused", reason);
  return new Problem("lost");
}
