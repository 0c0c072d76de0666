"""Uploads and outputs: durable first, seen by their owner, removed oldest first, never through a link."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from atelier.runtime.jobs import history
from atelier.runtime.jobs.files import Files
from atelier.runtime.jobs.job import Job, JobError, NewJob, Owner, State, StoreFailed, TooLarge, UnknownJob, located
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.jobs.limits import Limits
from atelier.runtime.jobs.store import JobStore
from job_support import ANNA, BAD_LUCK, BELA, FakeClock, Stores, accept, claim, files, new, picture

# sha256sum of "abc", from FIPS 180-2, appendix B.1.
ABC = "upload:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def done(store: JobStore, *images: bytes, owner: Owner = ANNA) -> Job:
    accept(store, owner)
    claimed = claim(store)
    for index, data in enumerate(images):
        store.add_image(claimed.lease, picture(index, data))
    return store.finish(claimed.lease)


def test_an_upload_is_named_by_its_bytes(stores: Stores) -> None:
    store = stores.open()
    assert store.upload(b"abc", ANNA) == ABC
    assert store.upload(b"abc", ANNA) == ABC
    assert store.uploaded(ABC, ANNA) == b"abc"
    store = stores.killed()
    assert store.uploaded(ABC, ANNA) == b"abc"


def test_two_owners_of_the_same_bytes_do_not_meet(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    store.upload(b"abc", ANNA)
    with pytest.raises(UnknownJob, match="is no upload of yours: send the image first"):
        store.uploaded(ABC, BELA)
    with pytest.raises(UnknownJob):
        store.accept(new(), BELA, Settled(uploads=(ABC,)))
    assert store.jobs(BELA) == ()
    store.upload(b"abc", BELA)
    assert store.uploaded(ABC, BELA) == b"abc"
    clock.advance(80_000)
    store.upload(b"abc", BELA)
    store.accept(new(), BELA, Settled(uploads=(ABC,)))
    clock.advance(8_000)
    store.prune()
    assert store.uploaded(ABC, BELA) == b"abc"
    with pytest.raises(UnknownJob):
        store.uploaded(ABC, ANNA)


@pytest.mark.parametrize("name", ["", "upload:", "abc", ABC[7:], ABC.upper(), ABC + "\n", "upload:../" + "a" * 61])
def test_other_names_are_no_uploads(sqlite_stores: Stores, name: str) -> None:
    store = sqlite_stores.open()
    store.upload(b"abc", ANNA)
    with pytest.raises(UnknownJob):
        store.uploaded(name, ANNA)
    with pytest.raises(UnknownJob):
        store.accept(new(), ANNA, Settled(uploads=(name,)))


def test_uploads_have_limits(stores: Stores) -> None:
    store = stores.open(Limits(upload=100, uploads=250))
    with pytest.raises(TooLarge, match="an upload of 101 bytes is too large: at most 100 are taken"):
        store.upload(b"x" * 101, ANNA)
    first, second = store.upload(b"1" * 100, ANNA), store.upload(b"2" * 100, ANNA)
    store.accept(new(), ANNA, Settled(uploads=(first, first)))
    third = store.upload(b"3" * 100, ANNA)
    with pytest.raises(UnknownJob):
        store.uploaded(second, ANNA)
    store.accept(new(), ANNA, Settled(uploads=(third,)))
    with pytest.raises(
        TooLarge, match="the uploads of your waiting jobs and canvases are too much: at most 250 bytes are kept"
    ):
        store.upload(b"4" * 100, ANNA)
    store.upload(b"4" * 100, BELA)
    store.prune()
    assert len(files(stores.folder)) == 3


def test_uploads_stay_while_a_job_needs_them_and_a_day_longer(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    needed, other = store.upload(b"needed", ANNA), store.upload(b"other", ANNA)
    store.accept(new(), ANNA, Settled(uploads=(needed,)))
    clock.advance(86_399)
    assert store.prune() == 0
    clock.advance(2)
    assert store.prune() == 5
    assert store.uploaded(needed, ANNA) == b"needed"
    with pytest.raises(UnknownJob):
        store.uploaded(other, ANNA)
    store.finish(claim(store).lease)
    assert store.prune() == 6
    assert files(stores.folder) == set()


@pytest.mark.parametrize(("kind", "stays"), [("teach", True), ("generate", False)])
def test_a_training_that_was_stopped_keeps_its_images_as_long_as_its_run(
    stores: Stores, clock: FakeClock, kind: str, stays: bool
) -> None:
    store = stores.open()
    name = store.upload(b"abc", ANNA)
    store.accept(NewJob(kind, {}), ANNA, Settled(uploads=(name,)))
    clock.advance(2 * 86_400)
    store.fail(claim(store).lease, BAD_LUCK)
    clock.advance(86_399)
    assert store.prune() == (0 if stays else 3)
    clock.advance(2)
    assert store.prune() == (3 if stays else 0)


def test_a_training_that_is_done_needs_its_images_no_longer(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    name = store.upload(b"abc", ANNA)
    store.accept(NewJob("teach", {}), ANNA, Settled(uploads=(name,)))
    clock.advance(2 * 86_400)
    store.finish(claim(store).lease)
    assert store.prune() == 3


def test_an_upload_that_is_sent_again_stays_a_day_from_then_on(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    store.upload(b"abc", ANNA)
    clock.advance(86_000)
    store.upload(b"abc", ANNA)
    clock.advance(86_000)
    assert store.prune() == 0
    clock.advance(1000)
    assert store.prune() == 3


def test_a_clock_set_back_removes_no_upload(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    name = store.upload(b"abc", ANNA)
    clock.time -= 10 * 86_400
    store.prune()
    assert store.uploaded(name, ANNA) == b"abc"


def test_a_damaged_upload_is_noticed_and_can_be_sent_again(stores: Stores) -> None:
    store = stores.open()
    store.upload(b"abc", ANNA)
    path = stores.folder / "uploads" / ABC[7:]
    path.write_bytes(b"abd")
    with pytest.raises(StoreFailed, match=f"^{ABC}: was damaged or removed: send it again$") as failed:
        store.uploaded(ABC, ANNA)
    assert failed.value.path == str(path)
    path.unlink()
    with pytest.raises(StoreFailed, match="was damaged or removed: send it again"):
        store.uploaded(ABC, ANNA)
    store.upload(b"abc", ANNA)
    assert store.uploaded(ABC, ANNA) == b"abc"


def test_an_upload_that_is_sent_again_before_its_file_was_removed_stays(stores: Stores, clock: FakeClock) -> None:
    store = stores.open()
    store.upload(b"abc", ANNA)
    store.upload(b"other", ANNA)
    clock.advance(90_000)
    remove = store._history.remove_doomed
    store._history.remove_doomed = lambda: None
    store.prune()
    assert len(files(stores.folder)) == 2
    store.upload(b"abc", BELA)
    remove()
    assert files(stores.folder) == {f"uploads/{ABC[7:]}"}
    assert store.uploaded(ABC, BELA) == b"abc"
    assert stores.killed().uploaded(ABC, BELA) == b"abc"


@pytest.mark.parametrize("obstacle", ["file", "dangling link", "nothing"])
def test_a_folder_that_cannot_be_written(stores: Stores, obstacle: str) -> None:
    """D04: one clear line, and the job can be failed with it."""
    store = stores.open()
    accept(store)
    claimed = claim(store)
    outputs = stores.folder / "outputs"
    outputs.rmdir()
    if obstacle == "file":
        outputs.write_bytes(b"")
    elif obstacle == "dangling link":
        outputs.symlink_to(stores.folder / "nowhere")
    with pytest.raises(StoreFailed, match=r"00000\.png: cannot be written") as failed:
        store.add_image(claimed.lease, picture())
    assert not failed.value.full
    assert str(stores.folder) not in str(failed.value)
    assert located(failed.value).startswith(f"{stores.folder}/outputs/")
    ended = store.fail(claimed.lease, JobError("StoreFailed", str(failed.value)))
    assert ended.state is State.FAILED


def test_the_oldest_jobs_go_first(stores: Stores) -> None:
    """D09: filled to the quota."""
    store = stores.open(Limits(outputs=1000))
    jobs = [done(store, b"%d" % number * 150, b"x" * 150) for number in range(5)]
    waiting = accept(store)
    assert store.prune() == 600
    assert [job.id for job in store.jobs(ANNA)] == [waiting.id, *(job.id for job in reversed(jobs[2:]))]
    assert len(files(stores.folder)) == 6
    for image in jobs[0].images:
        with pytest.raises(UnknownJob):
            store.image(image.id, ANNA)
    assert store.prune() == 0


def test_history_has_a_limit(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_AT_ONCE", 2)
    store = stores.open(Limits(history=3))
    ids = [store.cancel(accept(store, idempotency_key=str(n)).id, ANNA).id for n in range(8)]
    waits = accept(store)
    store.prune()
    assert [job.id for job in store.jobs(ANNA)] == [waits.id, *reversed(ids[-3:])]
    assert accept(store, idempotency_key="0").id not in ids


def test_running_jobs_are_never_pruned(stores: Stores) -> None:
    store = stores.open(Limits(outputs=0, history=0))
    accept(store)
    claimed = claim(store)
    made = store.add_image(claimed.lease, picture())
    assert store.prune() == 0
    assert store.image(made.id, ANNA)[1] == picture().data


def test_only_own_files_are_removed_and_links_are_not_followed(stores: Stores, tmp_path: Path) -> None:
    """D09."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "family.png").write_bytes(b"one")
    store = stores.open(Limits(outputs=0))
    job = done(store, b"one", b"two", b"three")
    outputs = stores.folder / "outputs"
    names = sorted(path.name for path in outputs.iterdir())
    (outputs / "mine.png").write_bytes(b"put here by hand")
    (outputs / "link").symlink_to(outside)
    (outputs / names[0]).unlink()
    (outputs / names[0]).symlink_to(outside / "family.png")
    (outputs / names[1]).unlink()
    (outputs / names[1]).mkdir()
    (outputs / names[1] / "inside.png").write_bytes(b"precious")
    with pytest.raises(StoreFailed, match="was damaged or removed"):
        store.image(job.images[0].id, ANNA)
    with pytest.raises(StoreFailed, match="was damaged or removed"):
        store.image(job.images[1].id, ANNA)
    store.prune()
    stores.killed()
    assert (outside / "family.png").read_bytes() == b"one"
    assert {path.name for path in outputs.iterdir()} == {"mine.png", "link", names[1]}
    assert (outputs / names[1] / "inside.png").read_bytes() == b"precious"


def test_a_link_in_place_of_an_output_is_replaced_not_followed(stores: Stores, tmp_path: Path) -> None:
    """Written by rename: what the link points to keeps its bytes."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    store = stores.open()
    job = accept(store)
    claimed = claim(store)
    (stores.folder / "outputs" / f"{job.id}-00000.png").symlink_to(target)
    made = store.add_image(claimed.lease, picture())
    assert target.read_bytes() == b"precious"
    assert store.image(made.id, ANNA)[1] == picture().data


def test_the_folders_may_be_on_another_disk(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    stores.folder.mkdir()
    (stores.folder / "outputs").symlink_to(tmp_path / "disk")
    store = stores.open()
    job = done(store, b"one")
    assert store.image(job.images[0].id, ANNA)[1] == b"one"
    store.delete(job.id, ANNA)
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_removal_that_was_interrupted_is_finished_at_the_next_opening(stores: Stores) -> None:
    store = stores.open()
    job = done(store, b"one", b"two")
    left = stores.folder / "outputs"
    kept = {path.name: path.read_bytes() for path in left.iterdir()}
    store._history.remove_doomed = lambda: None
    store.delete(job.id, ANNA)
    assert len(files(stores.folder)) == len(kept) == 2
    stores.killed()
    assert files(stores.folder) == set()


def test_the_sweep_removes_what_was_half_written_and_nothing_else(stores: Stores) -> None:
    store = stores.open()
    done_job = done(store, b"listed")
    runs = accept(store)
    claimed = claim(store)
    store.add_image(claimed.lease, picture(0, b"listed too"))
    temporary = ".tmp-" + "0" * 32
    left = [
        f"outputs/{temporary}",
        f"states/{temporary}",
        f"uploads/{temporary}",
        temporary,
        f"outputs/{runs.id}-00001.png",
        f"states/{'a' * 32}",
    ]
    keep = ["outputs/notes.txt", "outputs/.tmp-hand", "uploads/readme", f"outputs/{'b' * 32}-00000.png"]
    for name in (*left, *keep):
        (stores.folder / name).write_bytes(b"?")
    stores.killed()
    assert files(stores.folder) == {
        *keep,
        f"outputs/{done_job.id}-00000.png",
        f"outputs/{runs.id}-00000.png",
    }


def test_an_upload_without_a_row_is_swept_after_a_day(stores: Stores, clock: FakeClock) -> None:
    stores.open()
    old, young = stores.folder / "uploads" / ("a" * 64), stores.folder / "uploads" / ("b" * 64)
    for path, age in ((old, 90_000), (young, 80_000)):
        path.write_bytes(b"x")
        os.utime(path, (clock.time - age, clock.time - age))
    stores.open()
    assert files(stores.folder) == {f"uploads/{young.name}"}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_outputs_follow_the_umask(sqlite_stores: Stores, mask: int) -> None:
    """D07."""
    before = os.umask(mask)
    try:
        done(sqlite_stores.open(), b"one")
        (path,) = (sqlite_stores.folder / "outputs").iterdir()
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    finally:
        os.umask(before)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """D05: a thread lists and reads the folder during hundreds of saves."""
    store = Files(tmp_path)
    store.prepare()
    sizes = [4096 * 5, 4096 * 9]
    stop = threading.Event()
    seen: list[int] = []
    broken: list[str] = []

    def poll() -> None:
        while not stop.is_set():
            for name in store.names("outputs"):
                if not name.startswith(".tmp-"):
                    data = store.read(f"outputs/{name}")
                    seen.append(1)
                    if data is not None and (len(data) not in sizes or len(set(data)) != 1):
                        broken.append(name)

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for number in range(30_000):
            if number >= 300 and len(seen) > 100:  # the reader may be slow to get its turn
                break
            store.write(f"outputs/{number % 7}.png", bytes([number % 251]) * sizes[number % 2], "image")
    finally:
        stop.set()
        reader.join()
    assert broken == []
    assert len(seen) > 100


def test_fifty_writers_never_share_a_name(stores: Stores) -> None:
    """D06."""
    store = stores.open(Limits(queue_per_owner=100))
    made = [accept(store).id for _ in range(50)]
    claims = [claim(store) for _ in made]
    threads = [threading.Thread(target=finish_one, args=(store, claimed)) for claimed in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in store.jobs(ANNA):
        assert job.state is State.DONE
        assert store.image(job.images[0].id, ANNA)[1] == job.id.encode()
    assert len(files(stores.folder)) == 50


def finish_one(store: JobStore, claimed: object) -> None:
    store.add_image(claimed.lease, picture(0, claimed.job.id.encode()))
    store.finish(claimed.lease)


ONE_SAVE = """
import sys
from pathlib import Path
from atelier.runtime.jobs import history
from atelier.runtime.jobs.files import Files
files = Files(Path(sys.argv[1]))
files.prepare()
files.write("outputs/a.png", b"data" * 1000, "image")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (Debian: apt-get install strace)")
def test_the_order_of_system_calls(tmp_path: Path) -> None:
    """D10: the file is synced, then named, then the folder is synced."""
    log = tmp_path / "log"
    traced = ["strace", "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2,openat", "-o", str(log)]
    command = [*traced, sys.executable, "-c", ONE_SAVE, str(tmp_path / "data")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": "src"}, check=False, capture_output=True, text=True)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    outputs = str(tmp_path / "data" / "outputs")
    calls = [re.sub(r"\d+ +", "", line, count=1) for line in log.read_text().splitlines() if outputs in line]
    opened, synced, named, folder, kept = calls
    assert re.match(rf'openat\(.*"{outputs}/\.tmp-[0-9a-f]{{32}}", .*O_CREAT\|O_EXCL', opened)
    assert re.match(rf"fsync\(\d+<{outputs}/\.tmp-[0-9a-f]{{32}}>\) += 0", synced)
    assert re.match(rf'rename\("{outputs}/\.tmp-[0-9a-f]{{32}}", "{outputs}/a.png"\) += 0', named)
    assert re.match(rf'openat\(.*"{outputs}", O_RDONLY', folder)
    assert re.match(rf"fsync\(\d+<{outputs}>\) += 0", kept)
