"""homeport in the background without containers: as a process of its own, or as a systemd user unit."""
