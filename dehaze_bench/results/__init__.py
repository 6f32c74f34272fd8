"""Results are files; tables are queries over them. Nothing here imports torch."""
