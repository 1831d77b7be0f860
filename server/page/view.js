/** What a call shows, in words that the pages share. */

/** @typedef {import("./problem.js").Problem} Problem */

/**
 * @typedef {"idle" | "connecting" | "reconnecting" | "waiting" | import("./turn.js").Holder} Phase
 *   `waiting` is `listening` without a microphone, or with a key that is not held.
 *
 * @typedef {object} Shown What a session shows.
 * @property {import("./log.js").Log} log
 * @property {(phase: Phase) => void} phase
 * @property {() => void} connected
 * @property {(model: string) => void} answeredBy Which model answers, if the server knows.
 * @property {(speaker: import("./log.js").Speaker, level: number) => void} level RMS, 0 to 1.
 * @property {(ms: number) => void} latency From the end of speech to the first sound.
 * @property {(problem: Problem | undefined) => void} problem Something failed and the call goes
 *   on; undefined when it is mended.
 * @property {(sound: {trouble?: Problem, hasMicrophone: boolean}) => void} sound What keeps the
 *   user from being heard, or from hearing, while it lasts.
 * @property {(problem?: Problem) => void} ended The call is over; said once.
 *
 * @typedef {Shown & {changed: () => void}} View What is shown, and who has the floor was changed.
 */

// Lets the types above be imported.
export {};
