"""The gallery of the store: found, starred, on boards, in the trash; on both databases, and out of an older one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, event, text

from atelier.errors import BadInput
from atelier.runtime.jobs import gallery as in_gallery
from atelier.runtime.jobs import store as in_store
from atelier.runtime.jobs.collection import Change, Wanted, Window
from atelier.runtime.jobs.database import Database, place
from atelier.runtime.jobs.facts import spelled
from atelier.runtime.jobs.job import Job, Owner, UnknownJob
from atelier.runtime.jobs.limits import USUAL
from atelier.runtime.jobs.opening import migrations
from atelier.runtime.jobs.store import JobStore
from fakes.album import fill, said
from fakes.album import picture as picture_of
from job_support import ANNA, BELA, START, FakeClock, Stores, accept, claim, files, picture


def ids(store: JobStore, q: str = "", owner: Owner = ANNA, **more: object) -> list[str]:
    wanted = Wanted(q, **more)  # pyright: ignore[reportArgumentType]
    return [entry.image.id for entry in store.gallery.find(owner.key, wanted, Window()).entries]


def images(job: Job) -> list[str]:
    return [image.id for image in job.images]


def test_images_are_listed_newest_first_and_in_parts(stores: Stores) -> None:
    store = stores.open()
    first, second = fill(store, ANNA, said("a"), said("b")), fill(store, ANNA, said("c"))
    theirs = fill(store, BELA, said("d"))
    newest = [*images(second), *reversed(images(first))]
    found = store.gallery.find("anna", Wanted(), Window(limit=2))
    assert ([entry.image.id for entry in found.entries], found.total) == (newest[:2], 3)
    assert (found.entries[0].job, found.entries[0].made) == (second.id, START)
    assert found.entries[0].image == second.images[0]
    behind = store.gallery.find("anna", Wanted(), Window(before=newest[0]))
    assert ([entry.image.id for entry in behind.entries], behind.total) == (newest[1:], 3)
    skipped = store.gallery.find("anna", Wanted(), Window(skip=2))
    assert [entry.image.id for entry in skipped.entries] == newest[2:]
    assert ids(store, owner=BELA) == images(theirs)
    assert ids(store, job=first.id) == newest[1:]
    assert ids(store, job=theirs.id) == []
    for missing in (images(theirs)[0], "f" * 32, "a\0b", ""):
        with pytest.raises(UnknownJob):
            store.gallery.find("anna", Wanted(), Window(before=missing))
        with pytest.raises(UnknownJob):
            store.gallery.entry(missing, "anna")


SEARCHES = {
    "apple": "AC",
    "APPLE red": "A",
    '"apple red"': "",
    '"red apple"': "A",
    "-apple": "BDE",
    "sampler:euler": "ABDE",
    "-sampler:euler": "C",
    'sampler:"DPM++ 2M"': "C",
    "schedule_type:karras": "ABCDE",
    "steps:20": "ABE",
    "steps:2": "D",
    "steps:200": "C",
    "steps:>20": "C",
    "steps:>=20": "ABCE",
    "steps:<20": "D",
    "steps:<=20": "ABDE",
    "steps:2..20": "ABDE",
    "cfg_scale:7.50": "ABCDE",
    "cfg:7.5": "",
    "seed:18446744073709551615": "E",
    "seed:18446744073709551614": "",
    "size:64x48": "ABCDE",
    "width:64 height:48": "ABCDE",
    "width:48": "",
    "model:1.5": "ABCDE",
    "Model:SD-V": "ABCDE",
    "scheduler:karras steps:20 apple": "A",
    "negative_prompt:ugly": "B",
    "prompt:crème": "B",
    "CRÈME": "B",
    "creme": "",
    "你好": "D",
    "好": "D",
    "Z": "B",
    "ZAE": "",
    "zo": "B",
    "(zoo:1.2)": "B",
    "zoo:1.2": "B",
    "<lora:x:0.8>": "B",
    "100%": "D",
    "10_%": "",
    "%": "D",
    "'": "E",
    "\\": "E",
    "\0": "",
    "steps:": "",
    '"': "ABCDE",
    "   ": "ABCDE",
}
"""What is typed, and which of the five images below it finds."""


def test_images_are_found_by_what_they_are(stores: Stores) -> None:
    store = stores.open()
    texts = {
        "A": said("A red Apple"),
        "B": said("(zoo:1.2) crème <lora:x:0.8>", negative="ugly"),
        "C": said("an apple", sampler="DPM++ 2M", steps=200),
        "D": said("你好 100%", steps=2),
        "E": said("d'or \\"),
    }
    names: dict[str, str] = {}
    for name, infotext in texts.items():
        job = fill(store, ANNA, infotext, seed=2**64 - 1 if name == "E" else 7)
        names[images(job)[0]] = name
    for q, expected in SEARCHES.items():
        assert "".join(sorted(names[image] for image in ids(store, q))) == expected, q
        assert store.gallery.find("anna", Wanted(q), Window(limit=1)).total == len(expected), q
    assert ids(store, "apple", BELA) == []
    assert ids(store, " ".join(["a"] * 20))
    for much in (" ".join(["a"] * 21), "a" * 1001):
        with pytest.raises(BadInput, match="q: "):
            ids(store, much)


@pytest.mark.parametrize("url", [None], ids=["sqlite"])
def test_a_search_sorts_what_fits_in_an_index_and_reads_the_images_it_shows(stores: Stores) -> None:
    """Else all rows that fit, with all that images say, would be read and sorted for each letter that is typed."""
    store, plans = stores.open(), list[str]()
    fill(store, ANNA, *(said(f"an apple {number}") for number in range(6)))
    engine = store._parts.database._engine

    def explain(
        connection: Connection, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if "gallery" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            plans.append("\n".join(row.detail for row in rows))

    event.listen(engine, "before_cursor_execute", explain)
    found = store.gallery.find("anna", Wanted("apple"), Window(limit=2))
    event.remove(engine, "before_cursor_execute", explain)
    assert (len(found.entries), found.total) == (2, 6)
    counted, sorted_, shown = plans
    for plan in (counted, sorted_):
        assert "SEARCH gallery USING COVERING INDEX" in plan
        assert "SEARCH facts USING PRIMARY KEY (name=?)" in plan
        assert "images" not in plan
    assert "SEARCH gallery USING INTEGER PRIMARY KEY" in shown
    assert "SCAN" not in shown


def test_texts_are_spelled_so_that_parts_are_found_and_nothing_else() -> None:
    assert spelled("  Red\n apple ") == "red apple"
    assert spelled("ß") == "ss"
    assert spelled("é") == "ZAAAOJ"
    assert spelled("😀") == "ZBPGAA"
    assert spelled("\ud800\0").isascii()


def test_stars_and_the_trash_are_one_s_own(stores: Stores) -> None:
    store = stores.open()
    one, two = images(fill(store, ANNA, said("a"), said("b")))
    theirs = images(fill(store, BELA, said("c")))[0]
    change = store.change_images
    assert change(ANNA, [one, one, theirs, "f" * 32, "a\0b"], "star") == 1
    assert change(ANNA, [one], "star") == 0
    assert (ids(store, starred=True), ids(store, starred=False), ids(store)) == ([one], [two], [two, one])
    assert ids(store, owner=BELA, starred=True) == []
    stores.clock.advance(5)
    assert change(ANNA, [one, theirs], "delete") == 1
    assert change(ANNA, [one], "delete") == 0
    assert (ids(store), ids(store, deleted=True), ids(store, owner=BELA)) == ([two], [one], [theirs])
    entry = store.gallery.entry(one, "anna")
    assert (entry.starred, entry.deleted) == (True, START + 5)
    assert change(BELA, [one], "restore") == change(BELA, [one], "purge") == 0
    assert change(ANNA, [one, two], "restore") == 1
    assert (ids(store), store.gallery.entry(one, "anna").deleted) == ([two, one], None)
    assert change(ANNA, [one, two], "unstar") == 1
    assert ids(store, starred=True) == []
    assert change(ANNA, [one], "purge") == 0
    assert store.image(one, ANNA)[1] == picture_of(7)


def test_what_is_purged_loses_its_file_and_its_job_stays(stores: Stores) -> None:
    store = stores.open()
    job = fill(store, ANNA, said("a"), said("b"))
    one, two = images(job)
    board = store.gallery.boards.make("anna", "x")
    store.gallery.put("anna", board.id, [one, two], inside=True)
    store.change_images(ANNA, [one], "delete")
    assert len(files(stores.folder)) == 2
    assert store.change_images(ANNA, [one, two], "purge") == 1
    assert files(stores.folder) == {f"outputs/{job.id}-00001.png"}
    assert images(store.job(job.id, ANNA)) == [two]
    with pytest.raises(UnknownJob):
        store.image(one, ANNA)
    assert store.gallery.boards.all("anna")[0].images == 1
    with store._parts.database.read() as connection:
        assert connection.scalar(text("SELECT count(DISTINCT entry) FROM facts")) == 1


def test_more_is_purged_than_goes_at_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (in_gallery, in_store):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    store = stores.open()
    all_ = images(fill(store, ANNA, *(said(word) for word in "abcde")))
    assert store.change_images(ANNA, all_, "delete") == 5
    assert store.change_images(ANNA, all_, "purge") == 5
    assert (ids(store, deleted=True), files(stores.folder)) == ([], set())


def test_the_trash_is_emptied_after_a_week(stores: Stores) -> None:
    store = stores.open(replace(USUAL, trash=100.0))
    one, two = images(fill(store, ANNA, said("a"), said("b")))
    store.change_images(ANNA, [one], "delete")
    stores.clock.advance(99)
    store.prune()
    assert ids(store, deleted=True) == [one]
    stores.clock.advance(2)
    assert store.prune() > 0
    assert (ids(store, deleted=True), ids(store), len(files(stores.folder))) == ([], [two], 1)


def test_an_image_of_a_job_that_goes_on_is_not_purged(stores: Stores) -> None:
    store = stores.open(replace(USUAL, trash=1.0))
    accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture())
    store.change_images(ANNA, [made.id], "delete")
    assert store.change_images(ANNA, [made.id], "purge") == 0
    stores.clock.advance(2)
    store.prune()
    assert store.image(made.id, ANNA)[0] == made
    store.finish(claimed.lease)
    store.prune()
    assert ids(store, deleted=True) == []


def test_boards_hold_images_and_are_one_s_own(stores: Stores) -> None:
    store = stores.open()
    gallery, own = store.gallery, store.gallery.boards
    one, two = images(fill(store, ANNA, said("a"), said("b")))
    theirs = images(fill(store, BELA, said("c")))[0]
    board, other = own.make("anna", "Äpfel 🍎"), own.make("anna", "b")
    assert (board.name, board.images, board.cover, board.created) == ("Äpfel 🍎", 0, None, START)
    assert len(gallery.put("anna", board.id, [one, two, two, theirs, "\0"], inside=True)) == 2
    assert gallery.put("anna", board.id, [one], inside=True) == []
    assert len(gallery.put("anna", other.id, [one], inside=True)) == 1
    assert (ids(store, board=board.id), ids(store, board=other.id)) == ([two, one], [one])
    assert gallery.entry(one, "anna").boards == (board.id, other.id)
    assert [(b.name, b.images, b.cover) for b in own.all("anna")] == [("Äpfel 🍎", 2, two), ("b", 1, one)]
    store.change_images(ANNA, [two], "delete")
    assert [(b.images, b.cover) for b in own.all("anna")] == [(1, one), (1, one)]
    store.change_images(ANNA, [two], "restore")
    assert gallery.put("anna", board.id, [one, theirs], inside=False) == [one]
    assert ids(store, board=board.id) == [two]
    own.rename("anna", board.id, "apples")
    own.rename("anna", board.id, "apples")
    assert [b.name for b in own.all("anna")] == ["apples", "b"]
    for name in ("apples", "b"):
        with pytest.raises(BadInput, match="name: there is a board"):
            own.make("anna", name)
    with pytest.raises(BadInput, match="name: there is a board 'b' already"):
        own.rename("anna", board.id, "b")
    assert own.make("bela", "apples").name == "apples"
    own.remove("anna", other.id)
    assert ([b.name for b in own.all("anna")], ids(store)) == (["apples"], [two, one])
    for wrong in ("\0", "f" * 32, board.id):
        with pytest.raises(UnknownJob):
            own.rename("bela", wrong, "x")
        with pytest.raises(UnknownJob):
            own.remove("bela", wrong)
        with pytest.raises(UnknownJob):
            gallery.put("bela", wrong, [theirs], inside=True)
        with pytest.raises(UnknownJob):
            ids(store, owner=BELA, board=wrong)


def test_so_many_boards_are_kept(stores: Stores) -> None:
    store = stores.open(replace(USUAL, boards=1))
    store.gallery.boards.make("anna", "a")
    with pytest.raises(BadInput, match="1 boards are there, and no more are kept: delete one first"):
        store.gallery.boards.make("anna", "b")
    store.gallery.boards.make("bela", "a")


@pytest.mark.parametrize("how", ["star", "board"])
def test_what_is_collected_goes_last(stores: Stores, how: Change) -> None:
    store = stores.open(replace(USUAL, history=1))
    jobs = [fill(store, ANNA, said("a")) for _ in range(3)]
    if how == "star":
        store.change_images(ANNA, images(jobs[0]), "star")
    else:
        board = store.gallery.boards.make("anna", "a")
        store.gallery.put("anna", board.id, images(jobs[0]), inside=True)
    store.prune()
    assert ids(store) == images(jobs[0])
    store.close()
    stores.store = None
    store = stores.open(replace(USUAL, history=0))
    store.prune()
    assert ids(store) == []


def test_the_first_of_one_s_own_moves_before_the_others(stores: Stores) -> None:
    store = stores.open()
    first, low, third = accept(store), accept(store, priority=-3), accept(store)
    theirs = accept(store, BELA)
    assert [job.id for job in store.alive(ANNA)] == [first.id, third.id, low.id]
    moved = store.to_front(low.id, ANNA)
    assert (moved.priority, moved.position) == (0, 0)
    assert [job.id for job in store.alive(ANNA)] == [low.id, first.id, third.id]
    store.to_front(third.id, ANNA)
    assert [job.id for job in store.alive(ANNA)] == [third.id, low.id, first.id]
    stores.changes.clear()
    store = stores.killed()
    assert [job.id for job in store.alive(ANNA)] == [third.id, low.id, first.id]
    assert claim(store).job.id == third.id
    assert claim(store).job.id == theirs.id
    assert [job.id for job in store.alive(ANNA)] == [third.id, low.id, first.id]
    for job, owner in ((third, ANNA), (first, BELA)):
        with pytest.raises(BadInput if owner is ANNA else UnknownJob):
            store.to_front(job.id, owner)


def test_jobs_are_listed_by_their_states(stores: Stores) -> None:
    store = stores.open()
    done, waits = fill(store, ANNA, said("a")), accept(store)
    assert [job.id for job in store.jobs(ANNA)] == [waits.id, done.id]
    assert [job.id for job in store.jobs(ANNA, states=(done.state,))] == [done.id]
    assert store.jobs(ANNA, states=()) == ()


def test_an_older_database_with_images_gets_a_gallery(tmp_path: Path, url: str | None) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    database = Database(place(folder, url))
    config = migrations()
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for number, owner in ((1, "anna"), (2, "bela"), (3, "anna")):
            connection.execute(
                text(
                    "INSERT INTO jobs (id, owner, kind, state, priority, cost, attempt, cancelling, created, ended, "
                    "asked, digest, warnings) VALUES (:id, :owner, 'generate', 'done', 0, 1, 1, false, 5, :ended, "
                    "'{}', '', '{}')"
                ),
                {"id": f"{number:032x}", "owner": owner, "ended": None if number == 1 else 10.0 * number},
            )
            for index in range(2):
                line = f"Steps: {10 + number}, Sampler: Euler a, Seed: 7, Size: 64x48"
                details = {"seed": 7, "width": 64, "height": 48, "format": "png", "infotext": f"a cat\n{line}"}
                connection.execute(
                    text("INSERT INTO images VALUES (:id, :job, :number, :file, 9, 'x', :details)"),
                    {
                        "id": f"{number * 16 + index:032x}",
                        "job": f"{number:032x}",
                        "number": index,
                        "file": f"{number}-{index}.png",
                        "details": json.dumps(details),
                    },
                )
                connection.execute(
                    text("INSERT INTO thumbnails VALUES (:id, :data)"),
                    {"id": f"{number * 16 + index:032x}", "data": b"small"},
                )
    database.close()
    stores = Stores(folder, url, FakeClock())
    store = stores.open()
    newest = [f"{number:032x}" for number in (0x31, 0x30, 0x11, 0x10)]
    assert (ids(store), ids(store, "cat")) == (newest, [])
    assert store.thumbnail(newest[0], ANNA) == b"small"
    assert [store.gallery.entry(image, "anna").made for image in newest] == [30.0, 30.0, 5.0, 5.0]
    store.prune()
    assert ids(store, "cat") == newest
    assert ids(store, "steps:13") == newest[:2]
    assert ids(store, "cat", BELA) == [f"{0x21:032x}", f"{0x20:032x}"]
    stores.bury()
    if url is None:
        with closing(sqlite3.connect(folder / "jobs.sqlite3.schema-0001")) as copy:
            assert copy.execute("SELECT count(*) FROM images").fetchone() == (6,)
