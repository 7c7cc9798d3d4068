# What the end-to-end tests share; a script sources it, calls `check Suite.Name function` for each case and ends with `finish`.
#
# A case is a function, run in a subshell with `set -e`: the first command that fails fails the case. Its output is shown only then.
set -uo pipefail
BUILD=$(cd "${BUILD:-build}" && pwd)
facet=$BUILD/facet
time_limit=120 # seconds; whoever needs more hangs
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
for name in ${!SLURM_*} FACET_HOSTNAME FACET_INJECT; do unset "$name"; done # what the surroundings may have set

work=$(mktemp -d)
work=$(cd "$work" && pwd -P)
trap 'rm -rf "$work"' EXIT
tiny=$work/tiny # clip, siglip, qwen_vl, lm and data: 24 scenes
"$BUILD/make_tiny" --output "$tiny" --scenes 24 --seed 1 >"$work/make_tiny.log" || { cat "$work/make_tiny.log"; exit 1; }
model=(--lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/clip" --threads 1)
data=(--data_path "$tiny/data" --dataset_names llava llava_dial coco_caption)
printed=$work/printed.txt # stdout and stderr of the last `run`
output=$work/output.txt # the same without the time of day that lines of a training run begin with
failed_cases=0

# The launch line of the original, word for word.
reference_line=(--lm_model_name_or_path Llama-2-7b-hf --vision_model_name_or_path clip-vit-large-patch14 --vis_proj perceiver
  --learning_rate 1e-3 --learning_rate_pretraining_components 1e-5 --weight_decay 0.01 --num_train_epochs 6
  --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --num_warmup_steps 0.03 --lr_scheduler_type cosine --lang_lora_dim 16
  --lang_lora_module_name model.layers. --only_optimize_lora --dataset_names llava coco_caption --dataset_samples all all
  --output_dir ./output/ --zero_stage 2 --precision bf16 --enable_tensorboard)
# reference_directory NAME: where it can be started, with models of those names
reference_directory() {
  mkdir "$1"
  ln -s "$tiny/lm" "$1/Llama-2-7b-hf"
  ln -s "$tiny/clip" "$1/clip-vit-large-patch14"
  ln -s "$tiny/data" "$1/data"
}

# own_samples DIRECTORY: the twelve pictures of coco/2014 with a text each, as own.jsonl and, every third as a caption, as own-{0..2}.tar.
own_samples() {
  local directory=$1 number=0 image key turns
  mkdir -p "$directory/members"
  for image in "$tiny"/data/coco/2014/*; do
    key=$(printf '%03d' "$number")
    turns="[{\"from\": \"human\", \"value\": \"Which number?\\n<image>\"}, {\"from\": \"gpt\", \"value\": \"picture $number\"}]"
    cp "$image" "$directory/members/$key.${image##*.}"
    if ((number % 3 == 0)); then echo "picture $number" >"$directory/members/$key.txt"
    else echo "{\"conversations\": $turns}" >"$directory/members/$key.json"; fi
    echo "{\"image\": \"${image##*/}\", \"conversations\": $turns}" >>"$directory/own.jsonl"
    number=$((number + 1))
  done
  echo 'Which number?' >"$directory/questions.txt" # of captions
  for number in 0 1 2; do
    (cd "$directory/members" && printf '%s\n' * | sed -n "$((8 * number + 1)),$((8 * number + 8))p" |
      tar --format=ustar -cf "../own-$number.tar" -T -)
  done
}

fail() {
  echo "FAILED: $*"
  exit 1
}

# check Suite.Name function [argument...]: one case, one result line. before_case, if the script has it, is called first. ONLY, a pattern of names, leaves the others out.
check() {
  local name=$1 started code took
  shift
  # shellcheck disable=SC2053
  [[ $name == ${ONLY:-*} ]] || return 0
  started=$(date +%s%3N)
  echo "[ RUN      ] $name"
  (
    set -eE
    trap 'echo "FAILED at line $LINENO of $0: $BASH_COMMAND" >&2' ERR
    trap end_jobs EXIT
    if declare -F before_case >/dev/null; then before_case; fi
    "$@"
  ) >"$work/case.log" 2>&1
  code=$?
  took="($(($(date +%s%3N) - started)) ms)"
  if [ "$code" = 0 ]; then
    echo "[       OK ] $name $took"
    return
  fi
  tail -n 30 "$work/case.log"
  echo "[  FAILED  ] $name $took"
  failed_cases=$((failed_cases + 1))
}

# What a failed case left running. SIGTERM is handed on by timeout to mpirun and by that to the ranks; SIGKILL would leave the ranks.
end_jobs() {
  local pid wait
  for pid in $(jobs -p); do kill -TERM "$pid"; done 2>/dev/null
  for ((wait = 0; wait < 50; ++wait)); do
    [ -n "$(jobs -rp)" ] || return 0
    sleep 0.1
  done
  for pid in $(jobs -p); do kill -KILL "$pid" "-$pid"; done 2>/dev/null
}

finish() { [ "$failed_cases" = 0 ]; }

# run CODE RANKS command...: the command must end with that exit code within the time limit; 0 ranks: without mpirun. What it prints is in
# $output.
run() {
  local expected=$1 ranks=$2 launch=() code=0
  shift 2
  if [ "$ranks" != 0 ]; then launch=(mpirun -n "$ranks" --oversubscribe); fi
  timeout -k 5 "$time_limit" "${launch[@]}" "$@" >"$printed" 2>&1 </dev/null || code=$?
  sed -E 's/^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8} //' "$printed" >"$output"
  if [ "$code" != "$expected" ]; then
    grep -vE '^[a-z_]+ =' "$output" | tail -n 30
    fail "exit code $code instead of $expected on $ranks ranks: $*"
  fi
}

# The text stands in exactly one line of what the last run printed, the echo of its options aside.
once() {
  local count
  count=$(grep -vE '^[a-z_]+ =' "$output" | grep -cF -- "$1" || true)
  if [ "$count" != 1 ]; then
    grep -vE '^[a-z_]+ =' "$output"
    fail "'$1' is printed $count times, not once"
  fi
}

never() {
  if grep -F -- "$1" "$output"; then fail "'$1' is printed"; fi
}

# refused CODE RANKS TEXT command...: one error for the whole job, with that text in it, that exit code, no hang.
refused() {
  local code=$1 ranks=$2 text=$3 errors
  shift 3
  run "$code" "$ranks" "$@"
  errors=$(grep -c '^error' "$output" || true)
  if [ "$errors" != 1 ]; then
    grep -vE '^[a-z_]+ =' "$output"
    fail "$errors errors on $ranks ranks instead of one: $*"
  fi
  once "$text"
}

# column FILE NAME: the values of one column of a log.
column() {
  awk -F, -v name="$2" '
    /^#/ { next }
    !at { for (i = 1; i <= NF; ++i) if ($i == name) at = i; if (!at) { print "no column " name > "/dev/stderr"; exit 1 }; next }
    { print $at }' "$1"
}

rows() { column "$1" step | wc -l; }

# same_columns FILE FILE NAME...: equal to the last digit.
same_columns() {
  local a=$1 b=$2 name
  shift 2
  for name in "$@"; do
    diff <(column "$a" "$name") <(column "$b" "$name") || fail "column $name of $a and $b differs"
  done
}

different_columns() {
  if diff -q <(column "$1" "$3") <(column "$2" "$3"); then fail "column $3 of $1 and $2 is the same"; fi
}

# close_columns FILE FILE NAME TOLERANCE: relative, row by row, and as many rows.
close_columns() {
  paste -d , <(column "$1" "$3") <(column "$2" "$3") | awk -F , -v tolerance="$4" '
    $0 == "," { next } # there is none in either
    NF != 2 || $1 == "" || $2 == "" { print "rows are missing"; bad = 1 }
    { difference = $1 - $2; if (difference < 0) difference = -difference
      size = $1 < 0 ? -$1 : $1
      # Written so that a NaN fails too.
      if (!(difference <= tolerance * size)) { print "row " NR ": " $1 " and " $2; bad = 1 } }
    END { exit bad || NR == 0 }' || fail "column $3 of $1 and $2 differs by more than $4"
}

# equal_models DIRECTORY DIRECTORY: every exported tensor to the bit.
equal_models() {
  local file files
  files=$(cd "$1" && find . -name '*.safetensors')
  [ -n "$files" ] || fail "$1 holds no safetensors"
  for file in $files; do cmp "$1/$file" "$2/$file"; done
}

# $refusing: tests/e2e/refusing_system.cpp for LD_PRELOAD. Called in the repository's root.
build_refusing_system() {
  refusing=$work/refusing_system.so
  "${CXX:-mpicxx}" -std=c++20 -O1 -shared -fPIC -o "$refusing" tests/e2e/refusing_system.cpp -ldl
}

# until_true SECONDS command...: waits for something another process does.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "not within its time: $*"
    sleep 0.05
  done
}
