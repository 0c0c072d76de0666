"""Writes the OpenAPI document of the server to a file: openapi.py FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

from atelier.api.app import app
from atelier.api.service import Service
from atelier.api.settings import Settings


class Nothing:
    """A service that is never called: the document is made of the routes alone."""


def main() -> None:
    document = app(cast("Service", Nothing()), Settings()).openapi()
    Path(sys.argv[1]).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
