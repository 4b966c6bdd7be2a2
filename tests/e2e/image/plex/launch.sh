#!/bin/sh
# What stands under /usr/lib/plexmediaserver with the real names: the simulator's programs.
# The server takes no arguments, as the real one: where its library is comes from the environment.
set -eu
name=${0##*/}
PYTHONPATH=/usr/lib/plexmediaserver/Resources
SANDBOX_BIND=0.0.0.0
export PYTHONPATH SANDBOX_BIND
case $name in
  "Plex Media Server")
    support=${PLEX_MEDIA_SERVER_APPLICATION_SUPPORT_DIR:-$HOME/Library/Application Support}
    exec python3 -P -m sandbox.plex.server --config "${support%/Library/Application Support}" \
      --port "${PLEX_SIM_PORT:-32400}" --bind 0.0.0.0 --name plex ;;
  "Plex Media Scanner") module=scanner ;;
  "Plex Transcoder") module=transcoder ;;
  "Plex Music Analyzer") module=analyzer ;;
  "Plex SQLite") module=sqlite ;;
  *) echo "There is no program $name here." >&2; exit 127 ;;
esac
exec python3 -P -m "sandbox.plex.$module" "$@"
