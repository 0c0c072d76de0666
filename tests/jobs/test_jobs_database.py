"""The database: durable, migrated, examined, set aside where it is damaged, and of one server at a time."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from atelier.errors import BadFile, BadInput
from atelier.runtime.jobs.database import Database, place
from atelier.runtime.jobs.faults import NO_FAULTS
from atelier.runtime.jobs.job import FolderInUse, Job, State, StoreFailed, located
from atelier.runtime.jobs.opening import migrations, opened
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.jobs.tables import metadata
from job_support import ANNA, FakeClock, Postgres, Stores, accept, claim, files, picture

HEAD = "0003"


def test_sqlite_is_set_so_that_a_commit_survives_a_power_failure(tmp_path: Path, disk: None) -> None:
    database, notices = opened(place(tmp_path, None), NO_FAULTS)
    assert notices == []
    with database.read() as connection, database.write() as writer:
        for used in (connection, writer):
            assert used.scalar(text("PRAGMA journal_mode")) == "wal"
            assert used.scalar(text("PRAGMA synchronous")) == 2  # FULL, as sqlite.org/pragma.html says
            assert used.scalar(text("PRAGMA foreign_keys")) == 1
            assert used.scalar(text("PRAGMA busy_timeout")) == 5000
    database.close()


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    database, _ = opened(place(tmp_path, None), NO_FAULTS)
    with database.write() as writer:
        writer.execute(text("INSERT INTO doomed VALUES ('a')"))
        with database.read() as reader:
            assert reader.scalar(text("SELECT count(*) FROM doomed")) == 0
    with database.read() as reader:
        assert reader.scalar(text("SELECT count(*) FROM doomed")) == 1
    database.close()


def test_a_transaction_that_fails_changes_nothing(stores: Stores) -> None:
    database = stores.open()._parts.database
    add = text("INSERT INTO doomed VALUES ('a')")

    def fails(error: type[Exception]) -> None:
        with database.write() as writer:
            writer.execute(add)
            if error is StoreFailed:
                writer.execute(add)
            raise error

    for error in (ZeroDivisionError, StoreFailed):
        with pytest.raises(error):
            fails(error)
    with database.read() as reader:
        assert reader.scalar(text("SELECT count(*) FROM doomed")) == 0


def test_the_migrated_schema_is_that_of_the_tables(stores: Stores) -> None:
    database = stores.open()._parts.database
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        assert {c["name"] for c in found.get_check_constraints("jobs")} == {"ck_jobs_state"}
        for table in ("images", "needs", "keys", "thumbnails"):
            assert {key["options"].get("ondelete") for key in found.get_foreign_keys(table)} == {"CASCADE"}


def test_only_known_states_are_stored(stores: Stores) -> None:
    store = stores.open()
    accept(store)
    for state in State:
        with store._parts.database.write() as connection:
            connection.execute(text("UPDATE jobs SET state = :state"), {"state": state.value})
    with pytest.raises(StoreFailed), store._parts.database.write() as connection:
        connection.execute(text("UPDATE jobs SET state = 'odd'"))


def test_migrations_are_one_line_that_ends_at_the_newest() -> None:
    script = ScriptDirectory.from_config(migrations())
    assert script.get_heads() == [HEAD]
    assert [revision.revision for revision in script.walk_revisions()][-1] == "0001"


def test_a_newer_schema_is_refused_and_left_alone(stores: Stores) -> None:
    store = stores.open()
    job = accept(store)
    with store._parts.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadFile, match=r"was written by a newer Atelier \(schema 9999\): use that one, or another"):
        stores.open()
    database = Database(place(stores.folder, stores.url))
    with database.write() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{HEAD}'"))
    database.close()
    assert stores.open().job(job.id, ANNA) == job


def test_two_servers_cannot_have_one_folder(stores: Stores) -> None:
    """C12."""
    stores.open()
    with pytest.raises(
        FolderInUse, match=r"data: another server \(process \d+\) keeps its jobs here: stop it, or choose"
    ):
        JobStore.open(stores.folder, stores.url)
    stores.open()


SECOND = """
import sys
import threading
from pathlib import Path
from atelier.errors import AtelierError
from atelier.runtime.jobs.store import JobStore
try:
    JobStore.open(Path(sys.argv[1])).close()
except AtelierError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_second_process_is_refused_and_a_killed_one_is_not_in_the_way(sqlite_stores: Stores) -> None:
    sqlite_stores.open()
    command = [sys.executable, "-c", SECOND, str(sqlite_stores.folder)]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "keeps its jobs here: stop it" in refused.stdout
    sqlite_stores.close()
    assert subprocess.run(command, check=False).returncode == 0


def test_two_folders_cannot_have_one_postgresql_database(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.empty()
    store = JobStore.open(tmp_path / "a", postgres.url)
    with monkeypatch.context() as hurried:
        hurried.setattr("atelier.runtime.jobs.database.PATIENCE", 0.3)
        with pytest.raises(FolderInUse, match="another server keeps its jobs here: stop it, or take another database"):
            JobStore.open(tmp_path / "b", postgres.url)
    store.close()
    JobStore.open(tmp_path / "b", postgres.url).close()


def test_a_server_that_is_about_to_go_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    """PostgreSQL takes a moment to see that a client was killed."""
    postgres.empty()
    store = JobStore.open(tmp_path / "a", postgres.url)
    going = threading.Timer(0.5, store.close)
    going.start()
    JobStore.open(tmp_path / "b", postgres.url).close()
    going.join()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root@localhost/jobs", "mysql: jobs are kept in sqlite:///FILE or postgresql://..., nothing else"),
        ("sqlite://", "sqlite: jobs are kept in sqlite:///FILE"),
        ("no URL", "the URL of the database cannot be read: write sqlite:///FILE or postgresql://..."),
    ],
)
def test_other_databases_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message.replace(".", r"\.")):
        JobStore.open(tmp_path, url)
    JobStore.open(tmp_path).close()


def test_a_file_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        store = JobStore.open(tmp_path / "data", f"sqlite:///{tmp_path / 'own file.db'}")
        store.close()
    assert (tmp_path / "own file.db").stat().st_size > 0
    assert not (tmp_path / "data" / "jobs.sqlite3").exists()


def test_a_postgresql_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed) as refused:
        JobStore.open(tmp_path, f"postgresql://somebody:secret@/jobs?host={tmp_path}")
    told = located(refused.value)
    assert "secret" not in told
    assert "somebody" in told
    assert "\n" not in told


def test_a_postgresql_that_restarts(postgres: Postgres, tmp_path: Path) -> None:
    postgres.empty()
    store = JobStore.open(tmp_path, postgres.url)
    job = accept(store)
    postgres.restart()
    assert store.job(job.id, ANNA) == job
    accept(store)
    store.close()


# C09: damage.


def with_history(stores: Stores) -> tuple[Job, bytes]:
    """A database of some pages, with a job that was done, closed properly; the job and the file."""
    store = stores.open()
    accept(store)
    claimed = claim(store)
    store.add_image(claimed.lease, picture())
    done = store.finish(claimed.lease)
    for number in range(12):
        accept(store, prompt=f"{number} " + "long " * 300)
    stores.close()
    return done, (stores.folder / "jobs.sqlite3").read_bytes()


def check_it_works(stores: Stores) -> JobStore:
    """A store opens, takes a job, does it, and keeps it."""
    store = stores.open()
    notices = store.notices
    job = accept(store, prompt="after")
    while (claimed := store.claim("w")) is not None and claimed.job.id != job.id:
        store.finish(claimed.lease)
    assert claimed is not None
    store.add_image(claimed.lease, picture(0, b"after"))
    done = store.finish(claimed.lease)
    store = stores.open()
    assert store.notices == ()
    assert store.job(job.id, ANNA) == done
    store.notices = notices
    return store


@pytest.mark.parametrize("size", [1, 50, 100, 4096, 5000, 3 * 4096, -4096, -1])
def test_a_truncated_database_is_set_aside(sqlite_stores: Stores, size: int) -> None:
    done, data = with_history(sqlite_stores)
    path = sqlite_stores.folder / "jobs.sqlite3"
    path.write_bytes(data[:size])
    (notice,) = check_it_works(sqlite_stores).notices
    assert notice.startswith("THE DATABASE OF JOBS WAS DAMAGED (")
    assert f"It was kept as {path}.damaged-1, and a new one begun" in notice
    assert path.with_name("jobs.sqlite3.damaged-1").read_bytes() == data[:size]
    assert (sqlite_stores.folder / f"outputs/{done.id}-00000.png").read_bytes() == picture().data


def test_damage_in_a_row_of_times_keeps_every_file(sqlite_stores: Stores) -> None:
    with_history(sqlite_stores)
    path = sqlite_stores.folder / "jobs.sqlite3"
    for number in (1, 2, 3):
        path.write_bytes(b"garbage %d" % number * 1000)
        (notice,) = sqlite_stores.open().notices
        assert f"damaged-{number}" in notice
        sqlite_stores.close()


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes(sqlite_stores: Stores, seed: int) -> None:
    """Damage is found at opening, or a job of which the text changed is not run; the server starts in any case."""
    done, data = with_history(sqlite_stores)
    draw = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 3, 40])):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    (sqlite_stores.folder / "jobs.sqlite3").write_bytes(damaged)
    store = sqlite_stores.open()
    assert all(notice.startswith("THE DATABASE OF JOBS WAS DAMAGED") for notice in store.notices)
    while (claimed := store.claim("w")) is not None:
        prompt = str(claimed.job.asked["prompt"])
        assert prompt == prompt.split(maxsplit=1)[0] + " " + "long " * 300
        store.finish(claimed.lease)
    check_it_works(sqlite_stores)
    assert (sqlite_stores.folder / f"outputs/{done.id}-00000.png").read_bytes() == picture().data


def test_a_job_that_was_damaged_fails_and_the_next_one_runs(stores: Stores) -> None:
    store = stores.open()
    damaged, other = accept(store, prompt="a cat"), accept(store, prompt="a dog")
    with store._parts.database.write() as connection:
        connection.execute(text("UPDATE jobs SET asked = replace(asked, 'cat', 'cap')"))
    assert claim(store).job.id == other.id
    failed = store.job(damaged.id, ANNA)
    assert failed.state is State.FAILED
    assert failed.error is not None
    assert failed.error.message == "the job was damaged in the database: send it again"


def test_a_missing_journal_is_told(sqlite_stores: Stores) -> None:
    """The newest jobs were only in it; after a proper end there is none."""
    store = sqlite_stores.open()
    accept(store)
    copy = sqlite_stores.folder.with_name("copy")
    shutil.copytree(sqlite_stores.folder, copy)
    (copy / "jobs.sqlite3-wal").unlink()
    killed = JobStore.open(copy)
    assert killed.notices == (
        f"THE JOURNAL OF THE DATABASE OF JOBS IS GONE: {copy}/jobs.sqlite3-wal. The newest jobs may be lost",
    )
    killed.close()


def test_a_damaged_journal_loses_no_more_than_itself(sqlite_stores: Stores) -> None:
    store = sqlite_stores.open()
    first = accept(store)
    with store._parts.database.read() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    accept(store)
    copy = sqlite_stores.folder.with_name("copy")
    shutil.copytree(sqlite_stores.folder, copy)
    wal = copy / "jobs.sqlite3-wal"
    data = bytearray(wal.read_bytes())
    data[40] ^= 255
    wal.write_bytes(data)
    killed = JobStore.open(copy)
    assert [job.id for job in killed.jobs(ANNA)] == [first.id]
    killed.close()


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_database_that_is_gone_is_told(sqlite_stores: Stores, how: str) -> None:
    store = sqlite_stores.open()
    accept(store)
    copy = sqlite_stores.folder.with_name("copy")
    shutil.copytree(sqlite_stores.folder, copy)
    for path in copy.glob("jobs.sqlite3*"):
        path.unlink()
    if how == "emptied":
        (copy / "jobs.sqlite3").touch()
    killed = JobStore.open(copy)
    assert killed.notices == (
        f"THE DATABASE OF JOBS IS GONE: {copy}/jobs.sqlite3. A new one is begun; images are untouched",
    )
    killed.close()


def test_a_locked_database_is_no_damage(sqlite_stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    with_history(sqlite_stores)
    path = sqlite_stores.folder / "jobs.sqlite3"
    monkeypatch.setattr("atelier.runtime.jobs.opening.PATIENCE", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreFailed, match="database is locked"):
            sqlite_stores.open()
    assert len(sqlite_stores.open().jobs(ANNA)) == 13


def test_a_folder_in_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").mkdir()
    with pytest.raises(StoreFailed, match="Is a directory"):
        JobStore.open(tmp_path)


def test_a_clean_opening_has_nothing_to_tell(sqlite_stores: Stores, clock: FakeClock) -> None:
    with_history(sqlite_stores)
    store = sqlite_stores.open()
    assert store.notices == ()
    assert len(files(sqlite_stores.folder)) == 1
    assert clock.now() > 0


def test_an_older_database_is_copied_before_it_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """V01: with a migration that does not exist yet."""
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(str(migrations().get_main_option("script_location"))), scripts)
    stores = Stores(tmp_path / "data", None, FakeClock())
    job = accept(stores.open())
    stores.close()
    (scripts / "versions" / "v9000_more.py").write_text(
        f'import sqlalchemy as sa\nfrom alembic import op\nrevision = "9000"\ndown_revision = "{HEAD}"\n'
        'def upgrade():\n    op.create_table("more", sa.Column("x", sa.Text()))\n'
    )
    newer = migrations()
    newer.set_main_option("script_location", str(scripts))
    monkeypatch.setattr("atelier.runtime.jobs.opening.migrations", lambda: newer)
    store = stores.open()
    assert store.job(job.id, ANNA) == job
    with store._parts.database.read() as connection:
        assert inspect(connection).has_table("more")
    with closing(sqlite3.connect(tmp_path / "data" / f"jobs.sqlite3.schema-{HEAD}")) as copy:
        assert copy.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
    assert not list((tmp_path / "data").glob(".tmp-*"))
    stores.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(str(migrations().get_main_option("script_location"))), scripts)
    stores = Stores(tmp_path / "data", None, FakeClock())
    job = accept(stores.open())
    stores.close()
    script = scripts / "versions" / "v9000_more.py"
    script.write_text(
        f'import sqlalchemy as sa\nfrom alembic import op\nrevision = "9000"\ndown_revision = "{HEAD}"\n'
        'def upgrade():\n    op.create_table("more", sa.Column("x", sa.Text()))\n'
        '    raise OSError(28, "No space left")\n'
    )
    with monkeypatch.context() as patch:
        newer = migrations()
        newer.set_main_option("script_location", str(scripts))
        patch.setattr("atelier.runtime.jobs.opening.migrations", lambda: newer)
        with pytest.raises(StoreFailed, match="No space left") as failed:
            stores.open()
        assert failed.value.full
    store = stores.open()
    assert store.job(job.id, ANNA) == job
    with store._parts.database.read() as connection:
        assert not inspect(connection).has_table("more")
    stores.close()
