"""Canvases: kept whole, each owner's own, with the uploads that they show."""

from __future__ import annotations

import pytest

from atelier.errors import BadInput
from atelier.runtime.jobs.canvases import Changed
from atelier.runtime.jobs.job import TooLarge, UnknownJob
from atelier.runtime.jobs.limits import Limits
from job_support import ANNA, BELA, FakeClock, Stores

DAY = 24 * 3600.0


def test_a_canvas_survives_its_server_and_is_its_owners_alone(stores: Stores) -> None:
    canvases = stores.open().canvases
    made = canvases.put("a", ANNA.key, {"name": "Hügel", "layers": [1, None, {"x": 0.5}]})
    assert (made.id, made.name, made.revision) == ("a", "Hügel", 1)
    canvases = stores.killed().canvases
    read = canvases.read("a", ANNA.key)
    assert (read.entry, read.document) == (made, {"name": "Hügel", "layers": [1, None, {"x": 0.5}]})
    for of_another in (lambda: canvases.read("a", BELA.key), lambda: canvases.delete("a", BELA.key)):
        with pytest.raises(UnknownJob, match="'a' is no canvas of yours"):
            of_another()
    canvases.put("a", BELA.key, {"name": 3})
    assert [entry.name for entry in canvases.all(BELA.key)] == [""]
    assert canvases.all(ANNA.key) == (made,)
    canvases.delete("a", ANNA.key)
    assert canvases.all(ANNA.key) == ()
    assert canvases.read("a", BELA.key).document == {"name": 3}


def test_the_one_that_was_changed_last_comes_first(stores: Stores, clock: FakeClock) -> None:
    canvases = stores.open().canvases
    for name in ("a", "b", "a"):
        canvases.put(name, ANNA.key, {})
        clock.advance(10)
    first, second = canvases.all(ANNA.key)
    assert (first.id, first.revision, first.changed - first.created) == ("a", 2, 20)
    assert (second.id, second.revision) == ("b", 1)


def test_who_read_another_revision_replaces_nothing(stores: Stores) -> None:
    canvases = stores.open().canvases
    canvases.put("a", ANNA.key, {"by": 1}, expected=0)
    for stale in (0, 2):
        with pytest.raises(Changed, match="changed elsewhere: it is at revision 1") as refused:
            canvases.put("a", ANNA.key, {"by": 2}, expected=stale)
        assert refused.value.field == "If-Match"
    with pytest.raises(Changed, match="it is at revision 0"):
        canvases.put("b", ANNA.key, {}, expected=1)
    assert canvases.read("a", ANNA.key).document == {"by": 1}
    assert canvases.put("a", ANNA.key, {"by": 2}, expected=1).revision == 2


def test_uploads_stay_while_a_canvas_shows_them(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    kept, dropped = store.upload(b"1", ANNA), store.upload(b"2", ANNA)
    store.canvases.put("a", ANNA.key, {"layers": [{"image": kept}, {"image": f"x {dropped} x"}]})
    clock.advance(2 * DAY)
    store.prune()
    assert (store.uploaded(kept, ANNA), store.uploaded(dropped, ANNA)) == (b"1", b"2")
    store.canvases.put("a", ANNA.key, {"layers": [{"image": kept}]})
    store.prune()
    assert store.uploaded(kept, ANNA) == b"1"
    with pytest.raises(UnknownJob):
        store.uploaded(dropped, ANNA)
    store.canvases.delete("a", ANNA.key)
    store.prune()
    with pytest.raises(UnknownJob):
        store.uploaded(kept, ANNA)


def test_an_upload_of_another_is_refused_and_the_old_document_stays(stores: Stores) -> None:
    store = stores.open()
    own, of_another = store.upload(b"1", ANNA), store.upload(b"2", BELA)
    store.canvases.put("a", ANNA.key, {"image": own})
    with pytest.raises(UnknownJob, match="is no upload of yours"):
        store.canvases.put("a", ANNA.key, {"image": of_another})
    assert store.canvases.read("a", ANNA.key).document == {"image": own}


def test_canvases_have_limits(stores: Stores) -> None:
    canvases = stores.open(Limits(canvas=20, canvases=2)).canvases
    canvases.put("a", ANNA.key, {"text": "123456789"})
    with pytest.raises(TooLarge, match="a canvas of 21 bytes is too large: at most 20 are kept"):
        canvases.put("a", ANNA.key, {"text": "1234567890"})
    canvases.put("b", ANNA.key, {})
    with pytest.raises(BadInput, match="2 canvases are there, and no more are kept: delete one first"):
        canvases.put("c", ANNA.key, {})
    assert canvases.put("b", ANNA.key, {"more": 1}).revision == 2
    canvases.put("c", BELA.key, {})


def test_room_for_uploads_is_not_made_of_what_canvases_show(stores: Stores) -> None:
    store = stores.open(Limits(upload=100, uploads=250))
    shown, spare = store.upload(b"1" * 100, ANNA), store.upload(b"2" * 100, ANNA)
    store.canvases.put("a", ANNA.key, {"image": shown})
    third = store.upload(b"3" * 100, ANNA)
    assert store.uploaded(shown, ANNA) == b"1" * 100
    with pytest.raises(UnknownJob):
        store.uploaded(spare, ANNA)
    store.canvases.put("a", ANNA.key, {"images": [shown, third]})
    with pytest.raises(TooLarge, match="of your waiting jobs and canvases are too much"):
        store.upload(b"4" * 100, ANNA)
