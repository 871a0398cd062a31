#!/bin/sh
# Contract §1.9.
. "${0%/*/*}/cbsd.subr"

destroy
