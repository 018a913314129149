#!/usr/bin/env bash
# The faults of docs/reliability.md at full length: 20 kills at random moments, and a disk that is really full where one may mount it.
set -eu
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
export EOI_KILLS=20 OMP_NUM_THREADS=1
exec bash run.sh pytest tests/faults tests/test_resume.py tests/test_mongo.py "$@"
