#!/bin/sh
# -u, -d or -r: s6-svc's own letters, for the service of Plex. It returns at once and waits for nothing.
if [ $# -ne 1 ]; then
  echo "Give one of -u, -d, -r." >&2
  exit 1
fi
exec s6-svc "$1" /var/run/s6/services/plex
