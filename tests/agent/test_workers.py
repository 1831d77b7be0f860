"""Shares that add up, and tokens that say whose they are."""

import pytest
from hypothesis import given, strategies as st

from agent.workers import ALONE, STARTED_EVERY_S, Place, pause_s

COUNTS = st.integers(1, 256)
SECRET = "0123456789abcdef" * 2


@given(COUNTS, st.integers(0, 2_000))
def test_all_together_have_no_more_than_there_is_unless_there_is_less_than_one_each(
    of: int, whole: int
):
    shares = [Place(number, of).share(whole) for number in range(of)]
    assert sum(shares) == max(whole, of)
    assert max(shares) - min(shares) <= 1


@given(COUNTS, st.data())
def test_a_token_names_its_worker_to_all_others(of: int, data: st.DataObject):
    here, there = (Place(data.draw(st.integers(0, of - 1)), of) for _ in range(2))
    token = here.named(f"resume_{SECRET}")
    assert token.endswith(SECRET)
    assert there.owner(token) == (None if here == there else here.number)


@pytest.mark.parametrize("token", ["", SECRET, f"resume_2_{SECRET}", "resume_1", "re_1_"])
def test_a_token_that_names_no_other_worker_is_looked_up_here(token: str):
    assert Place(0, 2).owner(token) is None


def test_one_process_alone_names_nobody():
    assert ALONE.named(f"resume_{SECRET}") == f"resume_{SECRET}"
    assert ALONE.owner(f"resume_1_{SECRET}") is None
    assert ALONE.share(4) == 4
    assert Place(1, 2).named(f"sess_{SECRET}") == f"sess_{SECRET}"


def test_a_worker_that_has_run_for_a_while_starts_anew_at_once():
    assert pause_s(100.0, 100.0 + STARTED_EVERY_S) == 0
    assert pause_s(100.0, 101.0) == STARTED_EVERY_S - 1
