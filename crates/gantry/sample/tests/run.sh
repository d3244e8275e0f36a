#!/bin/sh
# Tests of tally: run.sh TALLY BOOK. Prints one line for each test, then a summary.
tally=$1
book=$2
passed=0
failed=0

# check NAME EXPECTED COMMAND...
check() {
  name=$1
  expected=$2
  shift 2
  actual=$("$@" 2>&1)
  if [ "$actual" = "$expected" ]; then
    passed=$((passed + 1))
    echo "ok      $name"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s\n  expected: %s\n  actual:   %s\n' "$name" "$expected" "$actual"
  fi
}

empty=$(mktemp)
check "the most frequent word comes first" "4 the" sh "$tally" -n 1 "$book"
check "ties are in alphabetical order" "4 the
2 cat
2 on
2 sat" sh "$tally" -n 4 "$book"
check "several files are counted together" "8 the" sh "$tally" -n 1 "$book" "$book"
check "an empty text has no words" "" sh "$tally" "$empty"
rm -f "$empty"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
