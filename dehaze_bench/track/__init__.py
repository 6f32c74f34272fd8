"""Where a run reports to while it works: the terminal, `metrics.jsonl`, W&B. Local files remain the truth."""
