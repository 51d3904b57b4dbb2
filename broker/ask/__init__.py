"""Questions: words to a typed query (:mod:`broker.ask.parse`), the query to an answer that cites what it rests on."""
