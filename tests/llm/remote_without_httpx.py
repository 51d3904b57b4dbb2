"""The process that speaks to a model server, where httpx is missing: ``python -m tests.llm.remote_without_httpx``."""

from __future__ import annotations

import sys

from llm.remote import main

if __name__ == "__main__":
    sys.modules["httpx"] = None  # type: ignore[assignment]
    main()
