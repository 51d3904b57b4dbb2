"""Commands of people: from what somebody asks for to an entry of the stream."""

from broker.commands.files import folder, put, read, settle, waiting
from broker.commands.request import after, end, maintenance, shelve

__all__ = ["after", "end", "folder", "maintenance", "put", "read", "settle", "shelve", "waiting"]
