// The OpenAI SDK for node, with the events that an ordinary application reads and sends.

import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

import { Loudspeaker, Microphone, Seen, bargeIn, run, toolCall, twoTurns } from "./call.mjs";

const url = process.argv[2];
const session = {
  type: "realtime",
  instructions: "Answer in one sentence.",
  audio: { input: { transcription: { model: "gpt-4o-mini-transcribe" } } },
  tools: [
    {
      type: "function",
      name: "weather",
      description: "The weather of a city.",
      parameters: { type: "object", properties: { city: { type: "string" } } },
    },
  ],
};
const app = { seen: new Seen(), microphone: new Microphone(), speaker: new Loudspeaker() };
const { seen, microphone, speaker } = app;
const history = [];
let calls = [];
let playedItem = "";

const client = new OpenAI({ apiKey: "any", baseURL: `${url.replace("ws", "http")}/v1` });
const realtime = new OpenAIRealtimeWS({ model: "gpt-realtime", reconnect: true }, client);

function remember(role, type, text) {
  history.push({ type: "message", role, content: [{ type, text }] });
  seen.note(role === "user" ? "user" : "agent", text);
}

function create(item) {
  realtime.send({ type: "conversation.item.create", item });
}

function write(text) {
  create({ type: "message", role: "user", content: [{ type: "input_text", text }] });
  realtime.send({ type: "response.create" });
}

function instruct(instructions) {
  realtime.send({ type: "session.update", session: { type: "realtime", instructions } });
}

function answerCalls() {
  for (const call of calls) {
    const output = `snow ${JSON.parse(call.arguments).city}`;
    create({ type: "function_call_output", call_id: call.call_id, output });
    realtime.send({ type: "response.create" });
  }
  calls = [];
}

realtime.on("error", (error) => seen.error(error.stack));
realtime.on("session.created", () => realtime.send({ type: "session.update", session }));
realtime.on("session.updated", () => seen.note("configured"));
realtime.on("conversation.item.done", () => seen.note("item"));
realtime.on("conversation.item.truncated", () => seen.note("interrupted"));
realtime.on("conversation.item.input_audio_transcription.completed", (event) =>
  remember("user", "input_text", event.transcript),
);
realtime.on("response.output_audio.delta", (event) => {
  playedItem = event.item_id;
  speaker.play(Buffer.from(event.delta, "base64").length);
  seen.note("audio");
});
realtime.on("response.output_audio_transcript.done", (event) =>
  remember("assistant", "output_text", event.transcript),
);
realtime.on("input_audio_buffer.speech_started", () => {
  if (!speaker.playing) return;
  const cut = { item_id: playedItem, content_index: 0, audio_end_ms: speaker.stop() };
  realtime.send({ type: "conversation.item.truncate", ...cut });
});
realtime.on("response.function_call_arguments.done", (event) => {
  calls.push(event);
  seen.note("tool");
});
realtime.on("response.done", ({ response }) => {
  if (response.status !== "completed") return;
  answerCalls();
  seen.note("done");
});

async function reconnect() {
  stop();
  const again = seen.more({ configured: 1 });
  realtime.socket.terminate();
  await again;
  const restored = seen.more({ item: history.length });
  for (const item of history.slice()) create(item);
  realtime.flushPending();
  await restored;
  stop = microphone.start(send);
  await twoTurns(app);
}

const send = (pcm) => realtime.send({ type: "input_audio_buffer.append", audio: pcm.toString("base64") });
await seen.until(() => seen.counts.configured, "the session");
let stop = microphone.start(send);
await run([
  ["two spoken turns", () => twoTurns(app)],
  ["barge-in", () => bargeIn(app)],
  ["tool call, asked for in writing and by voice", () => toolCall(app, write, instruct)],
  ["reconnect with history", reconnect],
]);
