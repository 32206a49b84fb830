"""What people and programs see and say: control socket, command line, tables, metrics."""
