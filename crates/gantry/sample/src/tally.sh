#!/bin/sh
# tally: counts the words of a text and prints the most frequent ones first.
#
#   tally [-n LINES] [FILE...]
#   tally --version
#
# TODO: count words with accents too.
set -eu

lines=10
case "${1:-}" in
  --version) echo "tally @VERSION@"; exit 0 ;;
  -n) lines=$2; shift 2 ;;
esac

cat -- "$@" |
  tr '[:upper:]' '[:lower:]' |
  tr -cs '[:alpha:]' '\n' |
  awk 'NF { count[$1]++ } END { for (word in count) print count[word], word }' |
  sort -k1,1nr -k2 |
  sed "${lines}q"
