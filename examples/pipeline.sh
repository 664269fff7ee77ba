#!/usr/bin/env bash
# A library of clips, offline, with the embedded model: watch a folder, ask every file, join the parts of a long one.
#   bash examples/pipeline.sh [FOLDER OF VIDEOS]
set -euo pipefail
videos=${1:-$(dirname "$0")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 1. Watch everything once. Run again, this takes no time: what is up to date is skipped.
v2l ingest "$videos" --output-dir "$work" --quiet
v2l ingest "$videos" --output-dir "$work"

# 2. The same question to every file, one JSON object a line.
for adapter in "$work"/*.v2lora; do
  v2l ask "$adapter" "What happens?" --json | python3 -c '
import json, os, sys
for line in sys.stdin:
    answer = json.loads(line)
    print(os.path.basename(answer["adapter"]) + ":", answer["answer"])'
done

# 3. A long video in parts, joined: the parts keep their place in time.
long=$videos/long.mp4
if [ -e "$long" ]; then
  for start in 0 12 24; do
    v2l ingest "$long" --start "$start" --end $((start + 12)) -o "$work/part-$start.v2lora" --quiet
  done
  v2l compose "$work"/part-*.v2lora -o "$work/whole.v2lora"
  v2l info "$work/whole.v2lora"
  printf '%s\n' "What appears first?" "What appears last?" | v2l ask "$work/whole.v2lora" -
fi
