"""The core process: journal to SQL in one writer thread, with API, pages and reasoning around it."""
