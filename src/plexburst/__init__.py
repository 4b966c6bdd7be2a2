"""plexburst: burst Plex indexing to the cloud and bring the database home."""
