"""Simulators that plexburst runs against by default: Scaleway's API, machines, plex.tv, Plex Media Server and S3."""
