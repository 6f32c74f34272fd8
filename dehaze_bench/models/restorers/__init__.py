"""Restorers: networks and priors from a hazy image to a clear one, one file each."""
