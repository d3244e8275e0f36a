# Run by the manager in the helper container:
#   sh -c <this> gantry-attach PROTOCOL PUSHED MANAGER_SOCKET READY
# Ends up as a bridge between standard input and output and the agent. Until then it says one line,
# see the words below.
pushed=$2
ready=$4

fail() {
    # Unquoted on purpose: a message of several lines becomes one.
    set -f
    printf '@EXEC_FAILURE@'
    printf ' %s' $*
    printf '\n'
    exit 1
}

cannot_start() {
    fail "the helper cannot be started from $temporary, a noexec volume perhaps: $1"
}

# Wakes the container's first process if it waits for the pushed helper, and becomes a bridge. The
# FIFO is opened for both, because one without a reader cannot be opened for writing alone.
bridge_of_pushed() {
    [ -p "$ready" ] && echo 1<>"$ready"
    exec "$pushed" bridge
}

# An agent runs already: any helper can be the bridge to it, and the one it was started from fits it
# best.
if [ -S "$3" ]; then
    [ -x "$pushed" ] && exec "$pushed" bridge
    command -v gantry-helper >/dev/null 2>&1 && exec gantry-helper bridge
fi

if command -v gantry-helper >/dev/null 2>&1 && gantry-helper fits "$1" </dev/null >/dev/null 2>&1; then
    exec gantry-helper bridge
fi
[ -x "$pushed" ] && bridge_of_pushed

machine=$(uname -m) || fail 'uname -m does not work in this image'
forms=plain
command -v gzip >/dev/null 2>&1 && forms='plain gzip'
printf '@PUSH_REQUEST@ %s %s\n' "$machine" "$forms"
# With a third word something small comes first, which unpacks so many bytes that come behind it.
read -r size form packed || exit 1

# Other attempts may run at the same time: each writes a file of its own, and the last step is one
# rename.
temporary=$pushed.$$
trap 'rm -f "$temporary"' EXIT
if [ "$form" = gzip ]; then
    # gzip knows by itself whether all of it has come.
    problem=$({ head -c "$size" | gzip -dc >"$temporary"; } 2>&1) || fail "cannot unpack the helper to $temporary: $problem"
else
    problem=$(head -c "$size" 2>&1 >"$temporary") || fail "cannot write the helper to $temporary: $problem"
    written=$(wc -c <"$temporary") || fail "cannot read $temporary"
    [ "$written" -eq "$size" ] || fail "only $written of $size bytes of the helper arrived in $temporary"
fi
chmod 755 "$temporary" || fail "cannot make $temporary executable"
if [ -n "$packed" ]; then
    # Only now: `head` may have read more than it was told to.
    echo @PUSH_CONTINUE@
    # Replaces itself by the helper, and moves that into its place. That it starts here shows that
    # the helper will.
    problem=$("$temporary" "$packed" "$temporary" "$pushed" 2>&1)
    case $? in
    0) ;;
    1) fail "$problem" ;;
    *) cannot_start "$problem" ;;
    esac
else
    problem=$("$temporary" --version 2>&1 </dev/null) || cannot_start "$problem"
    mv -f "$temporary" "$pushed" || fail "cannot put the helper in place as $pushed"
fi
trap - EXIT
bridge_of_pushed
