"""One module per published family: its tensor names -> ours."""
