"""The gallery and the queue over HTTP: over a real store, whose images a test made, and without any process."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from access import NATIVE

from atelier.api.app import app
from atelier.api.desk import Desk
from atelier.api.v1.queue import FOR_ADMINS
from atelier.runtime.jobs import database
from atelier.runtime.jobs.job import Job, NewJob, Owner, State
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.jobs.store import JobStore
from fakes.album import fill, idle_desk, picture, said
from fakes.client import bearer, keyed

pytestmark = pytest.mark.anyio
ANNA, BEN = Owner("anna", admin=False), Owner("ben", admin=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")
    opened = JobStore.open(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def desk(store: JobStore, tmp_path: Path) -> Desk:
    return idle_desk(store, tmp_path)


def client(desk: Desk, name: str = "anna") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app(desk, keyed()))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=bearer(name))


def ids(job: Job) -> list[str]:
    return [image.id for image in job.images]


async def listed(http: httpx.AsyncClient, **query: object) -> list[str]:
    answer = await http.get("/v1/images", params=query)  # pyright: ignore[reportArgumentType]
    assert answer.status_code == 200, answer.text
    return [entry["id"] for entry in answer.json()["data"]]


async def test_images_are_listed_in_pages(desk: Desk, store: JobStore) -> None:
    job = fill(store, ANNA, *(said(f"apple {n}") for n in range(5)))
    fill(store, BEN, said("apple of ben"))
    newest = ids(job)[::-1]
    async with client(desk) as http:
        page = (await http.get("/v1/images?limit=2")).json()
        assert ([one["id"] for one in page["data"]], page["total"], page["has_more"]) == (newest[:2], 5, True)
        assert page["data"][0] == {
            "id": newest[0],
            "job": job.id,
            "index": 4,
            "seed": 11,
            "width": 64,
            "height": 48,
            "format": "png",
            "prompt": "apple 4",
            "made": page["data"][0]["made"],
            "starred": False,
            "deleted": None,
            "url": f"/v1/images/{newest[0]}",
            "thumbnail": f"/v1/images/{newest[0]}/thumbnail",
        }
        last = (await http.get(f"/v1/images?limit=3&before={newest[1]}")).json()
        assert ([one["id"] for one in last["data"]], last["has_more"]) == (newest[2:], False)
        assert await listed(http, skip=4) == newest[4:]
        assert await listed(http, q='"apple 3" steps:20') == [newest[1]]
        assert await listed(http, job=job.id) == newest
        assert (await http.get(newest[0] and f"/v1/images/{newest[0]}/thumbnail")).content == b"small"


async def test_the_details_tell_what_an_image_is(desk: Desk, store: JobStore) -> None:
    job = fill(store, ANNA, said("an apple,\nred", negative="ugly"))
    async with client(desk) as http:
        told = (await http.get(f"/v1/images/{ids(job)[0]}/details")).json()
    assert (told["prompt"], told["negative_prompt"], told["boards"]) == ("an apple,\nred", "ugly", [])
    assert told["settings"][:3] == [
        {"name": "Steps", "value": "20"},
        {"name": "Sampler", "value": "Euler a"},
        {"name": "Schedule type", "value": "Karras"},
    ]
    assert told["image"]["infotext"] == said("an apple,\nred", negative="ugly")


async def test_stars_trash_and_boards(desk: Desk, store: JobStore) -> None:
    one, two = ids(fill(store, ANNA, said("a"), said("b")))
    async with client(desk) as http:
        assert (await http.post("/v1/images/star", json={"ids": [one]})).json() == {"count": 1}
        assert await listed(http, starred=True) == [one]
        assert (await http.post("/v1/images/unstar", json={"ids": [one]})).json() == {"count": 1}
        made = await http.post("/v1/boards", json={"name": " Fruit "})
        board = made.json()["id"]
        assert (made.status_code, made.json()["name"]) == (201, "Fruit")
        assert (await http.post(f"/v1/boards/{board}/add", json={"ids": [one]})).json() == {"count": 1, "ids": [one]}
        again = await http.post(f"/v1/boards/{board}/add", json={"ids": [one, two]})
        assert again.json() == {"count": 1, "ids": [two]}
        assert (await http.post(f"/v1/boards/{board}/remove", json={"ids": [two]})).json() == {"count": 1, "ids": [two]}
        assert await listed(http, board=board) == [one]
        renamed = (await http.patch(f"/v1/boards/{board}", json={"name": "Apples"})).json()
        assert renamed == {"id": board, "name": "Apples", "created": renamed["created"], "images": 1, "cover": one}
        assert (await http.get("/v1/boards")).json()["data"] == [renamed]
        assert (await http.post("/v1/images/delete", json={"ids": [one, two]})).json() == {"count": 2}
        assert await listed(http) == []
        assert (await http.get(f"/v1/images/{one}")).status_code == 200
        assert (await http.post("/v1/images/restore", json={"ids": [one]})).json() == {"count": 1}
        assert await listed(http, deleted=True) == [two]
        assert (await http.post("/v1/images/purge", json={"ids": [one, two]})).json() == {"count": 1}
        assert (await http.get(f"/v1/images/{two}")).status_code == 404
        assert (await http.delete(f"/v1/boards/{board}")).status_code == 204
        assert await listed(http) == [one]


async def test_nobody_sees_or_changes_what_is_another_s(desk: Desk, store: JobStore) -> None:
    job = fill(store, ANNA, said("secret apple"))
    image, board = ids(job)[0], store.gallery.boards.make("anna", "secret").id
    chosen = {"ids": [image]}
    async with client(desk, "ben") as http:
        assert await listed(http, q="apple") == await listed(http, job=job.id) == []
        for verb in ("star", "delete", "restore", "purge"):
            assert (await http.post(f"/v1/images/{verb}", json=chosen)).json() == {"count": 0}
        answers = [
            await http.get(f"/v1/images/{image}/details"),
            await http.get(f"/v1/images/{image}/fields"),
            await http.get(f"/v1/images?before={image}"),
            await http.get(f"/v1/images?board={board}"),
            await http.post("/v1/images/zip", json=chosen),
            await http.post(f"/v1/boards/{board}/add", json=chosen),
            await http.patch(f"/v1/boards/{board}", json={"name": "x"}),
            await http.delete(f"/v1/boards/{board}"),
            await http.post(f"/v1/jobs/{job.id}/front"),
            await http.post(f"/v1/jobs/{job.id}/retry"),
            await http.get(f"/v1/jobs/{job.id}/preview"),
        ]
        told = {(answer.status_code, answer.json()["error"]["message"]) for answer in answers}
        assert told == {(404, "nothing is there, or it is not yours")}
        assert (await http.get("/v1/boards")).json()["data"] == []
        assert (await http.get("/v1/queue")).json() == {"running": [], "waiting": []}
    assert store.gallery.entry(image, "anna").deleted is None


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("GET", "/v1/images?limit=0", None, "limit"),
        ("GET", "/v1/images?limit=501", None, "limit"),
        ("GET", "/v1/images?skip=-1", None, "skip"),
        ("GET", "/v1/images?skip=99999999999999999999", None, "skip"),
        ("GET", "/v1/images?starred=perhaps", None, "starred"),
        ("GET", "/v1/images?q=" + "a+" * 21, None, "q"),
        ("GET", "/v1/images?q=" + "a" * 1001, None, "q"),
        ("GET", "/v1/images?before=%00", None, "before"),
        ("GET", "/v1/images?board='; DROP TABLE boards", None, "board"),
        ("POST", "/v1/images/star", {}, "ids"),
        ("POST", "/v1/images/star", {"ids": []}, "ids"),
        ("POST", "/v1/images/star", {"ids": ["a"] * 1001}, "ids"),
        ("POST", "/v1/images/star", {"ids": "a"}, "ids"),
        ("POST", "/v1/images/zip", {"ids": [1]}, "ids.0"),
        ("POST", "/v1/images/zip", {"ids": ["a" * 65]}, "ids.0"),
        ("POST", "/v1/boards", {"name": " "}, "name"),
        ("POST", "/v1/boards", {"name": "a\nb"}, "name"),
        ("POST", "/v1/boards", {"name": "a" * 101}, "name"),
        ("POST", "/v1/boards", {"name": "a", "owner": "ben"}, "owner"),
        ("GET", "/v1/jobs?state=odd", None, "state"),
        ("GET", "/v1/events?after=-1", None, "after"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    desk: Desk, method: str, path: str, body: dict[str, object] | None, param: str
) -> None:
    async with client(desk) as http:
        answer = await http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.text


async def test_odd_ids_and_searches_find_nothing(desk: Desk, store: JobStore) -> None:
    fill(store, ANNA, said("a"))
    async with client(desk) as http:
        for odd in ("\0", "%", "' OR 1=1 --", "../../etc/passwd"):
            assert (await http.post("/v1/images/star", json={"ids": [odd]})).json() == {"count": 0}, odd
            assert await listed(http, q=f'prompt:"{odd}"') == []
        assert (await http.post("/v1/boards/odd/burn", json={"ids": ["a"]})).status_code == 422


async def test_a_zip_holds_the_files_and_names_what_is_missing(desk: Desk, store: JobStore, tmp_path: Path) -> None:
    job = fill(store, ANNA, said("a"), said("b"), said("c"))
    one, two, three = ids(job)
    (tmp_path / "data" / "outputs" / f"{job.id}-00001.png").unlink()
    async with client(desk) as http:
        answer = await http.post("/v1/images/zip", json={"ids": [three, two, one, "f" * 32, one]})
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="images.zip"'
        assert (await http.post("/v1/images/zip", json={"ids": ["f" * 32, two]})).status_code == 503
        assert (await http.post("/v1/images/zip", json={"ids": ["f" * 32]})).status_code == 404
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"0001-9-{three[:8]}.png", f"0003-7-{one[:8]}.png", "missing.txt"]
        assert archive.read(archive.namelist()[0]) == picture(9)
        lost = archive.read("missing.txt").decode().splitlines()
    assert [line.split(":")[0] for line in lost] == [two, "f" * 32]


async def test_a_zip_is_sent_file_by_file(desk: Desk, store: JobStore) -> None:
    from atelier.api.v1.zipped import zipped

    job = fill(store, ANNA, *(said("a") for _ in range(4)))
    asked: list[str] = []
    image = desk.image

    async def counted(image_id: str, owner: Owner) -> object:
        asked.append(image_id)
        return await image(image_id, owner)

    desk.image = counted  # type: ignore[method-assign, assignment]
    parts: list[int] = []
    async for part in await zipped(desk, ANNA, ids(job)):
        parts.append(len(asked))
        assert len(part) < 1000
    assert parts == [1, 2, 3, 4, 4]


async def test_the_queue_tells_all_that_runs_and_waits(desk: Desk, store: JobStore) -> None:
    first, second, third = (
        store.accept(NewJob("generate", {"prompt": name}), ANNA, Settled()).job for name in ("a", "b", "c")
    )
    store.accept(NewJob("generate", {"prompt": "of ben"}), BEN, Settled())
    assert store.claim("w") is not None
    async with client(desk) as http:
        told = (await http.get("/v1/queue")).json()
        assert [job["id"] for job in told["running"]] == [first.id]
        assert [(job["id"], job["position"]) for job in told["waiting"]] == [(second.id, 1), (third.id, 2)]
        moved = await http.post(f"/v1/jobs/{third.id}/front")
        assert (moved.status_code, moved.json()["position"]) == (200, 1)
        told = (await http.get("/v1/queue")).json()
        assert [job["id"] for job in told["waiting"]] == [third.id, second.id]
        answer = await http.post(f"/v1/jobs/{first.id}/front")
        assert answer.json()["error"]["message"] == (
            f"job {first.id} does not wait any more: only what waits can be moved to the front"
        )
        assert (await http.get(f"/v1/jobs/{first.id}/preview")).status_code == 404
        assert (await http.post(f"/v1/jobs/{second.id}/cancel")).json()["state"] == "cancelled"
        for state, expected in (("alive", [third.id, first.id]), ("ended", [second.id]), ("failed", [])):
            page = (await http.get(f"/v1/jobs?state={state}")).json()
            assert [job["id"] for job in page["data"]] == expected


async def test_the_same_is_asked_for_again(desk: Desk, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def settled(_job: NewJob, _owner: Owner) -> Settled:
        return Settled()

    monkeypatch.setattr(desk, "_settled", settled)
    asked = NewJob("upscale", {"images": ["upload:x"], "scale": 2}, priority=-2)
    job = store.accept(asked, ANNA, Settled()).job
    for_admins = [store.accept(NewJob(kind, {}, priority=3), ANNA, Settled()).job for kind in sorted(FOR_ADMINS)]
    store.cancel(job.id, ANNA)
    async with client(desk) as http:
        answer = await http.post(f"/v1/jobs/{job.id}/retry")
        again = answer.json()
        assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{again['id']}")
        assert again["id"] != job.id
        assert (again["kind"], again["asked"], again["priority"]) == ("upscale", asked.fields, -2)
        for other in for_admins:
            assert (await http.post(f"/v1/jobs/{other.id}/retry")).status_code == 403, other.kind


def test_what_only_admins_ask_for_they_alone_ask_for_again() -> None:
    paths = [path for (_, path), who in NATIVE.items() if who == "admin" and path.startswith("/v1/jobs/")]
    assert {path.removeprefix("/v1/jobs/") for path in paths} == FOR_ADMINS


async def test_one_stream_tells_of_all_that_is_one_s_own(desk: Desk, store: JobStore) -> None:
    image, own = ids(fill(store, Owner("root"), said("a"))), ids(fill(store, ANNA, said("a")))
    job = store.accept(NewJob("generate", {"prompt": "a"}), ANNA, Settled()).job
    other = store.accept(NewJob("generate", {"prompt": "a"}), BEN, Settled()).job
    told = desk.stream(ANNA)
    first = await anext(told)
    assert (first.name, first.data) == ("reset", {})
    await desk.cancel(other.id, BEN)
    await desk.cancel(job.id, ANNA)
    ended = await anext(told)
    assert (ended.name, ended.data["job"], ended.data["state"], ended.data["kind"]) == (
        "state",
        job.id,
        "cancelled",
        "generate",
    )
    await desk.album.make_board(ANNA, "x")
    await desk.album.change(ANNA, image, "star")
    await desk.album.change(ANNA, own, "star")
    numbers = [ended.number]
    for _ in range(2):
        event = await anext(told)
        assert (event.name, event.data) == ("gallery", {})
        numbers.append(event.number)
    assert numbers == [first.number + 1, first.number + 2, first.number + 3]
    again = desk.stream(ANNA, after=numbers[0])
    assert [(await anext(again)).number for _ in range(2)] == numbers[1:]
    desk._feed.stream("anna").tell("progress", "x", {"done": 3})
    for lost in (0, numbers[-1] + 2):
        anew = desk.stream(ANNA, after=lost)
        assert [(event.number, event.name) for event in (await anext(anew), await anext(anew))] == [
            (numbers[-1] + 1, "reset"),
            (numbers[-1] + 1, "progress"),
        ]
    assert (await anext(told)).name == "progress"
    desk._feed.close()
    assert [event async for event in told] == []


async def test_a_stream_keeps_the_newest_and_says_what_it_lost(desk: Desk) -> None:
    from atelier.runtime.workers import feed

    stream = feed.Stream()
    start = stream.newest
    for number in range(5):
        stream.tell("progress", "a", {"done": number})
        stream.tell("progress", "b", {"done": number})
    assert [(event.number, event.data) for event in stream.after(start)] == [
        (start + 9, {"done": 4, "job": "a"}),
        (start + 10, {"done": 4, "job": "b"}),
    ]
    stream.done("a")
    assert [event.data["job"] for event in stream.after(start)] == ["b"]
    assert not stream.has_gap(start)
    for _ in range(feed.KEPT_STREAM):
        stream.tell("state", "c", {"state": str(State.QUEUED)})
    assert stream.has_gap(start)
    assert stream.has_gap(start + 9)
    assert not stream.has_gap(start + 10)
    assert stream.has_gap(stream.newest + 1)
    assert len(stream.after(0)) == feed.KEPT_STREAM
