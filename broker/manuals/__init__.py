"""The site's own manuals and maintenance logs: from files to passages, into the store, and out again as evidence."""
