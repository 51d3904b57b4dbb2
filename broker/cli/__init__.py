"""The command line: one module per group of commands; everything heavy is imported by the command that needs it."""
