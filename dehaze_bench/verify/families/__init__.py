"""One module per published family: what the build arguments of its fixtures mean."""
