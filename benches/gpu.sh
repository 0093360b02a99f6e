#!/usr/bin/env bash
# What is to be known on a machine with an NVIDIA GPU, in one call and at most KD_SECONDS: does everything compute what it should, how
# fast is it, and how fast is PyTorch at the same work, alternated. Builds nothing. What matters most comes first; what there is no time
# for is skipped, and said. A short table is printed last, however the run ends.
#
#   benches/gpu.sh FOLDER        FOLDER/table.txt, FOLDER/ratios.txt (case by case) and FOLDER/outputs.tar.gz (all that was printed)
#
# KDENGINE     the binary [kdengine]              KDENGINE_DATA  the folder of the data sets; without MNIST in it, no notebook
# KD_DEVICE    the device [cuda:0]                KD_GOLDEN      reference fixtures for `kdengine conformance`
# KD_SECONDS   time for all of it [540]           KD_TESTS       the tests of the backends (target/release/deps/backends-*)
# KD_ROUNDS    alternated rounds [1]              KD_PEER        a program that times the same cases with PyTorch and prints JSON lines:
#                                                                KD_PEER steps|losses|convs|notebook --device cuda [--compile|--tf32|--bf16]
set -uo pipefail
out=${1:?name a folder for the results}
kdengine=${KDENGINE:-kdengine} device=${KD_DEVICE:-cuda:0} rounds=${KD_ROUNDS:-1}
deadline=$((SECONDS + ${KD_SECONDS:-540}))
outputs=$out/outputs
mkdir -p "$outputs"
table=$out/table.txt ratios=$out/ratios.txt
: > "$table"
: > "$ratios"

# Whatever a kernel of ours says in passing that it should not have to.
complaints='is not used for|takes no graph'

# One line of the table: what was done, whether it went well, in how many seconds; what it printed is in outputs/NAME.txt. A step that is
# repeated replaces what it printed only if it went well.
step() {
  local name=$1 limit=$2 left=$((deadline - SECONDS)) how start end
  shift 2
  if ((left < 5)); then
    printf '%-30s skipped: no time is left\n' "$name" >> "$table"
    return 1
  fi
  echo "== $name: $*"
  start=$(date +%s.%N)
  timeout -k 5 $((left < limit ? left : limit)) "$@" > "$outputs/$name.new" 2>&1
  case $? in
    0) how=ok ;;
    124 | 137) how="FAILED (time)" ;;
    *) how=FAILED ;;
  esac
  end=$(date +%s.%N)
  if grep -qE "$complaints" "$outputs/$name.new"; then how="FAILED (see $name)"; fi
  if [ "$how" = ok ] || [ ! -f "$outputs/$name.txt" ]; then mv "$outputs/$name.new" "$outputs/$name.txt"; fi
  printf '%-30s %-14s %6.1f s  %s\n' "$name" "$how" "$(echo "$end $start" | awk '{ print $1 - $2 }')" \
    "$([ "$how" = ok ] || tail -n 1 "$outputs/$name".* | cut -c 1-100)" >> "$table"
  [ "$how" = ok ]
}

# Each case and its median, whatever the order of a line's fields.
medians() {
  sed -n 's/^.*"what": *"\([^"]*\)".*$/\1 &/p' "$outputs/$1.txt" | sed 's/ .*"median_ms": *\([0-9.e-]*\).*/ \1/'
}

# The ratio of each case, theirs to ours, where both have it; in the table their geometric mean and their ends.
ratios() {
  [ -f "$outputs/$2.txt" ] && [ -f "$outputs/$1.txt" ] || return 0
  echo "-- $2 / $1" >> "$ratios"
  awk -v of="$2 / $1" -v file="$ratios" 'NR == FNR { ours[$1] = $2; next }
    $1 in ours && ours[$1] > 0 {
      ratio = $2 / ours[$1]; n++; sum += log(ratio)
      if (n == 1 || ratio < least) least = ratio
      if (n == 1 || ratio > most) most = ratio
      printf "%-44s %9.4f ms  %6.2f\n", $1, ours[$1], ratio >> file
    }
    END { if (n) printf "%-52s %6.2f  (%.2f to %.2f, %d cases)\n", of, exp(sum / n), least, most, n }' \
    <(medians "$1") <(medians "$2") >> "$table"
}

finish() {
  local failed=0
  grep -q FAILED "$table" && failed=1
  echo "-- how many times longer: geometric mean, ends" >> "$table"
  ratios ours-steps-tf32 peer-steps-f32
  ratios ours-steps-tf32 peer-steps-compiled
  ratios ours-steps-tf32 ours-steps-plain
  ratios ours-losses peer-losses
  ratios ours-losses ours-losses-unclustered
  for precision in f32 tf32 bf16; do ratios "ours-convs-$precision" "peer-convs-$precision"; done
  ratios ours-convs-f16 ours-convs-bf16
  ratios ours-convs-f32 ours-convs-direct-f32
  for precision in tf32 bf16 f16; do ratios "ours-convs-wgmma-$precision" "ours-convs-$precision"; done
  for precision in f32 tf32 bf16; do [ -f "$outputs/ours-steps-$precision.txt" ] && medians "ours-steps-$precision" | sed "s/^/$precision /"; done >> "$table"
  (cd "$out" && tar czf outputs.tar.gz outputs && rm -rf outputs runs)
  echo
  cat "$table"
  exit $failed
}
trap finish EXIT
trap 'exit 1' INT TERM

step doctor 30 "$kdengine" doctor
if [ -n "${KD_GOLDEN:-}" ]; then
  step conformance 60 "$kdengine" conformance "$KD_GOLDEN" --device "$device" --strict
fi
small=(--device "$device" --data digits --train-limit 256 --batch-size 64 --teacher-model cnn-bn-8-16-fc32 --student-model cnn-4-fc16
  --epochs 2 --teacher-epochs 2 --sweep-epochs 2 --sweep-temperatures 2,4 --method hinton,at)
runs=$out/runs
rm -rf "$runs"
for how in graph plain; do
  KDENGINE_LAUNCH=$how step "sweep-$how" 30 "$kdengine" sweep "${small[@]}" --out "$runs/sweep-$how"
done
step graphs-have-the-same-bits 10 cmp "$runs/sweep-graph/jobs/sweep-t4/model.safetensors" "$runs/sweep-plain/jobs/sweep-t4/model.safetensors"
# Every product on tensor cores against f64, with the tolerance that its format allows.
if [ -n "${KD_TESTS:-}" ]; then
  step products-in-every-precision 120 "$KD_TESTS" precision
fi
# Products by four warps (compute capability 9.0): a message, which fails the step, where their bits are not the others'.
wide=(--device "$device" --precision tf32 --data digits --train-limit 256 --batch-size 64 --teacher-model cnn-16-64-96-fc32 --epochs 1
  --teacher-epochs 1 --student-model cnn-4-fc16)
for wgmma in on off; do
  KDENGINE_WGMMA=$wgmma step "wgmma-$wgmma" 30 "$kdengine" train "${wide[@]}" --out "$runs/wgmma-$wgmma"
done
step wgmma-has-the-same-bits 10 cmp "$runs/wgmma-on/jobs/teacher/model.safetensors" "$runs/wgmma-off/jobs/teacher/model.safetensors"

# The notebook's trainings and its sweep. The first run measures tiles, the second one has them.
if [ -n "${KDENGINE_DATA:-}" ] && [ -d "$KDENGINE_DATA/mnist" ]; then
  for precision in tf32-first tf32 f32; do
    step "notebook-$precision" 90 "$kdengine" run --data mnist --device "$device" --precision "${precision%-first}" --seeds 1 \
      --ablation-epochs 0 --out "$runs/notebook-$precision"
  done
fi

# Losses of rows of all lengths, and large shapes.
if [ -n "${KD_TESTS:-}" ]; then
  step rows-and-large-shapes 120 "$KD_TESTS" cuda::large_shapes
fi

# One after the other in each round; the last one that went well counts.
peer() {
  local job=$1 name=$2
  shift 2
  [ -n "${KD_PEER:-}" ] && step "peer-$name" 90 $KD_PEER "$job" --device cuda "$@"
}
bench() {
  local suite=$1 precision=$2
  step "ours-$3" 40 "$kdengine" bench $suite --device "$device" --precision "$precision" --json
}
for ((round = 1; round <= rounds; round++)); do
  bench step tf32 steps-tf32
  peer steps steps-f32
  bench "kernels --filter conv" tf32 convs-tf32
  peer convs convs-tf32 --tf32
  bench loss f32 losses
  peer losses losses
  bench "kernels --filter conv" f32 convs-f32
  peer convs convs-f32
  KDENGINE_WINOGRAD=off bench "kernels --filter conv" f32 convs-direct-f32
  KDENGINE_CLUSTERS=off bench loss f32 losses-unclustered
  for precision in tf32 bf16 f16; do
    KDENGINE_WGMMA=on bench "kernels --filter conv" $precision convs-wgmma-$precision
  done
  bench step f32 steps-f32
  bench "kernels --filter conv" bf16 convs-bf16
  peer convs convs-bf16 --bf16
  KDENGINE_LAUNCH=plain bench step tf32 steps-plain
  bench step bf16 steps-bf16
  bench "kernels --filter conv" f16 convs-f16
  peer steps steps-compiled --compile
done
step profile 30 "$kdengine" bench step --device "$device" --precision tf32 --profile
if [ -n "${KDENGINE_DATA:-}" ] && [ -d "$KDENGINE_DATA/mnist" ]; then
  peer notebook notebook-one-epoch --quick --data "$KDENGINE_DATA/mnist"
fi
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck synccheck; do
    step "sanitizer-$tool" 90 compute-sanitizer --tool $tool --error-exitcode 3 "$kdengine" train --device "$device" --precision tf32 \
      --data digits --train-limit 64 --batch-size 64 --teacher-model cnn-8-16-fc16 --epochs 1 --teacher-epochs 1 --out "$runs/$tool"
  done
fi
