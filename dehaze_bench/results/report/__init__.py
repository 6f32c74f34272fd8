"""The report: runs as one folder of static pages that opens from the disk, without a network and without a server."""
