#!/usr/bin/env bash
# The MNIST experiment of Lopez-Paz et al. 2016 (figure 1 of "Unifying distillation and privileged information"), ten repetitions of
# the whole grid of T and lambda: a table of mean test accuracies for each number of training images.
#
#   docs/privileged-information.sh FOLDER [N…]      N: 300 and 500 unless given
#
# KDENGINE names the binary (default: kdengine), KDENGINE_DATA the folder of the data sets, REPETITIONS how many (default: 10).
# What is finished in FOLDER is not run again.
set -euo pipefail
out=${1:?name a folder for the runs}
shift
sizes=("${@:-300 500}")
kdengine=${KDENGINE:-kdengine}
temperatures=1,2,5,10,20,50
common="--quiet --data mnist --teacher-model mlp-20-20 --student-model mlp-20-20 --student-view low-resolution-7
  --threads 1 --optimizer rmsprop --lr 0.001 --rmsprop-alpha 0.9 --momentum 0 --batch-size 128 --eval-batch-size 10000"

for n in ${sizes[*]}; do
  for ((seed = 0; seed < ${REPETITIONS:-10}; seed++)); do
    options="$common --seed $seed --train-limit $n --teacher-limit $n"
    first="$out/$n-$seed-alone"
    # The teacher, and the student alone.
    if [ ! -f "$first/summary.json" ]; then
      rm -rf "$first"
      $kdengine compare $options --epochs 50 --teacher-epochs 50 --soft-temperatures 1 --out "$first" > "$first.txt"
    fi
    for tenths in 1 2 3 4 5 6 7 8 9 10; do
      lambda=$(awk "BEGIN { print $tenths / 10 }")
      rest=$(awk "BEGIN { print 1 - $tenths / 10 }")
      run="$out/$n-$seed-$lambda"
      if [ ! -f "$run/done" ]; then
        rm -rf "$run"
        $kdengine sweep $options --teacher "$first/jobs/teacher/model.safetensors" --epochs 1 --soft-temperatures 1 \
          --method generalized-distillation --set weight="$lambda" --hard-weight "$rest" \
          --sweep-temperatures $temperatures --sweep-epochs 50 --out "$run" > "$run.txt"
        touch "$run/done"
      fi
    done
  done

  # Means over the repetitions, in percent.
  echo
  awk -v n="$n" '
    FNR == 1 { parts = split(FILENAME, path, "/"); split(path[parts], name, "-"); lambda = name[3]; sub(/\.txt$/, "", lambda) }
    lambda == "alone" && $1 == "accuracy" { teacher += $2; alone += $6; repetitions++ }
    $1 == "sweep," { sum[$4, lambda] += $5; count[$4, lambda]++; if (!($4 in seen)) { seen[$4]; order[++rows] = $4 } }
    END {
      printf "N = %d: %d repetitions, teacher %.1f, student alone %.1f\n\n| T \\ lambda |", n, repetitions, teacher / repetitions, alone / repetitions
      for (l = 1; l <= 10; l++) printf " %.1f |", l / 10
      printf "\n| --- |"
      for (l = 1; l <= 10; l++) printf " --- |"
      for (t = 1; t <= rows; t++) {
        printf "\n| %s |", order[t]
        for (l = 1; l <= 10; l++) printf " %.1f |", sum[order[t], l / 10 ""] / count[order[t], l / 10 ""]
      }
      print ""
    }' "$out/$n"-*-*.txt
done
