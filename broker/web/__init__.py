"""Pages for people: server-rendered fragments, no file from another host."""
