#!/bin/sh -e
curl --connect-timeout 15 --max-time 100 --silent --show-error --fail "http://localhost:32400/identity" >/dev/null
