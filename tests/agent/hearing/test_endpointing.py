"""Endpointing: the boundaries that given speech probabilities have."""

from hypothesis import given, strategies as st

from agent.hearing.endpointing import (
    FRAME_SAMPLES,
    Boundary,
    EndOfTurn,
    Endpointer,
    Limits,
    Onset,
    Pause,
    Resumption,
    limits,
)

LIMITS = limits(
    threshold=0.5, prefix_padding_ms=320, pause_ms=192, silence_ms=512, longest_ms=60_000
)
SPEECH, SILENCE = 0.9, 0.1


def boundaries(probabilities: list[float], limits: Limits = LIMITS) -> list[tuple[int, Boundary]]:
    """The boundaries found, each with the number of frames heard until then."""
    endpointer = Endpointer()
    found = ((n, endpointer.next_boundary(p, limits)) for n, p in enumerate(probabilities, 1))
    return [(n, boundary) for n, boundary in found if boundary is not None]


def frames(count: int) -> int:
    return count * FRAME_SAMPLES


def test_an_utterance_has_an_onset_with_padding_a_pause_and_an_end():
    assert boundaries([SILENCE] * 20 + [SPEECH] * 10 + [SILENCE] * 20) == [
        (23, Onset(frames(23 - 4) - 320 * 24)),
        (36, Pause(frames(36))),
        (46, EndOfTurn(frames(46))),
    ]


def test_a_click_is_not_speech():
    assert boundaries([SILENCE, SPEECH, SPEECH, SILENCE, SILENCE] * 10) == []


def test_a_short_word_is_speech():
    assert isinstance(boundaries([SILENCE] * 5 + [SPEECH] * 3)[0][1], Onset)


def test_speech_after_a_pause_resumes_the_same_utterance():
    found = boundaries([SPEECH] * 5 + [SILENCE] * 8 + [SPEECH] * 5 + [SILENCE] * 20)
    kinds = [type(boundary) for _, boundary in found]
    assert kinds == [Onset, Pause, Resumption, Pause, EndOfTurn]


def test_padding_never_reaches_before_the_beginning():
    assert boundaries([SPEECH] * 4)[0][1] == Onset(0)


def test_endless_speech_ends_a_turn_at_the_longest():
    short = limits(0.5, 0, 192, 512, longest_ms=3_200)
    found = boundaries([SPEECH] * 110, short)
    assert found[1] == (100, EndOfTurn(frames(100)))


def test_between_the_two_thresholds_speech_goes_on_but_does_not_begin():
    assert boundaries([0.4] * 50) == []
    assert len(boundaries([SPEECH] * 4 + [0.4] * 50)) == 1


@given(st.lists(st.floats(0, 1), max_size=300))
def test_boundaries_alternate_and_never_go_back(probabilities: list[float]):
    follows: dict[type[Boundary] | None, set[type[Boundary]]] = {
        None: {Onset},
        Onset: {Pause, EndOfTurn},
        Pause: {Resumption, EndOfTurn},
        Resumption: {Pause, EndOfTurn},
        EndOfTurn: {Onset},
    }
    last: type[Boundary] | None = None
    for _, boundary in boundaries(probabilities):
        assert type(boundary) in follows[last]
        last = type(boundary)
