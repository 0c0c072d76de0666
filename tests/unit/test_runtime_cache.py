"""Networks in memory: loaded once, kept while leased, forgotten in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import pytest

from atelier.request.resolved import ModelRef
from atelier.runtime.cache import ModelCache, NetRef

PATIENCE = 60
"""Seconds after which a test that waits for another thread gives up."""


def ref(name: str, part: str = "denoiser") -> NetRef[str]:
    return NetRef(ModelRef(name=name, path=f"{name}.safetensors", sha256=name * 64), part, "fp32")


class Shelf:
    """A cache of texts that are as large as they are long, and what was loaded into it."""

    def __init__(self, budget: int) -> None:
        self.cache, self.loaded = ModelCache(budget), list[str]()

    @contextmanager
    def lease(self, name: str, size: int = 1, load: Callable[[], str] | None = None) -> Generator[str]:
        def usual() -> str:
            self.loaded.append(name)
            return name * size

        with self.cache.lease(ref(name), load or usual, len) as text:
            yield text

    def use(self, name: str, size: int = 1) -> None:
        with self.lease(name, size):
            pass

    @property
    def held(self) -> str:
        return "".join(key.model.name for key in self.cache.held())


def test_what_is_kept_is_not_loaded_again() -> None:
    shelf = Shelf(10)
    assert not shelf.cache.holds(ref("a"))
    with shelf.lease("a", 3) as first:
        assert shelf.cache.holds(ref("a"))
    with shelf.lease("a", 3) as second:
        assert first is second
    assert shelf.loaded == ["a"]


def test_whatever_tells_two_networks_apart_makes_them_two() -> None:
    shelf = Shelf(10_000)
    plain = ref("a")
    others = (
        replace(plain, part="autoencoder"),
        replace(plain, dtype="bf16"),
        replace(plain, adapters=(("x", 0.5),)),
        replace(plain, backend="compiled"),
        ref("b"),
    )
    for key in (plain, *others):
        with shelf.cache.lease(key, partial(str, key), len) as text:
            assert text == str(key), "it is loaded anew"
        assert shelf.cache.holds(key)
    assert len(shelf.cache.held()) == 6


def test_leases_with_other_adapters_at_one_time_do_not_share() -> None:
    cache, plain = ModelCache(100), ref("a")
    strong = replace(plain, adapters=(("x", 0.5),))
    weak = replace(plain, adapters=(("x", 0.25),))
    with ExitStack() as leased:
        nets = [leased.enter_context(cache.lease(key, partial(str, key), len)) for key in (plain, strong, weak, strong)]
        assert len({id(net) for net in nets}) == 3
        assert nets[1] is nets[3], "the same adapters at the same strengths are one network"


def test_the_least_recently_used_goes_first() -> None:
    shelf = Shelf(3)
    for name in "abc":
        shelf.use(name)
    assert shelf.held == "abc"
    shelf.use("a")
    shelf.use("d")
    assert shelf.held == "cad"
    shelf.use("e", 2)
    assert shelf.held == "de"
    assert shelf.loaded == ["a", "b", "c", "d", "e"]


def test_the_budget_is_in_bytes_and_may_be_filled() -> None:
    shelf = Shelf(6)
    shelf.use("a", 3)
    shelf.use("b", 3)
    assert shelf.held == "ab"
    shelf.use("c", 1)
    assert shelf.held == "bc"
    shelf.use("d", 7)
    assert shelf.held == "", "it is larger than all the budget"


def test_what_is_leased_is_never_dropped() -> None:
    shelf = Shelf(2)
    with shelf.lease("a"), shelf.lease("b"):
        with shelf.lease("c"):
            assert set(shelf.held) == set("abc"), "they are over the budget together"
        assert set(shelf.held) == set("ab"), "only what nobody uses makes room"
        with shelf.lease("a"):
            pass
        assert shelf.cache.holds(ref("a")), "another still has it"
    assert shelf.loaded == ["a", "b", "c"]
    assert set(shelf.held) == set("ab")


def test_without_a_budget_it_leaves_with_its_last_lease() -> None:
    shelf = Shelf(0)
    with ExitStack() as inner:
        with shelf.lease("a"):
            inner.enter_context(shelf.lease("a"))
        assert shelf.held == "a"
    assert shelf.held == ""
    assert shelf.loaded == ["a"]


def test_a_failed_load_is_told_leaves_nothing_and_is_tried_again() -> None:
    shelf = Shelf(9)

    def fails() -> str:
        raise OSError("broken")

    for _ in range(2):
        with pytest.raises(OSError, match="broken"), shelf.lease("a", load=fails):
            pytest.fail("there is nothing to lease")
        assert shelf.held == ""
        assert not shelf.cache.holds(ref("a"))
    shelf.use("a")
    assert shelf.held == "a"


def test_a_fault_of_the_one_who_leases_gives_it_back() -> None:
    shelf = Shelf(0)
    with pytest.raises(ValueError, match="mine"), shelf.lease("a"):
        raise ValueError("mine")
    assert shelf.held == ""


def test_threads_that_ask_for_one_network_load_it_once() -> None:
    shelf, begun, go = Shelf(0), threading.Event(), threading.Event()
    both_have_it = threading.Barrier(2)

    def slow() -> str:
        shelf.loaded.append("a")
        begun.set()
        assert go.wait(PATIENCE)
        return "a"

    def ask() -> int:
        with shelf.lease("a", load=slow) as text:
            both_have_it.wait(PATIENCE)
            return id(text)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask)
        assert begun.wait(PATIENCE)
        second = pool.submit(ask)
        go.set()
        assert first.result(PATIENCE) == second.result(PATIENCE)
    assert shelf.loaded == ["a"]
    assert shelf.held == ""


def test_loading_one_network_keeps_nobody_from_another() -> None:
    shelf, both_load = Shelf(9), threading.Barrier(2)

    def slow() -> str:
        both_load.wait(PATIENCE)
        return "x"

    def ask(name: str) -> None:
        with shelf.lease(name, load=slow):
            pass

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(ask, name) for name in "ab"]:
            done.result(PATIENCE)
    assert set(shelf.held) == set("ab")


def test_while_one_loads_others_are_told_what_is_there() -> None:
    shelf, begun, go = Shelf(9), threading.Event(), threading.Event()
    shelf.use("a")

    def slow() -> str:
        begun.set()
        assert go.wait(PATIENCE)
        return "b"

    def ask() -> None:
        with shelf.lease("b", load=slow):
            pass

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ask)
        assert begun.wait(PATIENCE)
        assert (shelf.held, shelf.cache.holds(ref("b"))) == ("a", False)
        shelf.use("a")
        go.set()
        done.result(PATIENCE)
    assert shelf.held == "ab"


def test_the_thread_that_waited_tries_again_where_the_first_failed() -> None:
    shelf, begun, go = Shelf(9), threading.Event(), threading.Event()

    def fails() -> str:
        begun.set()
        assert go.wait(PATIENCE)
        raise OSError("broken")

    def first() -> None:
        with pytest.raises(OSError, match="broken"), shelf.lease("a", load=fails):
            pass

    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(first)
        assert begun.wait(PATIENCE)
        waited = pool.submit(shelf.use, "a")
        go.set()
        failed.result(PATIENCE)
        waited.result(PATIENCE)
    assert (shelf.loaded, shelf.held) == (["a"], "a")


# Networks that share tensors


def changed(shelf: Shelf, name: str, base: str, size: int) -> None:
    """Leases a network that shares tensors with another, which loading it borrows."""

    def load() -> str:
        with shelf.lease(base, 5):
            return name

    with shelf.cache.lease(ref(name), load, lambda _: size, ref(base)):
        assert shelf.cache.holds(ref(base)), "its memory would not come free"


def test_what_another_shares_tensors_with_stays_and_is_counted_once() -> None:
    shelf = Shelf(8)
    changed(shelf, "x", "a", 1)
    changed(shelf, "y", "a", 1)
    assert (sorted(shelf.held), shelf.cache.bytes) == (["a", "x", "y"], 7)
    shelf.use("b", 2)
    assert shelf.held == "ayb", "the least recently used that nobody shares tensors with"
    shelf.use("c", 3)
    assert shelf.held == "bc"
    assert shelf.loaded == ["a", "b", "c"], "the plain one was never loaded again"


def test_without_a_budget_both_leave_with_the_last_lease() -> None:
    shelf = Shelf(0)
    changed(shelf, "x", "a", 1)
    assert shelf.held == ""
    shelf.use("a")
    assert shelf.held == ""


def test_a_change_that_fails_gives_the_plain_network_back() -> None:
    shelf = Shelf(0)

    def fails() -> str:
        with shelf.lease("a"):
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"), shelf.cache.lease(ref("x"), fails, len, ref("a")):
        pytest.fail("there is nothing to lease")
    assert shelf.held == ""
    with pytest.raises(ValueError, match="invalid literal"), shelf.cache.lease(ref("x"), str, int, ref("a")):
        pytest.fail("there is nothing to lease")
