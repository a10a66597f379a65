#!/bin/sh
# The main job from end to end, in a throw-away root: each command is printed as it runs, and anything that is not as
# it should be ends the demo with a status other than 0. Nothing is left behind.
set -u
here=$(dirname "$0")
root=$(mktemp -d /tmp/jocker-demo.XXXXXX)
JOCKER_HOST="unix://$root/s"
export JOCKER_HOST
echo 'zroot: ""' >"$root/config.yaml" # no dataset that this machine's own engine may have
engine=""

finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$engine" ]; then
        for container in $(jocker ps -aq 2>/dev/null); do jocker rm -f "$container" >/dev/null; done
        kill "$engine" 2>/dev/null
        wait "$engine" 2>/dev/null
    fi
    if [ "$status" -ne 0 ] && [ -f "$root/engine.log" ]; then
        echo "--- the engine's log:"
        tail -n 40 "$root/engine.log"
    fi
    rm -rf "$root"
    [ -e "$root" ] && { echo "demo: $root could not be removed" >&2; status=1; }
    [ "$status" -eq 0 ] && echo "demo: all as it should be" || echo "demo: FAILED" >&2
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() { echo "demo: $*" >&2; exit 1; }
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@" || fail "'$*' ended with status $?"; }
expect() { # STATUS COMMAND...
    wanted=$1; shift
    say "$@"; "$@"; got=$?
    echo "(exit status $got)"
    [ "$got" -eq "$wanted" ] || fail "'$*' ended with status $got, not $wanted"
}
start_engine() {
    say "jocker-engine --config $root/config.yaml --root $root --socket $root/s &"
    jocker-engine --config "$root/config.yaml" --root "$root" --socket "$root/s" 2>>"$root/engine.log" &
    engine=$!
    tries=0
    until jocker rpc engine.ping >/dev/null 2>&1; do
        kill -0 "$engine" 2>/dev/null || { cat "$root/engine.log" >&2; fail "the engine did not start"; }
        tries=$((tries + 1))
        [ "$tries" -gt 300 ] && fail "the engine does not answer"
        sleep 0.1
    done
}

start_engine
run jocker info
run jocker image create -t base --from-host sh cat sleep true ls
run jocker build -t hello "$here/hello"
say "jocker build -t hello $here/hello   # again: from the cache"
again=$(jocker build -t hello "$here/hello" 2>&1) || fail "the second build failed"
echo "$again"
case $again in *CACHED*CACHED*CACHED*) ;; *) fail "the second build was not served from the cache" ;; esac
say "jocker run --rm hello"
said=$(jocker run --rm hello) || fail "hello failed"
echo "$said"
case $said in *"Hello from a container"*"each one cached"*) ;; *) fail "hello said something else" ;; esac
expect 42 jocker run --rm base sh -c 'exit 42'
run jocker images

run jocker run -d --name ticker base sh -c 'n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo "line $n"; sleep 0.1; done; exit 7'
sleep 1
say "kill -9 $engine   # the engine; the container goes on"
kill -9 "$engine"
wait "$engine" 2>/dev/null
sleep 1
start_engine
run jocker ps
say "jocker wait ticker"
code=$(jocker wait ticker) || fail "wait failed"
echo "$code"
[ "$code" = 7 ] || fail "the exit status is $code, not 7"
say "jocker logs ticker | first and last lines"
lines=$(jocker logs ticker) || fail "logs failed"
echo "$lines" | sed -n '1p;2p;$p'
wanted=$(n=0; while [ $n -lt 60 ]; do n=$((n+1)); echo "line $n"; done)
[ "$lines" = "$wanted" ] || fail "the log is not complete"

run jocker run -d --name sleeper base sh -c 'trap "exit 0" TERM; while true; do sleep 0.1; done'
run jocker exec sleeper sh -c 'echo "inside, as pid $$"'
run jocker stop -t 5 sleeper
run jocker ps -a
run jocker rm sleeper ticker
run jocker system tree
say "kill $engine   # SIGTERM: an orderly stop"
kill "$engine"
wait "$engine" || fail "the engine ended with status $?"
engine=""
if [ -r /proc/mounts ] && grep -q " $root/" /proc/mounts; then fail "mounts are left"; fi
