"""Figures of an evaluation, computed from takes: pure, and the only place that judges.

All positions are samples of the call, at which the microphone and the loudspeaker share one
clock. What is judged is what could be heard and what was in the recordings, not what the
server says of itself; its events only split the time up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, milliseconds, samples_in
from client.evaluation.scenarios import PAUSES_MS, Kind
from client.evaluation.simulated_phone import Run, Take

LONG_GAP = samples_in(100)
"""A shorter gap passes for a pause between words."""
LATE = samples_in(250)
"""A verdict that was reached in a pause may come so much later."""
COMMITTED = "input_audio_buffer.committed"
DELTA = "response.output_audio.delta"

SLOW_MS = 900
"""The bar of the 95th percentile, as a slow answer is to be looked at."""
SAME_MOMENT_S = 0.03
"""The stand-in and the caller hear of one thing with so much between them."""

Request = dict[str, Any]
"""A request that the stand-in model had, with its times on the same clock as the takes."""

Figures = dict[str, float | None]
"""By name; `None` where nothing was measured. Shares are from 0 to 1, times in milliseconds."""


@dataclass(frozen=True, slots=True)
class Latency:
    """From the end of speech to the first sound of the answer; the parts add up to the whole."""

    voice_to_voice_ms: float
    endpointing_ms: float
    model_ms: float
    transport_ms: float
    playout_ms: float


def figures(takes: Iterable[Take]) -> Figures:
    """Sum up takes."""
    takes = [take for take in takes if take.problem is None]
    found = latencies(takes) | _shares(takes)
    found["underruns_over_100ms"] = float(sum(map(underruns, takes)))
    found["audible_before_verdict"] = float(sum(map(_early_deltas, takes)))
    found["audio_after_interruption"] = float(sum(map(_late_deltas, takes)))
    found["scenarios"] = float(len(takes))
    return found


def latencies(takes: list[Take]) -> Figures:
    turns = [each for take in takes if take.scenario.kind == "turn" if (each := latency(take))]
    names = ("endpointing", "model", "transport", "playout")
    whole = [turn.voice_to_voice_ms for turn in turns]
    found: Figures = {
        "voice_to_voice_p50_ms": percentile(whole, 50),
        "voice_to_voice_p95_ms": percentile(whole, 95),
    }
    for name in names:
        found[f"{name}_p50_ms"] = percentile([getattr(each, f"{name}_ms") for each in turns], 50)
    delays = [delay for take in takes if (delay := end_of_turn_delay_ms(take)) is not None]
    found["end_of_turn_delay_p50_ms"] = percentile(delays, 50)
    return found


def _shares(takes: list[Take]) -> Figures:
    def of(kind: Kind, judge: Callable[[Take], bool | None]) -> list[bool]:
        judged = [judge(take) for take in takes if take.scenario.kind == kind]
        return [each for each in judged if each is not None]

    yields = [
        each
        for take in takes
        if take.scenario.kind == "interruption" and (each := yield_latency_ms(take)) is not None
    ]
    interrupted = of("interruption", yielded)
    found: Figures = {}
    for pause_ms in PAUSES_MS:
        cuts = [
            cut
            for take in takes
            if take.scenario.pause_ms == pause_ms
            for cut in false_cutoffs(take)
        ]
        found[f"false_cutoffs_{pause_ms}ms"] = share(cuts)
    found["response_rate"] = share([answered(t) for t in takes if t.scenario.kind != "pause"])
    found["yield_rate"] = share(interrupted)
    found["yield_latency_p50_ms"] = percentile(yields, 50)
    found["talks_through_backchannels"] = share(of("backchannel", talked_through))
    found["talks_through_noises"] = share(of("noise", talked_through))
    found["talks_through_side_talk"] = share(of("side_talk", talked_through))
    found["hold_p50_ms"] = percentile([each for take in takes for each in _restored_ms(take)], 50)
    through = of("echo", talked_through)
    found["self_interruptions"] = float(through.count(False)) if through else None
    words = of("word", answered)
    found["short_words_missed"] = float(words.count(False)) if words else None
    return found


def share(judged: list[bool]) -> float | None:
    return sum(judged) / len(judged) if judged else None


def percentile(values: list[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None


def answer(take: Take) -> Run | None:
    """The first sound of the answer to the opening."""
    return next((run for run in take.runs if run.start >= take.scenario.speech_end), None)


def answered(take: Take) -> bool:
    return answer(take) is not None


def latency(take: Take) -> Latency | None:
    heard, committed = answer(take), _last_commit(take)
    deltas = [each.at for each in take.events if each.event["type"] == DELTA]
    first = next((at for at in deltas if committed is not None and at >= committed), None)
    if heard is None or committed is None or first is None:
        return None
    end, transport_ms = take.scenario.speech_end, take.round_trip_ms
    return Latency(
        voice_to_voice_ms=milliseconds(heard.start - end),
        endpointing_ms=milliseconds(committed - end) - transport_ms,
        model_ms=milliseconds(first - committed),
        transport_ms=transport_ms,
        playout_ms=milliseconds(heard.start - first),
    )


def end_of_turn_delay_ms(take: Take) -> float | None:
    """From the end of speech to the server's word that the turn is over."""
    committed = _last_commit(take)
    if take.scenario.kind not in ("turn", "word", "pause") or committed is None:
        return None
    return float(milliseconds(committed - take.scenario.speech_end))


def _last_commit(take: Take) -> int | None:
    end = take.scenario.speech_end
    return next((at for at in _times(take, COMMITTED) if at >= end), None)


def _times(take: Take, kind: str) -> list[int]:
    return [each.at for each in take.events if each.event["type"] == kind]


def false_cutoffs(take: Take) -> list[bool]:
    """For each pause inside the turn, whether the server took it for the end."""
    commits = _times(take, COMMITTED)
    return [
        any(pause.start <= at < pause.end + LATE for at in commits)
        for pause in take.scenario.pauses
    ]


def _sounded(take: Take) -> tuple[Run, Run] | None:
    """First and last stretch of the first answer; `None` if no sound came over it."""
    if not take.runs:
        return None
    mine = [run for run in take.runs if run.item_id == take.runs[0].item_id]
    overlay = take.scenario.overlay
    if overlay is not None:
        onset = (take.overlay_at or 0) + overlay.onset
        if take.overlay_at is None or mine[-1].end < onset:
            return None
    return mine[0], mine[-1]


def yielded(take: Take) -> bool | None:
    """Whether the agent fell silent; `None` if it had finished before."""
    sounded = _sounded(take)
    return None if sounded is None else sounded[0].item_id in take.cut


def yield_latency_ms(take: Take) -> float | None:
    """From the onset of the interruption to the last audible sample of the agent."""
    sounded, overlay = _sounded(take), take.scenario.overlay
    if sounded is None or overlay is None or not yielded(take):
        return None
    return float(milliseconds(sounded[1].end - (take.overlay_at or 0) - overlay.onset))


def talked_through(take: Take) -> bool | None:
    """Whether the agent went on to the end of its answer, without a gap over 100 ms.

    A hold that was restored is none: nothing of the answer was lost.
    """
    stopped = yielded(take)
    return None if stopped is None else not stopped and not underruns(take)


def early_starts(takes: list[Take], requests: list[Request]) -> Figures:
    """How many requests were sent before the verdict, and what share of them was in vain."""
    used = wasted = 0
    for take in takes:
        ended_s = take.began_s + len(take.said) / SAMPLE_BYTES / RATE
        commits = [take.began_s + at / RATE for at in _times(take, COMMITTED)]
        for request in requests:
            asked_s = request["began_at"]
            if take.began_s <= asked_s <= ended_s:
                later = [at for at in commits if at > asked_s - SAME_MOMENT_S]
                verdict_s = later[0] if later else ended_s
                in_vain = request["ended"] == "closed" and request["ended_at"] < verdict_s
                wasted += in_vain
                used += not in_vain and verdict_s > asked_s + SAME_MOMENT_S
    total = used + wasted
    return {
        "early_starts_used": used / total if total else None,
        "early_starts_wasted": wasted / total if total else None,
    }


def went_wrong(take: Take) -> str | None:
    """Say what was wrong with a call, if anything was."""
    if take.problem is not None:
        return f"doesn't count: {take.problem}"
    kind = take.scenario.kind
    if kind == "pause":
        cuts = false_cutoffs(take)
        return f"cut off in {sum(cuts)} of {len(cuts)} pauses" if any(cuts) else None
    if not answered(take):
        return "not answered"
    stopped = yielded(take)
    before = "fell silent before it" if take.cut else "came after the answer's end"
    if kind == "interruption":
        return {None: before, False: "not yielded to", True: None}[stopped]
    if kind in ("backchannel", "noise", "side_talk", "echo") and talked_through(take) is not True:
        return {None: before, False: "a gap in the answer", True: "fell silent"}[stopped]
    slow = latency(take)
    if kind == "turn" and slow is not None and slow.voice_to_voice_ms > SLOW_MS:
        return f"answered after {slow.voice_to_voice_ms:g} ms"
    return None


def underruns(take: Take) -> int:
    """Gaps of more than 100 ms inside what the agent said, but for what was held on purpose."""
    return sum(
        before.item_id == after.item_id
        and after.start - before.end - _held(take, before.end, after.start) > LONG_GAP
        for before, after in pairwise(take.runs)
    )


def _held(take: Take, start: int, end: int) -> int:
    """How many samples of that time the agent's voice was held."""
    return sum(max(0, min(end, hold.end) - max(start, hold.start)) for hold in take.holds)


def _restored_ms(take: Take) -> list[float]:
    """How long the holds were after which the agent went on."""
    lasts = {run.start for run in take.runs}
    return [milliseconds(hold.end - hold.start) for hold in take.holds if hold.end in lasts]


def _early_deltas(take: Take) -> int:
    """Sound that came before any verdict."""
    commits = _times(take, COMMITTED)
    return sum(not commits or at < commits[0] for at in _times(take, DELTA))


def _late_deltas(take: Take) -> int:
    """Sound of a response that had been cancelled before."""
    dead: set[str] = set()
    late = 0
    for happened in take.events:
        match happened.event:
            case {"type": "response.done", "response": {"id": str(ended)}}:
                dead.add(ended)
            case {"type": "response.output_audio.delta", "response_id": str(of)}:
                late += of in dead
            case _:
                pass
    return late
