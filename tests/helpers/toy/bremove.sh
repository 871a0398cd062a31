#!/bin/sh
# docs/cbsd.md#wipes.
. "${0%/*/*}/cbsd.subr"

destroy
