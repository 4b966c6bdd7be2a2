"""plexburst: burst Plex indexing to the cloud and download the database to home."""
