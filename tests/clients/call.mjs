// What the clients' scripts for node share: a microphone, a loudspeaker, and a line for each phase.

import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

export const RATE = 24_000;
const FRAME_MS = 20;
const FRAME_BYTES = (RATE * 2 * FRAME_MS) / 1000;
export const QUESTION = "weather_question";

/** Return a recording, a WAV file of mono PCM16 at 24 kHz, as PCM. */
function recording(name) {
  const file = readFileSync(`${process.env.RECORDINGS}/${name}.wav`);
  const begin = file.indexOf("data") + 8;
  return file.subarray(begin, begin + file.readUInt32LE(begin - 4));
}

/** Gives a frame of 20 ms in real time, silent unless something is being said. */
export class Microphone {
  #waiting = [];

  say(name) {
    const pcm = recording(name);
    for (let start = 0; start < pcm.length; start += FRAME_BYTES) {
      const frame = Buffer.alloc(FRAME_BYTES);
      pcm.copy(frame, 0, start, start + FRAME_BYTES);
      this.#waiting.push(frame);
    }
  }

  /** Give frames to `send` until the returned function is called. */
  start(send) {
    let due = performance.now();
    const timer = setInterval(() => {
      for (; due <= performance.now(); due += FRAME_MS) {
        send(this.#waiting.shift() ?? Buffer.alloc(FRAME_BYTES));
      }
    }, FRAME_MS);
    return () => clearInterval(timer);
  }
}

/** Knows how long the sound that it was given plays; nobody hears it. */
export class Loudspeaker {
  #began = 0;
  #ends = 0;

  get playing() {
    return performance.now() < this.#ends;
  }

  play(bytes) {
    if (!this.playing) this.#began = this.#ends = performance.now();
    this.#ends += (1000 * bytes) / (RATE * 2);
  }

  /** Play no more; return how many milliseconds were played since it was last silent. */
  stop() {
    this.#ends = Math.min(this.#ends, performance.now());
    return Math.floor(this.#ends - this.#began);
  }

  async silence() {
    while (this.playing) await pause(Math.ceil(this.#ends - performance.now()));
  }
}

/** What a client reported, counted by kind; the first error ends every wait. */
export class Seen {
  counts = {};
  texts = [];
  errors = [];
  #waiting = [];

  constructor() {
    for (const kind of ["uncaughtException", "unhandledRejection"]) {
      process.on(kind, (error) => this.error(`${kind}: ${error?.stack ?? error}`));
    }
    for (const level of ["error", "warn"]) {
      console[level] = (...words) => this.error(`logged: ${words.join(" ")}`);
    }
  }

  note(kind, text = "") {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    if (text) this.texts.push(text);
    this.#wake();
  }

  error(what) {
    this.errors.push(String(what).slice(0, 2000));
    this.#wake();
  }

  #wake() {
    for (const check of [...this.#waiting]) check();
  }

  /** Wait until something is true; fail after a while, and at any error. */
  until(isTrue, what, timeout = 25_000) {
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((each) => each !== check);
        settle(value);
      };
      const check = () => {
        if (this.errors.length) end(reject, new Error(this.errors.join("\n")));
        else if (isTrue()) end(resolve);
      };
      const late = () => end(reject, new Error(`${what} never came; seen ${JSON.stringify(this.counts)}`));
      const timer = setTimeout(late, timeout);
      this.#waiting.push(check);
      check();
    });
  }

  /** Wait until so many more of each kind were reported than before this call. */
  more(kinds) {
    const wanted = Object.entries(kinds).map(([kind, n]) => [kind, n + (this.counts[kind] ?? 0)]);
    const reached = () => wanted.every(([kind, n]) => (this.counts[kind] ?? 0) >= n);
    return this.until(reached, JSON.stringify(kinds));
  }
}

function expect(isTrue, what) {
  if (!isTrue) throw new Error(what);
}

/** Ask twice, and hear and read an answer each time. */
export async function twoTurns({ seen, microphone, speaker }) {
  for (let turn = 0; turn < 2; turn++) {
    const reported = seen.more({ user: 1, agent: 1, audio: 2, done: 1 });
    microphone.say(QUESTION);
    await reported;
    expect(speaker.playing, "the answer is over too soon");
    await speaker.silence();
  }
}

/** Interrupt an answer that is still being made, and one that is only still being played. */
export async function bargeIn({ seen, microphone, speaker }) {
  const sounding = seen.more({ audio: 1 });
  microphone.say(QUESTION);
  await sounding;
  for (let turn = 0; turn < 2; turn++) {
    const reported = Promise.all([seen.more({ interrupted: 1 }), seen.more({ audio: 2, done: 1, agent: 1 })]);
    microphone.say(QUESTION);
    await reported;
    expect(speaker.playing, "the answer is over too soon");
  }
  await speaker.silence();
}

/** Ask for a function call in writing and by voice, and read what it returned. */
export async function toolCall({ seen, microphone, speaker }, write, instruct) {
  for (const city of ["Oslo", "Bergen"]) {
    const answered = seen.more({ tool: 1, done: 2, agent: 1 });
    const wish = `call: weather {"city": "${city}"}`;
    if (city === "Oslo") {
      write(wish);
    } else {
      await instruct(wish);
      microphone.say(QUESTION);
    }
    await answered;
    expect(seen.texts.at(-1) === `I was told: snow ${city}`, `heard ${seen.texts.at(-1)}`);
    await speaker.silence();
  }
}

/** Run a client's phases, `[name, function]`; print a line for each. */
export async function run(phases) {
  for (const [name, phase] of phases) {
    try {
      await phase();
      console.log(`ok    ${name}`);
    } catch (error) {
      console.log(`FAIL  ${name}: ${error.stack}`);
      process.exit(1);
    }
  }
  process.exit(0);
}
