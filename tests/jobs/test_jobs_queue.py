"""Whose turn it is, how much is taken, and what is said about when a job ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.runtime.jobs.fairness import FairShare, Waiting
from atelier.runtime.jobs.job import JobProgress, NewJob, Owner, QueueFull, State, TooLarge
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.jobs.limits import Limits
from atelier.runtime.jobs.rates import Rates, ends, remaining
from atelier.runtime.jobs.store import JobStore
from job_support import ANNA, BELA, FakeClock, Stores, accept, claim, new


def drained(store: JobStore) -> list[str]:
    """The prompts of all jobs in the order in which they run, one after the other."""
    order: list[str] = []
    while (claimed := store.claim("w")) is not None:
        order.append(str(claimed.job.asked["prompt"]))
        store.finish(claimed.lease)
    return order


def test_the_order_of_acceptance(stores: Stores, clock: FakeClock) -> None:
    """C10: the clock jumps a day back and forth, and a time zone changes nothing."""
    store = stores.open()
    for number, jump in enumerate([0, 86_400, -86_400, -3600, 200_000]):
        clock.time += jump
        accept(store, prompt=str(number))
    assert drained(store) == ["0", "1", "2", "3", "4"]


def test_no_time_runs_backwards(stores: Stores, clock: FakeClock) -> None:
    """C10: a job never starts before it was accepted or ends before it started, whatever the clock says."""
    store = stores.open()
    job = accept(store)
    clock.time -= 86_400
    clock.ticks += 5
    claimed = claim(store)
    assert claimed.job.started == job.created
    clock.time -= 86_400
    clock.ticks += 5
    assert store.overdue() == ()
    done = store.finish(claimed.lease)
    assert done.ended == done.started == job.created
    accept(store)
    expected = store.jobs(ANNA)[0].expected
    assert expected == 5.0
    clock.time += 10 * 86_400
    assert store.overdue() == ()
    assert store.cancel(store.jobs(ANNA)[0].id, ANNA).state is State.CANCELLED


def test_killed_with_the_clock_set_back(stores: Stores, clock: FakeClock) -> None:
    store = stores.open(Limits(attempts=1))
    job = accept(store)
    claim(store)
    clock.time -= 86_400
    ended = stores.killed(Limits(attempts=1)).job(job.id, ANNA)
    assert ended.state is State.QUARANTINED
    assert ended.ended == ended.started == job.created


def test_priority_comes_first(stores: Stores) -> None:
    store = stores.open()
    for prompt, priority in [("usual", 0), ("low", -5), ("high", 5), ("higher", 6), ("high again", 5)]:
        accept(store, prompt=prompt, priority=priority)
    assert drained(store) == ["higher", "high", "high again", "usual", "low"]


def test_an_owner_with_one_job_does_not_wait_for_all_of_another(stores: Stores) -> None:
    """O02: B's job starts after at most two of A's."""
    store = stores.open(Limits(queue_per_owner=500))
    accept(store, ANNA, "a0")
    assert claim(store).job.asked == {"prompt": "a0"}
    for number in range(1, 40):
        accept(store, ANNA, f"a{number}")
    job = accept(store, BELA, "b")
    assert job.position is not None
    assert job.position <= 1
    started = [claim(store).job.asked["prompt"] for _ in range(2)]
    assert "b" in started


def test_owners_take_turns_and_keep_their_own_order(stores: Stores) -> None:
    store = stores.open()
    for owner in "abc":
        for number in range(3):
            accept(store, Owner(owner), f"{owner}{number}")
    assert drained(store) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_positions_are_the_order_in_which_jobs_start(stores: Stores) -> None:
    store = stores.open()
    made = [
        accept(store, Owner(o), cost=c, priority=p)
        for o, c, p in zip("aababcb", range(1, 8), [0] * 6 + [1], strict=True)
    ]
    claim(store)
    places = {job.id: store.job(job.id, Owner(job.owner)).position for job in made}
    waiting = sorted((place, job_id) for job_id, place in places.items() if place is not None)
    assert [place for place, _ in waiting] == list(range(6))
    assert [claim(store).job.id for _ in waiting] == [job_id for _, job_id in waiting]


owners = st.sampled_from("abcd")
waitings = st.lists(st.tuples(owners, st.integers(-1, 1), st.floats(0.1, 100, allow_nan=False)), max_size=24).map(
    lambda items: [Waiting(i, str(i), o, p, w) for i, (o, p, w) in enumerate(items)]
)


@given(waitings)
def test_the_order_is_one_of_all_jobs_by_priority_and_own_sequence(waiting: list[Waiting]) -> None:
    ordered = FairShare().order(reversed(waiting))
    assert sorted(job.sequence for job in ordered) == [job.sequence for job in waiting]
    assert [job.priority for job in ordered] == sorted((job.priority for job in waiting), reverse=True)
    for owner in "abcd":
        own = [(-job.priority, job.sequence) for job in ordered if job.owner == owner]
        assert own == sorted(own)


@given(waitings)
def test_starting_jobs_one_by_one_is_the_order(waiting: list[Waiting]) -> None:
    """What is foretold happens, if no other jobs come."""
    share = FairShare()
    foretold = [job.sequence for job in share.order(waiting)]
    left, happened = list(waiting), []
    while left:
        first = share.order(left)[0]
        share.started(first)
        left.remove(first)
        happened.append(first.sequence)
    assert happened == foretold


@given(waitings)
def test_no_waiting_owner_falls_behind_by_more_than_a_job(waiting: list[Waiting]) -> None:
    """Goyal et al. 1996, theorem 1: two owners who both wait differ by at most the longest job of each."""
    jobs = [Waiting(j.sequence, j.id, j.owner, 0, j.work) for j in waiting]
    counted = dict.fromkeys("abcd", 0.0)
    left = {owner: [j for j in jobs if j.owner == owner] for owner in "abcd"}
    longest = {owner: max((j.work for j in left[owner]), default=0.0) for owner in "abcd"}
    for job in FairShare().order(jobs):
        both = [o for o in "abcd" if left[o]]
        for one in both:
            for other in both:
                assert counted[one] - counted[other] <= longest[one] + longest[other] + 1e-6
        counted[job.owner] += job.work
        left[job.owner].remove(job)


def test_nobody_saves_up_turns() -> None:
    """An owner who comes late is treated as if it had begun now."""
    share = FairShare()
    for number in range(50):
        share.started(Waiting(number, str(number), "a", 0, 1.0))
    jobs = [Waiting(100 + i, f"{o}{i}", o, 0, 1.0) for i in range(4) for o in "ab"]
    assert [job.owner for job in share.order(jobs)] == list("bababab" + "a")


def test_a_job_given_back_is_counted_once() -> None:
    share = FairShare()
    job = Waiting(0, "a0", "a", 0, 10.0)
    for _ in range(5):
        share.started(job)
        share.given_back(job)
    order = share.order([Waiting(1, "a1", "a", 0, 1.0), Waiting(2, "b", "b", 0, 1.0)])
    assert [job.id for job in order] == ["a1", "b"]


def test_the_queue_is_full_for_one_owner_and_for_all(stores: Stores) -> None:
    """O01: exactly what is over the limit is refused, and what was accepted is done."""
    store = stores.open(Limits(queue=10, queue_per_owner=6))
    refusals = []
    for number in range(16):
        try:
            accept(store, ANNA, str(number))
        except QueueFull as full:
            refusals.append(full)
    assert len(refusals) == 10
    assert str(refusals[0]) == "6 jobs of yours wait, and no more are taken: try again later"
    for _ in range(4):
        accept(store, BELA)
    with pytest.raises(QueueFull, match="10 jobs wait, and no more are taken: try again later") as full:
        accept(store, Owner("carl"))
    assert full.value.retry_after == 10.0
    assert len(drained(store)) == 10
    accept(store, ANNA)


def test_many_threads_are_never_accepted_over_the_limit(stores: Stores) -> None:
    store = stores.open(Limits(queue=8, queue_per_owner=100))
    refused: list[QueueFull] = []

    def post() -> None:
        for _ in range(4):
            try:
                accept(store)
            except QueueFull as full:
                refused.append(full)

    in_threads([post] * 6)
    assert len(refused) == 16
    assert len(store.jobs(ANNA)) == 8


def in_threads(work: list[Callable[[], None]]) -> None:
    """Does everything at once; what a thread raises is raised here."""
    errors: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_retry_after_is_when_a_running_job_ends(stores: Stores, clock: FakeClock) -> None:
    store = stores.open(Limits(queue=1))
    accept(store, cost=2)
    claimed = claim(store)
    clock.advance(100)
    store.finish(claimed.lease)
    accept(store, cost=3)
    claim(store)
    clock.advance(20)
    accept(store)
    with pytest.raises(QueueFull) as full:
        accept(store)
    assert full.value.retry_after == pytest.approx(130.0)
    clock.advance(500)
    with pytest.raises(QueueFull) as full:
        accept(store)
    assert full.value.retry_after == 1.0


@pytest.mark.parametrize("cost", [100.5, 1e300, float("inf"), float("nan"), 0.0, -1.0])
def test_too_much_work_is_refused(stores: Stores, cost: float) -> None:
    """O03: the caller's estimate decides, before anything is written."""
    store = stores.open(Limits(cost=100))
    with pytest.raises(TooLarge, match=r"the job is too much work \(.*, and at most 100 is taken\): ask for less"):
        accept(store, cost=cost)
    assert store.jobs(ANNA) == ()
    accept(store, cost=100)


def test_a_key_gives_the_same_job(stores: Stores, clock: FakeClock) -> None:
    """G-J7: for 24 hours, also when the job has ended and the server was started again."""
    store = stores.open()
    job = accept(store, idempotency_key="k")
    assert store.repeated(new(idempotency_key="k"), ANNA) == job
    store.cancel(job.id, ANNA)
    clock.advance(86_399)
    store = stores.open()
    again = store.accept(new(idempotency_key="k"), ANNA, Settled())
    assert (again.job.id, again.new) == (job.id, False)
    assert store.repeated(new(idempotency_key="other"), ANNA) is None
    assert store.repeated(new(), ANNA) is None
    clock.advance(1)
    assert store.repeated(new(idempotency_key="k"), ANNA) is None
    later = store.accept(new(idempotency_key="k"), ANNA, Settled())
    assert later.new
    assert store.repeated(new(idempotency_key="k"), ANNA) == later.job


def test_a_key_of_other_fields_is_refused_by_its_header(stores: Stores) -> None:
    store = stores.open()
    job = store.accept(NewJob("generate", {"prompt": "a", "steps": 2}, idempotency_key="k"), ANNA).job
    others = NewJob("generate", {"prompt": "b", "steps": 2}), NewJob("upscale", {"prompt": "a", "steps": 2})
    for other in (replace(own, idempotency_key="k") for own in others):
        for ask in (store.repeated, store.accept):
            with pytest.raises(BadInput, match="Idempotency-Key: was sent with other fields before") as refused:
                ask(other, ANNA)
            assert refused.value.field == "Idempotency-Key"
    assert store.repeated(NewJob("generate", {"steps": 2, "prompt": "a"}, idempotency_key="k"), ANNA) == job
    assert len(store.jobs(ANNA)) == 1


def test_a_key_belongs_to_its_owner(stores: Stores) -> None:
    store = stores.open()
    mine, other = accept(store, ANNA, idempotency_key="k"), accept(store, BELA, idempotency_key="k")
    assert mine.id != other.id
    assert store.accept(new(idempotency_key="\x00\ud800"), Owner("annak"), Settled()).new


def test_a_key_counts_no_place_in_a_full_queue(stores: Stores) -> None:
    store = stores.open(Limits(queue=1))
    job = accept(store, idempotency_key="k")
    assert accept(store, idempotency_key="k").id == job.id


def test_one_key_in_many_threads_is_one_job(stores: Stores) -> None:
    """O14."""
    store = stores.open()
    found: list[str] = []
    in_threads([lambda: found.append(accept(store, idempotency_key="k").id)] * 12)
    assert len(found) == 12
    assert len(set(found)) == 1
    assert len(store.jobs(ANNA)) == 1


def test_workers_never_get_one_job_twice(stores: Stores) -> None:
    store = stores.open()
    made = {accept(store, prompt=str(number)).id for number in range(24)}
    found: list[str] = []

    def work() -> None:
        while (claimed := store.claim("w")) is not None:
            found.append(claimed.job.id)
            store.finish(claimed.lease)

    in_threads([work] * 4)
    assert sorted(found) == sorted(made)


def test_expected_times_come_from_the_jobs_that_were_done(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    assert accept(store, cost=10).expected is None
    claimed = claim(store)
    clock.advance(20)
    store.finish(claimed.lease)
    second, third = accept(store, cost=5), accept(store, cost=20)
    assert (second.expected, third.expected) == (10.0, 50.0)
    claimed = claim(store)
    clock.advance(4)
    assert store.job(second.id, ANNA).expected == pytest.approx(6.0)
    assert store.job(third.id, ANNA).expected == pytest.approx(46.0)
    store.progress(claimed.lease, JobProgress(1, 5, 0, 1, 0.2))
    assert store.job(second.id, ANNA).expected == pytest.approx(16.0)
    store.set_workers(2)
    assert store.job(third.id, ANNA).expected == pytest.approx(40.0)
    store.give_back(claimed.lease)
    assert stores.open().job(second.id, ANNA).expected == pytest.approx(10.0), "rates are learned from the database"


def test_rates_follow_the_newest_jobs() -> None:
    rates = Rates()
    assert rates.seconds("a", 1) is None
    rates.record("a", 10, 20)
    assert rates.seconds("a", 3) == pytest.approx(6)
    rates.record("a", 10, 40)
    assert rates.seconds("a", 10) == pytest.approx(26)
    rates.record("a", 0, 5)
    assert rates.seconds("b", 10) is None


@pytest.mark.parametrize(
    ("elapsed", "share", "usual", "left"),
    [(10, 0.5, None, 10), (10, 0.0, 30, 20), (50, 0.0, 30, 0), (10, 0.01, None, None), (0, 0.0, None, None)],
)
def test_what_is_left_of_a_job(elapsed: float, share: float, usual: float | None, left: float | None) -> None:
    assert remaining(elapsed, share, usual) == left


def test_ends_with_two_workers() -> None:
    queue = [("a", 5.0), ("b", None), ("c", 2.0)]
    assert ends(queue, [1.0, 10.0], 2) == {"a": 6.0, "b": None, "c": 8.0}
    assert ends([("a", 5.0)], [1.0], 3) == {"a": 5.0}


def test_shares_do_not_depend_on_what_was_measured(stores: Stores, clock: FakeClock) -> None:
    """The first job counts no more than those after it, whose seconds are known, also when they are almost none."""
    store = stores.open()
    for owner in "ab":
        for number in range(4):
            accept(store, Owner(owner), f"{owner}{number}", cost=5000)
    order = []
    for seconds in (1e-6, 1e-6, 1e-6, 3.0, 3.0, 1e-6, 1e-6, 1e-6):
        claimed = claim(store)
        order.append(claimed.job.asked["prompt"])
        clock.advance(seconds)
        store.finish(claimed.lease)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]


def test_one_job_against_two_hundred() -> None:
    """O02, in its numbers."""
    share = FairShare()
    jobs = [Waiting(number, f"a{number}", "a", 0, 1.0) for number in range(200)]
    share.started(jobs[0])
    order = share.order([*jobs[1:], Waiting(200, "b", "b", 0, 1.0)])
    assert [job.id for job in order].index("b") <= 1
