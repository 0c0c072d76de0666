"""HTTP: what other programs speak. One service behind every dialect; no torch in this process."""
