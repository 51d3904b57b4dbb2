"""Ground floor: data only. numpy, pydantic and msgspec; no I/O, no asyncio, no logging."""
