#!/usr/bin/env bash
# A run that is killed again and again, at named and at random moments, ends like one that never was. KILLS, SEED: how often, which.
#
# The command of every restart is the same; faults are given in the environment (FACET_INJECT). Lives, each of a fresh
# directory, alternate between blocking and background saves; one that reaches its end is compared and another begins.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
kills=${KILLS:-20}
RANDOM=${SEED:-1}

# 32 training samples, 4 a step: 8 steps an epoch. Slowed saves, so that many random kills hit one.
interval=4
train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --num_warmup_steps 0.2 --lang_lora_dim 4 --enable_mmca_attention --seed 7
  --per_device_train_batch_size 1 --gradient_accumulation_steps 2 --num_train_epochs 8 --steps_per_print 1 --save_interval "$interval")
points=(step ckpt.begin ckpt.write ckpt.written ckpt.rename ckpt.latest ckpt.retention ckpt.removal)
slow='slow@step:ms=15'
for point in "${points[@]:1}"; do slow="$slow;slow@$point:ms=60"; done
whole=$work/whole
fallen=$work/fallen # one line a kill: where it was aimed, where it fell, how many steps were lost

gone() { ! pgrep -f -- "--output_dir $1" >/dev/null; }
ranks_of() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}
step_of() { # DIRECTORY: the newest checkpoint's step, 0 without one
  local newest
  newest=$(find "$1/checkpoints" -maxdepth 1 -name 'step_????????' 2>/dev/null | sort | tail -n 1)
  newest=${newest##*step_}
  echo $((10#${newest:-0}))
}
taken() { if [ -e "$1/loss_log.csv" ]; then rows "$1/loss_log.csv"; else echo 0; fi; }

# What a kill left on the disk says where it fell.
place_of() { # DIRECTORY STEPS: steps in the log when the run was started
  local at=$1/checkpoints published
  published=$(find "$at" -maxdepth 1 -name 'step_????????' 2>/dev/null | wc -l)
  if compgen -G "$at/*.partial-*/manifest.json" >/dev/null; then echo 'save: written, without a name'
  elif compgen -G "$at/step_*.partial-*" >/dev/null; then echo 'save: being written'
  elif compgen -G "$at/*.removed-*" >/dev/null; then echo 'save: an old one being removed'
  elif [ "$published" -gt 0 ] && [ "$(cat "$at/latest" 2>/dev/null)" != "step_$(printf %08d "$(step_of "$1")")" ]; then echo 'save: named, not yet latest'
  elif [ "$published" -gt 2 ]; then echo 'save: latest, before retention'
  elif compgen -G "$1/epoch-*.partial-*" >/dev/null; then echo 'export'
  elif [ "$(taken "$1")" = "$2" ]; then echo 'start, or before the first step'
  else echo 'between saves'
  fi
}

# launch DIRECTORY FAULTS option...: starts the run in the background.
launch() {
  local out=$1 faults=$2
  shift 2
  (FACET_INJECT=$faults exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" "$@") >"$output" 2>&1 </dev/null &
  launched=$!
}
has_stepped() { grep -qE '^[-0-9: ]*step=' "$output" || ! kill -0 "$launched" 2>/dev/null; }

# kill_once DIRECTORY POINT option...: 1 if the run came to its end instead.
kill_once() {
  local out=$1 point=$2 before code=0 pids reached
  shift 2
  before=$(taken "$out")
  case $point in
    random)
      launch "$out" "$slow" "$@"
      if [ $((RANDOM % 8)) != 0 ]; then until_true 60 has_stepped; fi
      sleep "0.$(printf %03d $((RANDOM % 1000)))"
      mapfile -t pids < <(ranks_of "$out")
      if [ ${#pids[@]} != 0 ]; then kill -KILL "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null || true; fi
      ;;
    ckpt.latest | ckpt.retention | ckpt.removal) launch "$out" "kill@$point:rank=0" "$@" ;; # rank 0 alone goes there
    *) launch "$out" "kill@$point:rank=$((RANDOM % 2))" "$@" ;;
  esac
  wait "$launched" || code=$?
  until_true 10 gone "$out"
  [ "$code" != 0 ] || return 1
  if [ "$code" != 137 ]; then # of a killed rank; anything else is no kill
    tail -n 30 "$output"
    fail "exit code $code of a run to be killed at $point"
  fi
  reached=$(taken "$out")
  [ "$reached" -ge "$before" ] || before=$reached # cut back
  echo "$point|$(place_of "$out" "$before")|$((reached - $(step_of "$out")))|$*" >>"$fallen"
}

same_end() { # DIRECTORY
  same_columns "$whole/loss_log.csv" "$1/loss_log.csv" step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor \
    skipped lr_decay loss_llava loss_llava_dial loss_coco_caption
  same_columns "$whole/eval_log.csv" "$1/eval_log.csv" step epoch samples labelled_tokens loss
  equal_models "$whole/epoch-8" "$1/epoch-8"
  run 0 0 "$facet" inspect "$whole" "$1"
  once '0 of '
  [ -z "$(find "$1/checkpoints" -name '*partial*' -o -name '*removed*' -o -name '*replaced*')" ]
}

# The named points in turn, as often as they must be met, with the random ones between them.
next_point() {
  local each=$(((kills + 79) / 80 * 2)) named=${#points[@]}
  if [ $((aimed % 2)) = 0 ] || [ $((kills - aimed)) -le $((named * each - met)) ]; then
    if [ "$met" -lt $((named * each)) ]; then
      point=${points[met % named]}
      met=$((met + 1))
      return
    fi
  fi
  point=random
}

soak() {
  local life=0 aimed=0 met=0 point out way
  : >"$fallen"
  run 0 2 "${train[@]}" --output_dir "$whole"
  while [ "$aimed" -lt "$kills" ]; do
    life=$((life + 1))
    out=$work/life_$life
    way=()
    if [ $((life % 2)) = 0 ]; then way=(--async_checkpoint); fi
    # A life takes the named points once, then the other way of saving has its turn.
    while [ "$aimed" -lt "$kills" ]; do
      next_point
      if ! kill_once "$out" "$point" "${way[@]}"; then
        if [ "$point" != random ]; then met=$((met - 1)); fi # again in the next life
        break
      fi
      aimed=$((aimed + 1))
      [ $((aimed % 10)) != 0 ] || break
    done
    run 0 2 "${train[@]}" --output_dir "$out" "${way[@]}"
    same_end "$out"
    rm -r "$out"
  done
  # Plain saves lose no more than what lies between two of them.
  awk -F'|' -v most="$interval" '$4 == "" && $3 > most { print; bad = 1 } END { exit bad }' "$fallen" || fail 'more than an interval was lost'
  local named
  for named in "${points[@]}"; do
    [ "$(grep -c "^$named|" "$fallen")" -ge $(((kills + 79) / 80 * 2)) ] || fail "$named was not met often enough"
  done
}

report() {
  echo "$(wc -l <"$fallen") kills, seed ${SEED:-1}; where they were aimed and fell, plain and beside the training:"
  awk -F'|' '{ key = sprintf("%-16s%-34s", $1, $2); if ($4 == "") ++plain[key]; else ++beside[key]; all[key] = 1 }
    END { for (key in all) printf "  %s%6d%6d\n", key, plain[key], beside[key] }' "$fallen" | sort
  awk -F'|' '$1 == "random" { ++all; hit += $2 ~ /^save/ } { ++lost[$3]; sum += $3 }
    END {
      printf "random kills inside a save: %d of %d\nlost steps (mean %.2f):", hit, all, sum / NR
      for (n = 0; n <= 1000; ++n) if (lost[n]) printf " %d x %d,", lost[n], n
      print ""
      exit !(all < 20 || hit >= 0.3 * all) }' "$fallen"
}

started=$SECONDS
check Soak.EveryKillIsSurvived soak
if [ -s "$fallen" ]; then
  report || { echo "[  FAILED  ] Soak.RandomKillsHitSaves (0 ms)"; failed_cases=$((failed_cases + 1)); }
fi
echo "in $((SECONDS - started)) s"
finish
