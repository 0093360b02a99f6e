#!/usr/bin/env bash
# What is to be known on a machine with an NVIDIA GPU, in one call and some eight minutes: does everything compute what it should, how
# fast is it, and how fast is PyTorch at the same work, alternated. Builds nothing. Everything goes into FOLDER; a short table comes last.
#
#   benches/gpu.sh FOLDER
#
# KDENGINE     the binary [kdengine]              KDENGINE_DATA  the folder of the data sets; without MNIST in it, no notebook
# KD_DEVICE    the device [cuda:0]                KD_GOLDEN      reference fixtures for `kdengine conformance`
# KD_ROUNDS    alternated rounds [2]              KD_PEER        a program that times the same cases with PyTorch and prints JSON lines:
#                                                                KD_PEER steps|losses|convs|notebook --device cuda [--compile|--tf32|--bf16]
set -uo pipefail
out=${1:?name a folder for the results}
kdengine=${KDENGINE:-kdengine} device=${KD_DEVICE:-cuda:0} rounds=${KD_ROUNDS:-2}
mkdir -p "$out"
table=$out/table.txt
: > "$table"

# One line of the table: what was done, whether it went well, in how many seconds; what it printed is in FOLDER/NAME.txt.
step() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  echo "== $name: $*"
  if timeout "$limit" "$@" > "$out/$name.txt" 2>&1; then local how=ok; else local how="FAILED ($?)"; fi
  printf '%-34s %-14s %4d s   %s\n' "$name" "$how" $((SECONDS - start)) \
    "$(tail -n 1 "$out/$name.txt" | grep -v '^{' | cut -c 1-120)" >> "$table"
}

step doctor 60 "$kdengine" doctor
if [ -n "${KD_GOLDEN:-}" ]; then
  step conformance 120 "$kdengine" conformance "$KD_GOLDEN" --device "$device" --strict
fi
small=(--device "$device" --data digits --train-limit 256 --batch-size 64 --teacher-model cnn-bn-8-16-fc32 --student-model cnn-4-fc16
  --epochs 2 --teacher-epochs 2 --sweep-epochs 2 --sweep-temperatures 2,4 --method hinton,at)
for how in graph plain; do
  rm -rf "$out/sweep-$how"
  KDENGINE_LAUNCH=$how step "sweep-$how" 60 "$kdengine" sweep "${small[@]}" --out "$out/sweep-$how"
done
step graphs-have-the-same-bits 10 cmp "$out/sweep-graph/jobs/sweep-t4/model.safetensors" "$out/sweep-plain/jobs/sweep-t4/model.safetensors"
# Products by four warps (compute capability 9.0): a message where their bits are not the others', then the times of both.
wide=(--device "$device" --precision tf32 --data digits --train-limit 256 --batch-size 64 --teacher-model cnn-16-64-96-fc32 --epochs 1
  --teacher-epochs 1 --student-model cnn-4-fc16)
for wgmma in on off; do
  rm -rf "$out/wgmma-$wgmma"
  KDENGINE_WGMMA=$wgmma step "wgmma-$wgmma" 60 "$kdengine" train "${wide[@]}" --out "$out/wgmma-$wgmma"
done
step wgmma-has-the-same-bits 10 cmp "$out/wgmma-on/jobs/teacher/model.safetensors" "$out/wgmma-off/jobs/teacher/model.safetensors"
if command -v compute-sanitizer > /dev/null; then
  rm -rf "$out/sanitized"
  step sanitizer 180 compute-sanitizer --error-exitcode 3 "$kdengine" train "${small[@]:0:6}" --teacher-model cnn-4-fc16 \
    --batch-size 64 --epochs 1 --teacher-epochs 1 --out "$out/sanitized"
fi

if [ -n "${KDENGINE_DATA:-}" ] && [ -d "$KDENGINE_DATA/mnist" ]; then
  for precision in tf32 f32 bf16; do
    rm -rf "$out/notebook-$precision"
    step "notebook-$precision" 120 "$kdengine" run --data mnist --device "$device" --precision $precision --seeds 1 \
      --out "$out/notebook-$precision"
  done
fi

# FOLDER/ours-SUITE-PRECISION.txt and FOLDER/peer-SUITE-PRECISION.txt, one after the other in each round; the last round counts.
peer() {
  local job=$1 precision=$2
  shift 2
  [ -n "${KD_PEER:-}" ] && step "peer-$job-$precision" 120 $KD_PEER "$job" --device cuda "$@"
}
for ((round = 1; round <= rounds; round++)); do
  peer steps compiled --compile
  peer steps f32
  peer losses f32
  peer convs f32
  peer convs tf32 --tf32
  peer convs bf16 --bf16
  for precision in f32 tf32 bf16 f16; do
    step "ours-steps-$precision" 60 "$kdengine" bench step --device "$device" --precision $precision --json
    step "ours-convs-$precision" 60 "$kdengine" bench kernels --device "$device" --precision $precision --filter conv --json
  done
  for precision in tf32 bf16 f16; do
    KDENGINE_WGMMA=on step "ours-convs-wgmma-$precision" 60 "$kdengine" bench kernels --device "$device" --precision $precision \
      --filter conv --json
  done
  KDENGINE_WINOGRAD=off step ours-convs-direct-f32 60 "$kdengine" bench kernels --device "$device" --filter conv --json
  KDENGINE_LAUNCH=plain step ours-steps-plain 60 "$kdengine" bench step --device "$device" --precision tf32 --json
  step ours-losses-f32 60 "$kdengine" bench loss --device "$device" --json
done
step profile 60 "$kdengine" bench step --device "$device" --precision tf32 --profile

# Each case and its median, whatever the order of a line's fields.
medians() {
  sed -n 's/^.*"what": *"\([^"]*\)".*$/\1 &/p' "$out/$1.txt" | sed 's/ .*"median_ms": *\([0-9.e-]*\).*/ \1/'
}

# The ratio of each case, theirs to ours, where both have it.
ratios() {
  [ -f "$out/$2.txt" ] && [ -f "$out/$1.txt" ] || return 0
  echo "-- $2 / $1"
  awk 'NR == FNR { ours[$1] = $2; next } $1 in ours { printf "%-44s %9.4f ms  %6.2f\n", $1, ours[$1], $2 / ours[$1] }' \
    <(medians "$1") <(medians "$2")
}
{
  ratios ours-steps-tf32 peer-steps-f32
  ratios ours-steps-tf32 peer-steps-compiled
  ratios ours-steps-tf32 ours-steps-plain
  ratios ours-losses-f32 peer-losses-f32
  for precision in f32 tf32 bf16; do ratios "ours-convs-$precision" "peer-convs-$precision"; done
  ratios ours-convs-f16 ours-convs-bf16
  ratios ours-convs-f32 ours-convs-direct-f32
  for precision in tf32 bf16 f16; do ratios "ours-convs-wgmma-$precision" "ours-convs-$precision"; done
} >> "$table"
echo
cat "$table"
! grep -q FAILED "$table"
