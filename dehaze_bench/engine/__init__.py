"""The engine: loop, state, evaluation, schedules, losses, signals. It knows no model and no data set by name."""
