/** Captions: what the server's events add to the log of the conversation. */

/**
 * @typedef {import("./connection.js").ServerEvent} ServerEvent
 * @typedef {import("./log.js").Log} Log
 */

/**
 * @param {Log} log
 * @param {ServerEvent} event
 */
export function caption(log, event) {
  switch (event.type) {
    case "conversation.item.added":
      if (event.item.role === "user") addUserItem(log, event.item);
      break;
    case "conversation.item.input_audio_transcription.completed":
      log.settle(event.item_id, "user", event.transcript);
      break;
    case "conversation.item.input_audio_transcription.failed":
      log.settle(event.item_id, "user", "(said something that was not understood)");
      break;
    case "response.output_audio_transcript.delta":
      log.extend(event.item_id, "agent", event.delta);
      break;
    case "response.output_audio_transcript.done":
      log.settle(event.item_id, "agent", event.transcript);
      break;
    case "response.done":
      endResponse(log, event.response);
      break;
  }
}

/**
 * The place of the user's words comes before the answer, though they are known later.
 *
 * @param {Log} log
 * @param {ServerEvent} item
 */
function addUserItem(log, item) {
  const [{ text }] = item.content;
  if (text === undefined) log.add(item.id, "user");
  else log.settle(item.id, "user", text);
}

/**
 * @param {Log} log
 * @param {ServerEvent} response
 */
function endResponse(log, response) {
  if (response.status !== "cancelled") return;
  for (const { id } of response.output) log.interrupt(id);
}
