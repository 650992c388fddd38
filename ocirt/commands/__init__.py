"""One module a command, each with run(args, context) -> exit code; cli/table.py says which."""
