"""The recurrences: each a plain reference and fast twins behind one custom op that torch can trace and count."""
