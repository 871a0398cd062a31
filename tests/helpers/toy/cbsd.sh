#!/bin/sh
# cbsd(8), for which of several workdirs the caller's environment says.
command=$1
shift
exec "${0%/bin/cbsd}/usr/local/cbsd/sudoexec/$command" "$@"
