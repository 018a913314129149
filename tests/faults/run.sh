#!/usr/bin/env bash
# The faults of docs/reliability.md at full length: 100 kills at random moments, disks that are really full or read-only where one may
# mount them, and Ray where it is installed.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export EOI_KILLS=100 OMP_NUM_THREADS=1
exec bash run.sh pytest tests/faults tests/test_resume.py tests/test_mongo.py tests/test_batch.py "$@"
