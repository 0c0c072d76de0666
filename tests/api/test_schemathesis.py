"""H01: schemathesis over the whole OpenAPI document, with all its checks, over a real socket and a real gallery."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from atelier.api.album import StoredAlbum
from atelier.runtime.jobs.job import Owner
from atelier.runtime.jobs.store import JobStore
from atelier.runtime.workers.feed import Feed
from fakes.album import fill, said
from fakes.client import bearer, keyed
from fakes.live import live
from fakes.service import FakeService

CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_no_request_breaks_the_server_or_the_schema(tmp_path: Path) -> None:
    store = JobStore.open(tmp_path / "data")
    fill(store, Owner("root"), said("a red apple"), said("a pear"))
    with closing(store), live(FakeService(kept_album=StoredAlbum(store, Feed())), keyed()) as url:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", url + "/openapi.json", "--checks", "all", "--no-color", "--request-timeout", "20"),
            *("--header", f"Authorization: {bearer('root')['Authorization']}"),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=1200)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
    selected = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", told.stdout)
    assert selected is not None
    assert len(set(selected.groups())) == 1, "some operations were not tested"
