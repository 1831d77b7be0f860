// The OpenAI Agents SDK for JavaScript, as its guide shows it.

import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
import { z } from "zod";

import { Loudspeaker, Microphone, Seen, bargeIn, run, toolCall, twoTurns } from "./call.mjs";

const url = `${process.argv[2]}/v1/realtime?model=gpt-realtime`;
const app = { seen: new Seen(), microphone: new Microphone(), speaker: new Loudspeaker() };
const { seen, microphone, speaker } = app;

const weather = tool({
  name: "weather",
  description: "The weather of a city.",
  parameters: z.object({ city: z.string() }),
  execute: ({ city }) => `snow ${city}`,
});
const agent = new RealtimeAgent({
  name: "Agent",
  instructions: "Answer in one sentence.",
  tools: [weather],
});

let session;
let stop;
let said = new Set();

/** Note the words of each item once they are there. */
function readHistory(history) {
  for (const item of history) {
    if (item.type !== "message" || said.has(item.itemId)) continue;
    if (item.role === "assistant" && item.status !== "completed") continue;
    const text = item.content.map((part) => part.transcript ?? part.text ?? "").join("");
    if (!text) continue;
    said.add(item.itemId);
    seen.note(item.role === "user" ? "user" : "agent", text);
  }
}

async function connect() {
  said = new Set();
  session = new RealtimeSession(agent, { transport: new OpenAIRealtimeWebSocket() });
  session.on("error", (error) => seen.error(JSON.stringify(error) + (error.error?.stack ?? "")));
  session.on("history_updated", readHistory);
  session.on("audio", (event) => {
    speaker.play(event.data.byteLength);
    seen.note("audio");
  });
  session.on("audio_interrupted", () => {
    if (!speaker.playing) return;
    speaker.stop();
    seen.note("interrupted");
  });
  session.on("agent_tool_end", () => seen.note("tool"));
  session.on("transport_event", (event) => {
    if (event.type === "response.done" && event.response.status === "completed") seen.note("done");
  });
  await session.connect({ apiKey: "any", url });
  const current = session;
  stop = microphone.start((pcm) => current.sendAudio(new Uint8Array(pcm).buffer));
}

/** What was said, in text: the SDK refuses to create spoken items. */
function written(history) {
  const types = { assistant: "output_text", user: "input_text" };
  return history
    .filter((item) => item.type === "message")
    .map(({ itemId, role, content }) => {
      const text = content.map((part) => part.transcript ?? part.text ?? "").join("");
      return { itemId, type: "message", role, status: "completed", content: [{ type: types[role], text }] };
    });
}

async function reconnect() {
  stop();
  const history = written(session.history);
  session.close();
  await connect();
  session.updateHistory(history);
  const restored = () => history.every((item) => !item.content[0].text || said.has(item.itemId));
  await seen.until(restored, "the restored history");
  await twoTurns(app);
}

await connect();
await run([
  ["two spoken turns", () => twoTurns(app)],
  ["barge-in", () => bargeIn(app)],
  [
    "tool call, asked for in writing and by voice",
    () =>
      toolCall(
        app,
        (text) => session.sendMessage(text),
        (instructions) => session.updateAgent(agent.clone({ instructions })),
      ),
  ],
  ["reconnect with history", reconnect],
]);
