# The rest of a container's first process: waits for the program $binary and becomes it, with the
# words of $role. $ready is a FIFO that somebody writes a line to as soon as the program is there.
# As the first process a shell ignores TERM unless it traps it, and traps run only during a wait.
trap 'exit 143' TERM

# Waits for a line in the FIFO that is open as 4, at most $1 seconds. One that is written before the
# second look stays in the FIFO. Where there is no sleep, nothing bounds the wait but the pod's own
# deadline. TERM could hit a child that has still the trap of its parent.
listen() {
    sleep "$1" &
    sleeper=$!
    (
        read -r _ <&4
        kill -9 "$sleeper"
    ) &
    reader=$!
    [ -x "$binary" ] || wait "$sleeper" || [ $? -ne 127 ] || wait "$reader"
    kill -9 "$sleeper" "$reader"
    return 0
}

# Not every sleep knows fractions.
nap() {
    { sleep "$1" 2>/dev/null || sleep 1; } &
    wait $!
}

set -- 0.05 0.05 0.1 0.1 0.2 0.5
waited=0
pause=1
until [ -x "$binary" ]; do
    if [ "$waited" -ge @SECONDS@ ]; then
        echo "gantry: nobody brought $binary for @SECONDS@ s (poll_timeout)" >&2
        exit @WITHOUT_PLAN@
    fi
    if [ -p "$ready" ] && { listen "$pause" 4<>"$ready"; } 2>/dev/null; then
        longest=60
    elif [ $# -gt 0 ]; then
        nap "$1"
        shift
        continue
    else
        longest=4
        [ "$pause" -le "$longest" ] || pause=$longest
        nap "$pause"
    fi
    waited=$((waited + pause))
    pause=$((pause * 2))
    [ "$pause" -le "$longest" ] || pause=$longest
done
# shellcheck disable=SC2086
exec "$binary" $role
