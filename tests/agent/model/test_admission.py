"""Who goes next at a replica, and how long the others wait."""

from hypothesis import given, strategies as st

from agent.model.admission import TYPICAL_S, Admission, Ticket


def test_who_runs_dry_first_goes_first():
    queue = Admission()
    first = queue.enter(10.0)
    assert queue.advance(10.0) == first
    late, soon, same = queue.enter(30.0), queue.enter(20.0), queue.enter(20.0)
    assert queue.advance(11.0) is None
    order: list[Ticket] = []
    running = first
    for now in (14.0, 18.0, 22.0):
        queue.leave(running, now)
        turn = queue.advance(now)
        assert turn is not None
        running = turn
        order.append(running)
    assert order == [soon, same, late]


def test_who_gives_up_is_passed_over():
    queue = Admission()
    running = queue.enter(0.0)
    queue.advance(0.0)
    gone, stays = queue.enter(1.0), queue.enter(2.0)
    queue.leave(gone, 3.0)
    queue.leave(running, 4.0)
    assert queue.advance(4.0) == stays


def test_the_wait_is_the_rest_of_the_running_reply_and_those_ahead():
    queue = Admission()
    assert queue.wait_s(0.0, 0.0) == 0.0
    queue.enter(0.0)
    queue.advance(0.0)
    queue.enter(1.0)
    queue.enter(9.0)
    assert queue.wait_s(5.0, 1.0) == TYPICAL_S - 1 + TYPICAL_S
    assert queue.wait_s(9.5, 1.0) == TYPICAL_S - 1 + 2 * TYPICAL_S
    assert queue.wait_s(0.5, 100.0) == 0.0


def test_the_estimate_follows_the_replies():
    queue = Admission()
    for start in range(0, 600, 20):
        ticket = queue.enter(start)
        queue.advance(start)
        queue.leave(ticket, start + 10.0)
    queue.enter(600.0)
    queue.advance(600.0)
    assert abs(queue.wait_s(600.0, 600.0) - 10.0) < 0.1


@given(moves=st.lists(st.sampled_from(["enter", "leave", "give up"]), max_size=40))
def test_one_runs_at_a_time_and_nobody_is_forgotten(moves: list[str]):
    queue = Admission()
    waiting: list[Ticket] = []
    running: Ticket | None = None
    for now, move in enumerate(moves):
        if move == "enter":
            waiting.append(queue.enter(now % 3))
        elif move == "leave" and running:
            queue.leave(running, now)
            running = None
        elif move == "give up" and waiting:
            queue.leave(waiting.pop(), now)
        turn = queue.advance(now)
        assert (turn is not None) == (running is None and bool(waiting))
        if turn is not None:
            assert turn == min(waiting)
            running = turn
            waiting.remove(turn)
