# For link-in-order and list-functions, which must agree on it: a function for awk that takes off a
# name the hash with which Rust ends it, and by which functions of one name are told apart.
# shellcheck shell=sh disable=SC2034 # those that read this use it
PLAIN='function plain(name) { return substr(name, length(name) - 18) ~ /^::h[0-9a-f]+$/ ? substr(name, 1, length(name) - 19) : name }'
