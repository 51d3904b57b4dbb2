"""What readers get: plain rows, a module a subject, times UTC ns."""
