"""Commands of people: from what somebody asks for to an entry of the stream."""

from broker.commands.files import folder, put, read, settle, waiting
from broker.commands.request import end, maintenance, shelve

__all__ = ["end", "folder", "maintenance", "put", "read", "settle", "shelve", "waiting"]
