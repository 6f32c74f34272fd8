"""Cost over resolution: time and memory of a network, each size in a process of its own, as table, files and plot."""
