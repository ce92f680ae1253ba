#!/bin/sh
# Gives a server its secrets and becomes it, so that they never stand in `docker inspect`:
#
#     /mooring/launch COMMAND [ARGUMENT...]
#
# Reads lines from standard input until one that says `run`, then leaves the rest to the command:
#
#     env NAME BASE64    an environment variable
#     file NAME BASE64   the file /run/secrets/NAME, for this user alone
#
# Empty lines mean nothing: a DTMA that takes a container over ends with one whatever line another
# left half written. Only the word starts the server, so that it never runs without its secrets.
# `read` takes one byte at a time from what it cannot seek in, so nothing behind the word is
# swallowed. The names of its own variables cannot be a secret's.
while :; do
  IFS=' ' read -r MOORING_LAUNCH_KIND MOORING_LAUNCH_NAME MOORING_LAUNCH_VALUE || {
    echo 'mooring-launch: standard input ended before the word to run' >&2
    exit 125
  }
  case $MOORING_LAUNCH_KIND:$MOORING_LAUNCH_NAME in
    :) continue ;;
    run:) break ;;
    env:MOORING_LAUNCH_* | env:[0-9]* | env:*[!A-Za-z0-9_]* | env:) ;;
    env:*)
      # The mark keeps the newlines at the end, which $(...) drops.
      MOORING_LAUNCH_VALUE=$(printf %s "$MOORING_LAUNCH_VALUE" | base64 -d && echo .) &&
        export "$MOORING_LAUNCH_NAME=${MOORING_LAUNCH_VALUE%.}" &&
        continue
      ;;
    file:.* | file:*[!A-Za-z0-9_.-]* | file:) ;;
    file:*)
      (umask 377 && printf %s "$MOORING_LAUNCH_VALUE" | base64 -d >"/run/secrets/$MOORING_LAUNCH_NAME") &&
        continue
      ;;
  esac
  echo "mooring-launch: cannot give the secret $MOORING_LAUNCH_NAME" >&2
  exit 125
done
unset MOORING_LAUNCH_KIND MOORING_LAUNCH_NAME MOORING_LAUNCH_VALUE
exec "$@"
