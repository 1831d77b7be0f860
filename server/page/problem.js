/** What can go wrong with a call, and how it is said to the person who made it. */

const SENTENCES = {
  insecure:
    "The browser lends its microphone only to secure pages. Open this page by https, or on the server's own machine by http://127.0.0.1.",
  denied:
    "The microphone is blocked for this page. Allow it in the browser's address bar and press Talk again, or type your message.",
  "no-microphone":
    "No microphone was found. Plug one in and press Talk again, or type your message.",
  "microphone-taken": "The microphone can't be opened. Another program may be using it.",
  "microphone-lost": "The microphone was unplugged. Plug one in to be heard, or type.",
  "microphone-replaced": "The microphone was unplugged. Another one is in use now.",
  "loudspeaker-replaced": "The loudspeaker was unplugged. Sound now comes from the default one.",
  silent: "Your microphone gives only silence: is it muted?",
  suspended: "Sound has stopped. Click or touch the page to go on.",
  unreachable: "The server can't be reached. Is it running?",
  silenced: "The browser plays sound only after a click. Press the button to go on.",
  soundless: "The browser can't begin to play sound. Is there a loudspeaker?",
  "no-loudspeaker": "Sound can't be played there. Choose another loudspeaker.",
  "held-briefly": "Hold the key down for as long as you speak.",
  busy: "The server is busy with other calls. Try again in a moment.",
  proxy:
    "A proxy in front of the server does not pass WebSocket connections on. It must speak HTTP/1.1 to the server, and pass the headers Upgrade and Connection on.",
  origin:
    "The server does not let pages of this address in. Whoever runs it can add the address to allowed_origins in its configuration.",
  unheard:
    "The microphone does not hear the loudspeaker. Both have to be plugged in, switched on and not muted. The test is repeated by itself.",
  "kiosk-microphone":
    "There is no microphone that this page may use. It has to be plugged in, and the browser's policy has to allow it.",
  "kiosk-key": "The server asks for a key. Open the page /kiosk#key=… once, with the key in it.",
  dead: "Something stopped working. This page starts again as soon as the server answers.",
  key: "The server wants an API key.",
  "key-refused": "The server wants another API key.",
  refused: "The server refused the call.",
  lost: "The connection to the server was lost.",
  dropped: "The connection to the server was lost. Reconnecting…",
  replaced:
    "The server no longer has the conversation above. This is a new one, which knows nothing of it.",
  expired: "The conversation reached its maximum length.",
  unanswered: "The agent could not answer.",
  protocol: "The server reported an error.",
  unexpected: "This browser could not start the call.",
};

/** @typedef {keyof typeof SENTENCES} Code */

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
