"""`atelier submit`, `jobs`, `watch` and `fetch` against a server in a thread, and against one that breaks off."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from atelier.cli import app
from atelier.cli.remote import Server, ServerRefused, Unreachable
from atelier.cli.remote_events import TRIES, Told, Watching, followed, parsed
from atelier.cli.submit import sendable
from atelier.errors import BadInput
from atelier.request.events import Failed, Finished, ImageReady, Progress, Saved, Started
from atelier.runtime.jobs.job import JobError
from atelier.runtime.store import Destination
from fakes.a1111 import PICTURE, LikeA1111
from fakes.client import SECRETS, keyed
from fakes.live import live
from fakes.service import png


@pytest.fixture(scope="module")
def service() -> LikeA1111:
    return LikeA1111()


@pytest.fixture(scope="module")
def address(service: LikeA1111) -> Generator[str]:
    with live(service) as found:
        yield found


@pytest.fixture
def atelier(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("ATELIER_SERVER", address)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = app.run(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


Run = Callable[..., tuple[int, str, str]]


def test_submit_prints_the_id_of_the_job(atelier: Run, service: LikeA1111) -> None:
    code, out, _ = atelier("submit", "a cat", "--steps", "7", "--seed", "3", "--set", "seed_resize=64x128")
    assert (code, out.strip()) == (0, next(reversed(service.kept)))
    assert service.submitted[-1].fields == {"prompt": "a cat", "steps": 7, "seed": 3, "seed_resize": [64, 128]}


def test_images_are_uploaded(atelier: Run, service: LikeA1111, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png("an image"))
    code, _, _ = atelier(
        "submit", "a cat", "-i", "in.png", "--mask", f"data:image/png;base64,{PICTURE}", "--set", "mask_blur=2"
    )
    assert code == 0
    fields = service.submitted[-1].fields
    assert str(fields["image"]).startswith("upload:")
    assert service.uploads[str(fields["image"])][1] == png("an image")
    assert base64.b64encode(service.uploads[str(fields["mask"])][1]).decode() == PICTURE
    assert fields["mask_blur"] == 2.0
    assert "output" not in fields


def test_wait_saves_what_the_server_made(atelier: Run, service: LikeA1111, tmp_path: Path) -> None:
    code, out, err = atelier("submit", "a dog", "--seed", "5", "--batch-count", "2", "--wait", "-o", "made")
    paths = [Path(line) for line in out.splitlines()]
    assert (code, [path.name for path in paths]) == (0, ["00001-5.png", "00002-6.png"])
    assert "2 images in" in err
    files = [data for _, image, data in service.files.values() if image.infotext.startswith("a dog")]
    assert [(tmp_path / path).read_bytes() for path in paths] == files
    with Image.open(paths[1]) as image:
        assert image.text["parameters"].startswith("a dog\nSteps: 20")  # type: ignore[attr-defined]


def test_watch_and_fetch(atelier: Run, service: LikeA1111, tmp_path: Path) -> None:
    _, job, _ = atelier("submit", "a fox", "--seed", "8")
    code, out, err = atelier("watch", job.strip())
    assert (code, out) == (0, "")
    assert "1 image in" in err
    code, out, _ = atelier("watch", job.strip(), "-o", "seen")
    assert (code, out.strip()) == (0, "seen/00001-8.png")
    code, out, _ = atelier("fetch", job.strip(), "-o", "a fox.jpg")
    assert (code, out.strip()) == (0, "a fox.jpg")
    with Image.open(tmp_path / "a fox.jpg") as found:
        assert found.format == "JPEG"
        assert "Steps" in bytes(found.getexif().get_ifd(0x8769)[0x9286]).decode("utf-16-be", "replace")


def test_an_answer_that_is_no_image_is_one_line(atelier: Run, service: LikeA1111) -> None:
    atelier("submit", "a bear", "--wait")
    job, (name, (owner, image, _)) = next(reversed(service.kept)), list(service.files.items())[-1]
    service.files[name] = owner, image, b"<html>"
    code, out, err = atelier("fetch", job)
    assert (code, out) == (2, "")
    assert "the server sent no image" in err
    assert "fault" not in err


def test_jobs_are_listed_and_stopped(atelier: Run, service: LikeA1111) -> None:
    service.hold = True
    _, job, _ = atelier("submit", "x" * 100)
    service.hold = False
    code, out, _ = atelier("jobs", "-n", "1")
    assert (code, len(out.splitlines())) == (0, 1)
    assert out.startswith(f"{job.strip()}  queued ")
    assert out.rstrip().endswith("x" * 59 + "…")
    assert atelier("fetch", job.strip())[0] == 2
    code, out, _ = atelier("jobs", "--cancel", job.strip(), "--json")
    assert json.loads(out)[0]["state"] == "cancelled"
    code, _, err = atelier("watch", job.strip())
    assert (code, "it was cancelled" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("submit",), "nothing to generate"),
        (("submit", "a", "--steps", "0"), "steps 0"),
        (("submit", "a", "-o", "out"), "--wait"),
        (("submit", "a", "-i", "none.png"), "none.png: cannot be read"),
        (("submit", "a", "-i", "text.txt"), "no PNG, JPEG or WebP"),
        (("submit", "a", "--model", "no such"), "unknown model"),
        (("submit", "a", "--server", "localhost:1"), "--server"),
        (("jobs", "--server", "http://127.0.0.1:1"), "nobody answers"),
        (("watch", "nothing"), "nothing is there"),
        (("fetch", "../../etc/passwd"), "is no id of a job"),
    ],
)
def test_errors_are_one_line(atelier: Run, tmp_path: Path, arguments: tuple[str, ...], part: str) -> None:
    (tmp_path / "text.txt").write_text("text")
    code, out, err = atelier(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert part in err


def test_a_job_that_fails_says_why(atelier: Run, service: LikeA1111) -> None:
    service.failing = JobError("NotFinite", "step 3: the latent is not finite", 3)
    code, out, err = atelier("submit", "a cat", "--wait")
    service.failing = None
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith("step 3: the latent is not finite")


def test_a_key_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with live(LikeA1111(), keyed()) as address:
        assert app.run(["jobs", "--server", address]) == 2
        assert "--api-key" in capsys.readouterr().err
        assert app.run(["jobs", "--server", address, "--api-key", SECRETS["anna"]]) == 0
        assert app.run(["submit", "a", "--priority", "-1", "--server", address, "--api-key", SECRETS["anna"]]) == 0


def test_the_same_job_for_the_same_key(atelier: Run) -> None:
    first, second = (atelier("submit", "a cat", "--once", "k1")[1] for _ in range(2))
    assert first == second


def test_fields_are_sent_in_the_types_that_they_have() -> None:
    assert sendable({"prompt": "a", "steps": "5", "hires_resize": ("64", "64"), "styles": ("x",), "tile": "x"}) == {
        "prompt": "a", "steps": 5, "hires_resize": [64, 64], "styles": ["x"], "tile": "x",
    }  # fmt: skip
    with pytest.raises(BadInput, match="steps"):
        sendable({"prompt": "a", "steps": "many"})


class Breaking(httpx.SyncByteStream):
    """Lines of a stream, and then no connection."""

    def __init__(self, text: str, *, breaks: bool) -> None:
        self.text, self.breaks = text, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield self.text.encode()
        if self.breaks:
            raise httpx.ReadError("gone")


def event(number: int, name: str, **data: object) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def step(number: int, done: int) -> str:
    return event(number, "progress", done=done, total=4, image=0, images=1, share=done / 4)


def breaking(streams: list[tuple[str, bool]], asked: list[str | None], *, images: int = 1) -> Server:
    """A server whose streams break off; asked: the Last-Event-ID of each."""
    made = {"id": "img_1", "index": 0, "seed": 9, "infotext": "a"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            asked.append(request.headers.get("Last-Event-ID"))
            if not streams:
                raise httpx.ConnectError("refused")
            text, breaks = streams.pop(0)
            return httpx.Response(200, stream=Breaking(text, breaks=breaks))
        if request.url.path.startswith("/v1/images/"):
            return httpx.Response(200, content=png("a"))
        state = "running" if streams else "done"
        job = {"state": state, "images": [made] * images, "progress": {"images": images}, "created": 1.0}
        return httpx.Response(200, json={**job, "started": 2.0, "ended": 5.0, "error": None})

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server")
    return Server("http://server", client)


def test_a_lost_connection_is_made_again_behind_the_last_event(tmp_path: Path) -> None:
    asked: list[str | None] = []
    picture = event(5, "image", id="img_1", index=0, seed=9, infotext="a")
    streams = [
        (step(1, 1) + step(2, 2), True),
        (": alive\n\n" + step(3, 3), False),
        (step(4, 4) + picture, True),
        (picture, False),
    ]
    server = breaking(streams, asked)
    waited: list[float] = []
    found = list(Watching(server, "j", Destination.of(str(tmp_path))).events(waited.append))
    assert asked == [None, "2", "3", "5"]
    assert waited == [0.5, 0.5]
    assert [e.done for e in found if isinstance(e, Progress)] == [1, 2, 3, 4]
    assert [type(e) for e in found if not isinstance(e, Progress)] == [Started, ImageReady, Saved, Finished]
    assert found[-1] == Finished(1, 3.0)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [png("a")]


def test_images_that_no_event_told_of_are_fetched_in_the_end(tmp_path: Path) -> None:
    found = list(Watching(breaking([(step(1, 4), False)], []), "j", Destination.of(str(tmp_path))).events())
    assert [type(e) for e in found] == [Started, Progress, ImageReady, Saved, Finished]


def test_a_server_that_stays_away_is_given_up() -> None:
    waited: list[float] = []
    with pytest.raises(Unreachable, match="nobody answers"):
        list(followed(breaking([], []), "j", waited.append))
    assert len(waited) == TRIES - 1
    assert sum(waited) < 60
    (last,) = Watching(breaking([], []), "j").events(waited.append)
    assert isinstance(last, Failed)


def test_a_job_that_is_not_there_is_not_tried_again() -> None:
    client = httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(404, json={"error": {"message": "no"}})),
        base_url="http://server",
    )
    with pytest.raises(ServerRefused, match="no"):
        list(followed(Server("http://server", client), "j", lambda _: pytest.fail("it waited")))


def test_streams_of_events() -> None:
    text = 'id: 4\nevent: a\ndata: {\ndata: "x": 1}\n\n: comment\n\ndata: no json\n\ndata: [1]\n\ndata: {}'
    lines = text.split("\n")
    assert list(parsed(lines)) == [Told(4, "a", {"x": 1})]
    assert list(parsed(["data:{}", ""])) == [Told(0, "message", {})]
