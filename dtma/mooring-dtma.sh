#!/bin/sh
# Runs the DTMA of a toolbox, and puts another version of it up on trial:
#
#   mooring-dtma run [PROGRAM]       runs it; PROGRAM is the one that came with this launcher
#   mooring-dtma upgrade PROGRAM     puts another one up on trial, and says how that went
#   mooring-dtma version [PROGRAM]   what it is
#   mooring-dtma health              whether it does its work, by the exit code
#
# A program is a bundle, which Deno runs with no more permissions than dtma/main.ts names, or a
# compiled binary. They are kept in $DTMA_DATA_DIR/programs, which DTMA itself may not write:
#
#   current     runs when nothing is on trial; from the first start on there is always one
#   previous    ran before it
#   candidate   is to be tried next
#   trial       is being tried. One that is there at a start had its trial broken off: it failed
#
# A trial is confirmed when DTMA says `ok` in $DTMA_DATA_DIR/status: it has the app's desired set and
# has taken over the containers. One that ends before, or takes too long, is rolled back. Each step is
# one rename, so that this script may be killed, and the power may go, at any moment. DTMA ends when
# this script does, however that ends: its standard input is a pipe that closes then.
set -u

net='' read='' write='' env='' scanner=''
data=${DTMA_DATA_DIR:-/var/lib/mooring-dtma}
programs=$data/programs
# How long a trial may take: an upgrade that has to start all servers anew needs minutes.
trial_s=${DTMA_TRIAL_S:-180}
# DTMA tells of itself with every answer of the app, which come twice a minute.
silent_s=120
export DTMA_DATA_DIR="$data"

say() {
  echo "mooring-dtma: $*" >&2
}

die() {
  say "$*"
  exit 1
}

run() {
  mkdir -p "$programs" || die "$programs cannot be made"
  [ ! -e "$programs/trial" ] || settle
  [ -z "${1-}" ] || take_up "$1"
  name=current
  if [ -e "$programs/candidate" ]; then
    if [ -e "$programs/current" ]; then
      name=trial
      # What was confirmed on trial says so of itself for as long as it runs; that confirms nothing else.
      rm -f "$data/status"
    fi
    mv -f "$programs/candidate" "$programs/$name"
  fi
  [ -e "$programs/current" ] || die "There is no DTMA yet: mooring-dtma upgrade PROGRAM brings one"

  stopping='' reason='' waited_s=0 child=''
  # Before it starts: once it does its work, somebody may ask for its end.
  trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT HUP
  start "$name"
  [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    waited_s=$((waited_s + 1))
    if [ "$name" = trial ]; then
      if is_confirmed "$id"; then
        adopt && name=current
      elif [ "$waited_s" -ge "$trial_s" ] && [ -z "$stopping" ]; then
        reason="It had not taken over after $trial_s seconds"
        end_child
      fi
    elif [ -e "$programs/candidate" ] && [ -z "$stopping" ]; then
      say "Another version is tried"
      end_child
      again "$@"
    fi
  done
  wait "$child"
  code=$?
  if [ "$name" = trial ]; then
    if is_confirmed "$id" && adopt; then
      : # it ended just after
    elif [ -n "$stopping" ]; then
      roll_back "It was stopped before it had taken over"
    else
      roll_back "${reason:-It ended with code $code before it had taken over}"
      again "$@"
    fi
  fi
  if [ "$code" -eq 3 ]; then
    trap '[ "$!" = "$child" ] || kill "$!"; exit 3' TERM INT HUP
    [ -z "$stopping" ] || exit 3
    # The app wants it no more, and Docker would start it again at once, whatever its exit code.
    sleep "${DTMA_UNWANTED_S:-0}" 3>&- &
    wait "$!"
  fi
  exit "$code"
}

# From the beginning, as the files say. The old pipe closes: what still holds on to it ends.
again() {
  # From here on a signal ends this at once; what was asked for before is not forgotten: a candidate is
  # tried at the next start.
  trap - TERM INT HUP
  [ -z "$stopping" ] || exit 0
  exec 3>&-
  exec /bin/sh "$0" run "$@"
}

# NAME
start() {
  pipe=$programs/parent
  rm -f "$pipe"
  mkfifo -m 600 "$pipe" && exec 3<>"$pipe" || die "$pipe cannot be made"
  # Of this start alone: one before, which is about to end, confirms nothing.
  id=$1.$$.$(date +%s)
  DTMA_PARENT=stdin DTMA_RUN=$id DTMA_ROLLED_BACK=$(cat "$programs/rolled-back" 2>/dev/null)
  export DTMA_PARENT DTMA_RUN DTMA_ROLLED_BACK
  execute "$programs/$1" <"$pipe" 3>&- &
  child=$!
}

end_child() {
  kill -TERM "$child" 2>/dev/null
  # Calls under way have 7 s of it for their answers.
  left_s=20
  while kill -0 "$child" 2>/dev/null; do
    [ "$left_s" -gt 0 ] || kill -KILL "$child"
    left_s=$((left_s - 1))
    sleep 1
  done
}

# A trial that was broken off in an earlier run, perhaps just after it was confirmed.
settle() {
  if is_confirmed "trial.*" && adopt; then return; fi
  roll_back "Its trial was broken off"
}

adopt() {
  put "$programs/current" previous && mv -f "$programs/trial" "$programs/current" &&
    sync "$programs" && rm -f "$programs/rolled-back" && say "The new version has taken over"
}

# REASON: goes back to what ran before, and leaves word of it for the app.
roll_back() {
  read_status
  case $as in
  trial.*) set -- "$1${why:+. $why}" ;;
  esac
  version=$(version_of "$programs/trial") || version=unknown
  say "Version $version is rolled back. $1"
  echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $version $1" >"$programs/rolled-back.new" &&
    into_place rolled-back
  rm -f "$programs/trial"
}

# PATTERN: of the start that has to have said so.
is_confirmed() {
  read_status
  case $as in
  $1) [ "$state" = ok ] ;;
  *) return 1 ;;
  esac
}

# Sets what DTMA last said of itself.
read_status() {
  state='' said_s=0 as='' why=''
  [ ! -e "$data/status" ] || read -r state said_s as why <"$data/status" || :
}

# PROGRAM: tried if it is another one than came with the launcher last time.
take_up() {
  sum=$(cksum <"$1") || die "$1 cannot be read"
  [ "$sum" != "$(cat "$programs/shipped" 2>/dev/null)" ] || return 0
  put "$1" candidate && echo "$sum" >"$programs/shipped.new" && into_place shipped
}

# FILE NAME: a copy, there whole or not at all, also when the power goes.
put() {
  cp -- "$1" "$programs/$2.new" && chmod 755 "$programs/$2.new" && into_place "$2" && return
  # A disk that is full must not stay so.
  rm -f "$programs/$2.new"
  return 1
}

into_place() {
  sync "$programs/$1.new" && mv -f "$programs/$1.new" "$programs/$1" && sync "$programs"
}

upgrade() {
  [ -d "$data" ] || die "There is no $data: DTMA_DATA_DIR names DTMA's directory"
  version=$(version_of "$1") || die "$1 is no DTMA, or does not run here"
  mkdir -p "$programs"
  if [ -e "$programs/candidate" ] || [ -e "$programs/trial" ]; then
    die "Another upgrade is under way"
  fi
  before=$(cat "$programs/rolled-back" 2>/dev/null)
  put "$1" candidate || die "It cannot be copied to $programs"
  say "Version $version is tried; servers run on"
  waited_s=0
  while [ -e "$programs/candidate" ] || [ -e "$programs/trial" ]; do
    if [ -e "$programs/candidate" ] && [ "$waited_s" -ge 30 ]; then
      die "DTMA does not run here: $version is tried when it starts"
    fi
    sleep 1
    waited_s=$((waited_s + 1))
  done
  after=$(cat "$programs/rolled-back" 2>/dev/null)
  [ -z "$after" ] || [ "$after" = "$before" ] || die "It was rolled back: ${after#* }"
  say "Version $version runs"
}

# PROGRAM: fails for what is no DTMA, or does not run here.
version_of() {
  said=$(timeout 30 /bin/sh "$0" version "$1" 2>/dev/null </dev/null) || return 1
  case $said in
  "mooring-dtma "[0-9]*) echo "${said#* }" ;;
  *) return 1 ;;
  esac
}

health() {
  read_status
  [ "$state" = ok ] && [ $(($(date +%s) - said_s)) -le "$silent_s" ] && return
  die "${why:-DTMA has not said for $silent_s seconds that it does its work}"
}

# PROGRAM [--version]
execute() {
  program=$1
  shift
  # A compiled binary has its permissions in it.
  [ "$(head -c 4 "$program" | tail -c 3)" != ELF ] || exec "$program" "$@"
  # It tells its version without any.
  [ "$#" -gt 0 ] || permit
  exec "${DTMA_DENO:-deno}" run --quiet --ext=js --no-prompt --no-config --no-lock --no-remote \
    --no-npm --unstable-no-legacy-abort ${net:+"--allow-net=$net"} ${read:+"--allow-read=$read"} \
    ${write:+"--allow-write=$write" "--deny-write=$programs"} ${env:+"--allow-env=$env"} \
    ${scanner:+"--allow-run=$scanner"} \
    "$program" "$@"
}

# Sets what DTMA may do.
permit() {
  socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
  socket=${socket#unix://}
  url=${MOORING_URL-}
  app=${url#*://}
  app=${app%%[/?#]*}
  case ${app##*]} in
  *:*) ;;
  *) [ "$url" = "${url#http:}" ] && app=$app:443 || app=$app:80 ;;
  esac
  net=$app,localhost,unix:$socket
  [ "${DTMA_REACH-}" = tunnel ] || net=$net,${DTMA_LISTEN:-127.0.0.1:0}
  read=$data,$socket
  # DTMA takes spaces beside the commas, and a comma at the end; Deno would take them for paths.
  directories=$(echo "${DTMA_SOURCE_DIRECTORIES-}" | sed 's/[[:space:]]*,[[:space:]]*/,/g; s/,$//')
  for file in "${MOORING_ENROLMENT_TOKEN_FILE-}" "${DTMA_CEILING-}" "${NODE_EXTRA_CA_CERTS-}" \
    "$directories"; do
    [ -z "$file" ] || read=$read,$file
  done
  write=$data,$socket
  scanner=${DTMA_SCANNER-}
  # Not each by name: the next version may read others.
  env='MOORING_*,DTMA_*,NODE_*,PYTHON_*,DOTNET_*,DOCKER_HOST,LOG_FORMAT'
}

case "${1-}:$#" in
run:1 | run:2) shift && run "$@" ;;
upgrade:2) upgrade "$2" ;;
version:1) execute "$programs/current" --version ;;
version:2) execute "$2" --version ;;
health:1) health ;;
*) die "usage: mooring-dtma run [PROGRAM] | upgrade PROGRAM | version [PROGRAM] | health" ;;
esac
