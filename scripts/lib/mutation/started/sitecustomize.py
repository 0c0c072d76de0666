"""Python imports this at its start: measures a process that a test has started. See mutation/recorder.py."""

from __future__ import annotations

import os

if "MUTATE_TEST" in os.environ:
    import coverage

    coverage.Coverage(
        data_file=os.environ["MUTATE_RECORD"] + "/started",
        data_suffix=True,
        auto_data=True,
        config_file=False,
        include=[os.environ["MUTATE_SOURCES"] + "/*"],
        context=os.environ["MUTATE_TEST"],
        messages=False,
        check_preimported=False,
    ).start()
