#!/bin/sh
# The package's own user, then its unit; in an image neither user nor systemd is wanted from here.
set -e
[ "$1" = configure ] || exit 0
if ! getent passwd plex >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/plexmediaserver --shell /usr/sbin/nologin plex
fi
home=$(getent passwd plex | cut -d: -f6)
if [ "$home" = /var/lib/plexmediaserver ]; then
  install -d -o plex -g plex -m 0755 /var/lib/plexmediaserver
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable plexmediaserver.service
  systemctl start plexmediaserver.service
fi
