"""The rules that terminal and page share: the page's side of the golden cases."""

from typing import Any

import pytest

from tests.client.dialogue.test_client_rules import FRAME_MS, LOUD, RULES
from tests.drivers.page import CHROMIUM, Chromium
from tests.drivers.scripted_server import ScriptedServer

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

PLAY = """
async ([cases, frameMs, loud]) => {
  globalThis.sampleRate = 24_000;
  globalThis.AudioWorkletProcessor = class { port = { postMessage() {} }; };
  const kind = new Promise((resolve) => { globalThis.registerProcessor = (_, it) => resolve(it); });
  await import("/page/playout.js");
  const Playout = await kind;
  return cases.map(play);

  /** All that the loudspeaker plays in 2 s, in shares of what it was given. */
  function play({ orders }) {
    const playout = new Playout();
    const played = [];
    for (let now = 0; now < 2000; now += frameMs) {
      for (const [, kind, item, durationMs] of orders.filter(([atMs]) => atMs === now)) {
        playout.port.onmessage({ data: orderOf(kind, item, durationMs) });
      }
      const out = new Float32Array(24 * frameMs);
      playout.process([], [[out]]);
      played.push(...out);
    }
    return played.map((sample) => (sample * 32_768) / loud);
  }

  function orderOf(kind, item, durationMs) {
    const states = { duck: "ducked", hold: "held", restore: "full" };
    if (kind === "complete") return { type: "complete", item };
    if (kind !== "add") return { type: "volume", state: states[kind] };
    return { type: "chunk", item, pcm: new Int16Array(24 * durationMs).fill(loud) };
  }
}
"""


def play(server: ScriptedServer, browser: Chromium, cases: list[dict[str, Any]]) -> Any:
    with browser.page(server.url) as talk:
        return talk.page.evaluate(PLAY, [cases, FRAME_MS, LOUD])


BACK_OFF = """
async ({ chance, waits_ms: expected }) => {
  const { backoff } = await import("/page/backoff.js");
  Math.random = () => chance;
  const waits = backoff();
  return expected.map(() => waits.next().value);
}
"""


def test_each_attempt_to_come_back_waits_longer_than_the_one_before(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        for case in RULES["backoff"]:
            assert talk.page.evaluate(BACK_OFF, case) == case["waits_ms"]


RESUME = """
async ({ received, audio_start_samples: start, sent }) => {
  const { Playing } = await import("/page/playing.js");
  const played = [];
  const playing = new Playing({ play: (_, pcm) => played.push(pcm.length) });
  playing.play("one", soundOf(received));
  playing.resume("one", start);
  for (const samples of sent) playing.play("one", soundOf(samples));
  return played;

  function soundOf(samples) {
    return btoa("\\0".repeat(2 * samples));
  }
}
"""


def test_what_was_received_before_the_connection_was_lost_is_played_once(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        for case in RULES["resume"]:
            played = talk.page.evaluate(RESUME, case)
            assert played == [case["received"], *case["played"]]


PUSH = """
async ({ held_ms: heldMs }) => {
  const { PushToTalk } = await import("/page/push_to_talk.js");
  const push = new PushToTalk();
  push.isOn = true;
  push.press();
  for (let atMs = 0; atMs < heldMs; atMs += 32) push.frame();
  push.release();
  for (;;) {
    const fate = push.frame();
    if (fate !== "send") return fate;
  }
}
"""


def test_a_slip_of_the_finger_asks_nothing(server: ScriptedServer, browser: Chromium):
    with browser.page(server.url) as talk:
        for case in RULES["push_to_talk"]:
            assert talk.page.evaluate(PUSH, case) == ("commit" if case["asks"] else "clear")


LATENCY = """
async (rule) => {
  const { Dialogue } = await import("/page/dialogue.js");
  let now = 1000;
  performance.now = () => now;
  const shown = [];
  const view = { latency: (ms) => shown.push(ms) };
  const dialogue = new Dialogue(view, { delayMs: rule.delay_ms }, () => undefined);
  for (let sentMs = 0; sentMs < rule.sent_ms + rule.first_audio_after_ms; sentMs += 20) {
    now += 20;
    dialogue.sent(24 * 20);
  }
  const marks = { type: "x_mimo.marks", speech_end_ms: rule.speech_end_ms, first_sound_ms: 700 };
  dialogue.received(marks);
  dialogue.played({ type: "started", item: "answer" });
  return shown;
}
"""


def test_latency_counts_from_where_the_server_heard_the_speech_end_up_to_the_ear(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        for case in RULES["latency"]:
            assert talk.page.evaluate(LATENCY, case) == [case["voice_to_voice_ms"]]


def test_sound_fades_in_and_out_over_the_same_time(server: ScriptedServer, browser: Chromium):
    [sound] = play(server, browser, [{"orders": [[0, "add", "one", 400]]}])
    whole = [number for number, sample in enumerate(sound) if sample > 0.9999]
    rises, falls = whole[0], (24 * 400) - 1 - whole[-1]
    assert [round(each / 24) for each in (rises, falls)] == [RULES["fade_ms"]] * 2


def test_sound_that_may_be_late_waits(server: ScriptedServer, browser: Chromium):
    cases = RULES["jitter"]
    for case, sound in zip(cases, play(server, browser, cases), strict=True):
        edges = [
            number
            for number, (before, after) in enumerate(zip([0, *sound], [*sound, 0], strict=True))
            if (before > 1e-9) != (after > 1e-9)
        ]
        spans = [round(edge / 24) for edge in edges]
        assert spans == [edge for span in case["heard"] for edge in span], case


def test_the_agent_lowers_its_voice_in_a_ramp(server: ScriptedServer, browser: Chromium):
    cases = [
        case | {"orders": [[0, "add", "one", 1000], *case["orders"]]} for case in RULES["ducking"]
    ]
    for case, sound in zip(cases, play(server, browser, cases), strict=True):
        for at_ms, loudness_db in case["loudness_db"]:
            expected = 0 if loudness_db is None else 10 ** (loudness_db / 20)
            assert sound[24 * at_ms - 1] == pytest.approx(expected, abs=0.003), (case, at_ms)
