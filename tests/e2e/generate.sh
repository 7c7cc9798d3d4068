#!/usr/bin/env bash
# Answers of `facet generate`: CSV out of JSON, several images and rounds, draws that a seed repeats.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# A model that has learnt a little, so that answers are not empty.
"$facet" train "${model[@]}" "${data[@]}" --unfreeze vis_encoder. lang_decoder. --learning_rate 2e-3 --num_train_epochs 8 \
  --enable_mmca_attention --output_dir "$work/run" >"$work/train.txt" 2>&1 || { tail "$work/train.txt"; exit 1; }
trained=(--lm_model_name_or_path "$work/run/epoch-8/lang_decoder" --vision_model_name_or_path "$work/run/epoch-8/vis_encoder" --threads 1
  --enable_mmca_attention)
build_refusing_system || exit 1
ln -s "$tiny/data/eval/images" "$work/images"
cd "$work" || exit 1
mapfile -t images < <(ls images | head -n 3)
cat >tests.json <<END
{
  "one": [["What do you see?", "images/${images[0]}"]],
  "comma, \"quote\"": [["Look:\nwhat is \"this\", and where?", "images/${images[1]}"], ["And its colour?"], ["Compare.", "images/${images[0]} images/${images[2]}"]],
  "text only": [["How are you?"]],
  "empty path": [["What do you see?", ""]]
}
END

# generate NAME option...: NAME.csv on as many ranks as $ranks says.
ranks=0
generate() {
  local name=$1 length=(--max_new_tokens 12)
  shift
  if [[ " $* " = *' --max_new_tokens '* ]]; then length=(); fi
  run 0 "$ranks" "$facet" generate "${trained[@]}" "${length[@]}" --input tests.json --output "$name.csv" "$@"
}

# fields FILE: records as RFC 4180 reads them, one field a line (newlines inside shown as |), "--" after each record.
fields() {
  awk 'BEGIN { RS = "\001" }
    { n = length($0); field = ""; quoted = 0
      for (i = 1; i <= n; ++i) {
        c = substr($0, i, 1)
        if (quoted) {
          if (c != "\"") field = field (c == "\n" ? "|" : c)
          else if (substr($0, i + 1, 1) == "\"") { field = field "\""; ++i }
          else quoted = 0
        } else if (c == "\"") quoted = 1
        else if (c == "," || c == "\n") { print field; field = ""; if (c == "\n") print "--" }
        else field = field c
      } }' "$1"
}

csv() {
  generate greedy
  fields greedy.csv | awk '$0 == "--" { at = 0; next } ++at != 4' >questions.txt
  cat >expected.txt <<END
test_name
image_path
question
one
images/${images[0]}
What do you see?
comma, "quote"
images/${images[1]}
Look:|what is "this", and where?
comma, "quote"

And its colour?
comma, "quote"
images/${images[0]} images/${images[2]}
Compare.
text only

How are you?
empty path

What do you see?
END
  diff expected.txt questions.txt
  [ "$(fields greedy.csv | grep -cx -- '--')" = 7 ]
  # The first answer is made of the words of the captions it was trained on.
  fields greedy.csv | sed -n 9p | grep -qE '[a-z]{3,}'
}

greedy_is_determined() {
  generate again
  cmp greedy.csv again.csv
  generate seeded --seed 99
  cmp greedy.csv seeded.csv
}

ranks_share_the_tests() {
  ranks=3 generate shared
  cmp greedy.csv shared.csv
  ranks=2 generate drawn_2 --temperature 1 --seed 3
  generate drawn_1 --temperature 1 --seed 3
  cmp drawn_1.csv drawn_2.csv
}

# Ranks that hold the model together answer as one that holds it alone: with other questions beside, drawn, and to given answers. Of four
# ranks each two have the same key/value head of the tiny model.
groups_share_the_weights() {
  local count
  generate alone
  ranks=2 generate pair --inference_tp_size 2
  cmp alone.csv pair.csv
  once 'a rank keeps'
  ranks=4 generate four --inference_tp_size 4
  cmp alone.csv four.csv
  generate drawn_alone --temperature 1 --seed 3 --num_answers 2
  ranks=4 generate drawn_pairs --temperature 1 --seed 3 --num_answers 2 --inference_tp_size 2
  cmp drawn_alone.csv drawn_pairs.csv
  printf '{"one": [["What do you see?", "images/%s", ["a red circle", "two dogs"]], ["And?", [], ["no", "yes"]]]}' "${images[0]}" >given.json
  for count in 1 2; do
    run 0 "$count" "$facet" generate "${trained[@]}" --input given.json --output "given_$count.jsonl" --score --inference_tp_size "$count"
    sed -E 's/"seconds": [^,]*//; s/(-[0-9]+\.[0-9]{3})[0-9]*/\1/g' "given_$count.jsonl" >"given_$count.txt"
  done
  cmp given_1.txt given_2.txt
  refused 78 3 '3 ranks are no groups of 2' "$facet" generate "${trained[@]}" --input tests.json --output x.csv --inference_tp_size 2
  refused 78 3 "4 attention heads, 2 key/value heads and 352 feed-forward columns can't be shared evenly by 3 ranks" \
    "$facet" generate "${trained[@]}" --input tests.json --output x.csv --inference_tp_size 3
  [ ! -e x.csv ]
}

# An error of one rank ends the job while the other one of its group waits for it: here the image is none where the second rank looks.
one_of_a_group_fails() {
  local asks=("$facet" generate "${trained[@]}" --input one.json --output x.csv --inference_tp_size 2 --hang_seconds_compute 20)
  mkdir -p elsewhere
  echo '{"a": [["Q?", "one.jpg"]]}' | tee one.json >elsewhere/one.json
  cp "images/${images[0]}" one.jpg
  echo 'not an image' >elsewhere/one.jpg
  run 65 1 "${asks[@]}" : -n 1 --wdir "$work/elsewhere" "${asks[@]}"
  once 'error on rank 1'
  [ ! -e x.csv ]
}

# Neither how many conversations are held at the same time nor what they share changes an answer.
conversations_at_the_same_time() {
  for many in 1 3; do
    generate "greedy_$many" --decode_batch "$many"
    cmp greedy.csv "greedy_$many.csv"
    generate "five_$many" --decode_batch "$many" --num_answers 5 --temperature 1 --seed 3
  done
  cmp five_1.csv five_3.csv
}

# 12 tokens of six answers at a high temperature: equal by chance never.
seed_decides_draws() {
  generate hot_1 --temperature 3 --seed 1
  generate hot_1_again --temperature 3 --seed 1
  cmp hot_1.csv hot_1_again.csv
  generate hot_2 --temperature 3 --seed 2
  if cmp -s hot_1.csv hot_2.csv; then fail 'the seed changes nothing'; fi
  if cmp -s hot_1.csv greedy.csv; then fail 'nothing was drawn'; fi
}

# Choosing among one token is greedy, whatever the temperature.
top_k_and_top_p() {
  generate top_k --temperature 3 --top_k 1
  cmp greedy.csv top_k.csv
  generate top_p --temperature 3 --top_p 0.000001
  cmp greedy.csv top_p.csv
  generate both --temperature 0.7 --top_k 5 --top_p 0.9
  refused 78 0 '--top_k and --top_p choose among draws' "$facet" generate "${trained[@]}" --input tests.json --output x.csv --top_k 5
}

# Other pictures for the same questions change at least one of some hundred draws.
images_matter() {
  local name
  sed "s#images/${images[0]}#images/${images[2]}#g; s#images/${images[1]}#images/${images[0]}#g" tests.json >other_images.json
  for name in tests other_images; do
    run 0 0 "$facet" generate "${trained[@]}" --input "$name.json" --output "$name.csv" --temperature 2 --max_new_tokens 60
  done
  if diff -q <(fields tests.csv | grep -v images/) <(fields other_images.csv | grep -v images/); then fail 'images change no answer'; fi
}

limits() {
  generate short --max_new_tokens 1
  if cmp -s short.csv greedy.csv; then fail '--max_new_tokens changes nothing'; fi
  generate no_room --max_seq_len 8
  once 'are empty'
}

# A call that is killed goes on from the answers it had; on other ranks too. None is asked again, lost or doubled.
killed_and_given_again() {
  local i lines
  for i in {1..30}; do printf '"test %d": [["What do you see?", "images/%s"], ["Why?"]]\n' "$i" "${images[0]}"; done >many.txt
  cp "images/${images[0]}" halts_at
  sed "20s#images/${images[0]}#halts_at#" many.txt | paste -sd, | sed 's/.*/{&}/' >many.json
  local many=("$facet" generate "${trained[@]}" --input many.json --temperature 1 --max_new_tokens 12)
  run 0 0 "${many[@]}" --output whole.csv --stop_strings 'zq qz'
  many+=(--output cut.csv --stop_strings)
  env "LD_PRELOAD=$refusing" STOPS_AT=halts_at "${many[@]}" 'zq qz' >cut.txt 2>&1 &
  until_true 60 is_stopped $!
  refused 78 0 'cut.csv.unfinished is in use by another run' "${many[@]}" 'zq qz'
  kill -KILL $!
  wait $! || true
  [ ! -e cut.csv ]
  lines=$(cat cut.csv.unfinished/*.jsonl | wc -l)
  [ "$lines" -ge 1 ]
  [ "$lines" -lt 30 ]
  printf '{"test": 29, "num' >>cut.csv.unfinished/start-1-rank-0.jsonl  # what a kill leaves of a line
  refused 78 0 'cut.csv.unfinished holds the answers so far' "${many[@]}" zq qz
  echo '{"test": 30, "number": 0, "rounds": []}' >cut.csv.unfinished/start-2-rank-0.jsonl
  refused 65 0 'test 30, answer 0 belongs to no question' "${many[@]}" 'zq qz'
  echo 'no answer' >cut.csv.unfinished/start-2-rank-0.jsonl
  refused 65 0 'start-2-rank-0.jsonl' "${many[@]}" 'zq qz'
  mv cut.csv.unfinished/start-2-rank-0.jsonl cut.csv.unfinished/notes
  run 0 2 "${many[@]}" 'zq qz'
  once "$lines of 30 conversations were finished before"
  cmp whole.csv cut.csv
  [ "$(ls cut.csv.unfinished)" = notes ]
  [ ! -e whole.csv.unfinished ]
}
is_stopped() { [[ "$(sed 's/.*) //' "/proc/$1/stat")" == T* ]]; }

# Draws belong to a test and its answer's number: a test alone, and the first of several answers, are as in all.
draws_of_a_test() {
  generate three --temperature 2 --num_answers 3
  generate one_each --temperature 2
  [ "$(fields three.csv | grep -cx -- '--')" = 19 ]
  sed '/^  "one"/d; /^  "comma/d' tests.json >fewer.json
  run 0 0 "$facet" generate "${trained[@]}" --input fewer.json --output fewer.csv --temperature 2 --max_new_tokens 12
  cmp <(tail -n 2 one_each.csv) <(tail -n 2 fewer.csv)
  [ "$(tail -n 3 three.csv | sort -u | wc -l)" -gt 1 ]
  cmp <(tail -n 1 one_each.csv) <(tail -n 3 three.csv | head -n 1)
  refused 78 0 '--num_answers above 1 needs draws' "$facet" generate "${trained[@]}" --input tests.json --output x.csv --num_answers 2
}

json_lines() {
  run 0 2 "$facet" generate "${trained[@]}" --input tests.json --output answers.jsonl --max_new_tokens 12 --logprobs
  [ "$(wc -l <answers.jsonl)" = 6 ]
  [ "$(grep -c '"stop_reason": "[a-z_]*", "logprobs": \[' answers.jsonl)" -ge 1 ]
  # The same answers as in CSV.
  fields greedy.csv | awk '$0 == "--" { at = 0; next } ++at == 4' | sed 1d >answers.txt
  sed 's/.*"answer": "\(.*\)", "tokens".*/\1/' answers.jsonl | cmp answers.txt -
  refused 78 0 '--logprobs has no column in CSV' "$facet" generate "${trained[@]}" --input tests.json --output x.csv --logprobs
  generate original --csv original
  [ "$(grep -c $'\r$' original.csv)" = 7 ]
  grep -q '^text only,How are you?,How are you?,' original.csv
  refused 78 0 'images is no regular file' "$facet" generate "${trained[@]}" --input tests.json --output images
}

# A caption that belongs to the picture is likelier than one whose words are in another order.
scores() {
  local right
  right=$(fields greedy.csv | sed -n 9p)
  printf '{"one": [["What do you see?", "images/%s", ["%s", "%s"]]]}' "${images[0]}" "$(tac -s' ' <<<"$right " | xargs)" "$right" >choices.json
  run 0 0 "$facet" generate "${trained[@]}" --input choices.json --output scores.jsonl --score
  grep -qF "\"answer\": \"$right\", \"tokens\"" scores.jsonl
  [ "$(grep -oE '"logprob": -[0-9.e-]+' scores.jsonl | wc -l)" = 2 ]
  sed -i 's/"one"/"empty one"/; s/, "[^"]*"\]\]\]/, " "]]]/' choices.json
  refused 65 0 'test empty one: the answer is empty' "$facet" generate "${trained[@]}" --input choices.json --output x.csv --score
  refused 65 0 'two choices or more' "$facet" generate "${trained[@]}" --input tests.json --output x.csv --score
}

# Right answers in the questions: metrics of the file and of each answer.
right_answers() {
  local answer
  answer=$(fields greedy.csv | sed -n 9p)
  printf '{"one": [{"question": "What do you see?", "images": ["images/%s"], "answers": ["%s", "nothing"]}], "two": [{"question": "How are you?", "answers": "zz"}], "three": [["Why?"]]}' \
    "${images[0]}" "$answer" >right.json
  run 0 2 "$facet" generate "${trained[@]}" --input right.json --output right.jsonl --max_new_tokens 12
  once 'exact_match 0.5000, contains 0.5000, bleu_1'
  [ "$(tr -d ' \n' <right.jsonl.metrics.json | cut -d, -f1-3)" = '{"answers":2,"exact_match":0.5,"contains":0.5' ]
  [ "$(grep -c '"exact_match": 1' right.jsonl)" = 1 ]
  [ "$(grep -c right_answers right.jsonl)" = 2 ]
  [ ! -e greedy.csv.metrics.json ]
  run 0 0 "$facet" generate "${trained[@]}" --input tests.json --output right.jsonl --max_new_tokens 2 # other questions
  [ ! -e right.jsonl.metrics.json ]
}

# A call that found all answers, but could not write what they are worth, needs no model when it is given again.
all_were_answered_before() {
  printf '{"one": [{"question": "What do you see?", "images": ["images/%s"], "answers": "nothing"}], "two": [["Why?"]]}' "${images[0]}" >worth.json
  local worth=("$facet" generate --checkpoint_path "$work/run" --checkpoint_names epoch-8 --input worth.json --output worth.jsonl --max_new_tokens 2
    --enable_mmca_attention)
  mkdir worth.jsonl.metrics.json
  refused 74 0 'worth.jsonl.metrics.json' "${worth[@]}"
  rmdir worth.jsonl.metrics.json
  echo '{"test": 30, "number": 0, "rounds": []}' >worth.jsonl.epoch-8.unfinished/start-2-rank-0.jsonl
  refused 65 0 'worth.jsonl.epoch-8.unfinished: test 30, answer 0 belongs to no question' "${worth[@]}"
  rm worth.jsonl.epoch-8.unfinished/start-2-rank-0.jsonl
  run 0 2 "${worth[@]}"
  once '2 of 2 conversations were finished before'
  [ "$(wc -l <worth.jsonl)" = 2 ]
  grep -q '"answers": 1' worth.jsonl.metrics.json
}

# Exports of several epochs in one call answer as each does alone.
several_models() {
  local name rest=(--input tests.json --max_new_tokens 12 --enable_mmca_attention --threads 1)
  run 0 2 "$facet" generate --checkpoint_path "$work/run" --checkpoint_names epoch-7 epoch-8 "${rest[@]}" --output both.csv
  fields both.csv | head -n 2 | cmp - <(printf 'checkpoint\ntest_name\n')
  for name in epoch-7 epoch-8; do
    run 0 0 "$facet" generate --lm_model_name_or_path "$work/run/$name/lang_decoder" --vision_model_name_or_path "$work/run/$name/vis_encoder" \
      "${rest[@]}" --output "$name.jsonl"
  done
  run 0 0 "$facet" generate --checkpoint_names "$work/run/epoch-7" "$work/run/epoch-8" "${rest[@]}" --output both.jsonl
  cmp <(cat epoch-7.jsonl epoch-8.jsonl | untimed) <(sed 's/"checkpoint": "[^"]*", //' both.jsonl | untimed)
  [ "$(grep -c '/epoch-7"' both.jsonl)" = 6 ]
  mkdir -p one
  ln -sfn "$work/run/epoch-7" one/a
  ln -sfn "$work/run/epoch-8" one_a
  run 0 0 "$facet" generate --checkpoint_names one/a one_a "${rest[@]}" --output alike.csv
  refused 66 0 'images is no model to answer with' "$facet" generate --checkpoint_names images "${rest[@]}" --output x.csv
  refused 66 0 'epoch-99: no such directory' "$facet" generate --checkpoint_names "$work/run/epoch-99" "${rest[@]}" --output x.csv
  refused 64 0 '--lm_model_name_or_path is missing' "$facet" generate "${rest[@]}" --output x.csv
  refused 78 0 'a name stands there twice' "$facet" generate --checkpoint_names a a "${rest[@]}" --output x.csv
}

# A run's checkpoints answer as their exports do, without an option about the model; together with an export, too.
checkpoints() {
  local rest=(--input tests.json --max_new_tokens 12 --threads 1 --logprobs)
  run 0 2 "$facet" generate --checkpoint_names run run/checkpoints/step_00000112 "${rest[@]}" --output stored.jsonl
  once 'from run/checkpoints/step_00000128: step 128, epoch 9'
  run 0 2 "$facet" generate --checkpoint_names run/epoch-8 run/epoch-7 --enable_mmca_attention "${rest[@]}" --output exported.jsonl
  cmp <(untimed <stored.jsonl) <(untimed <exported.jsonl | sed 's/"run.epoch-8"/"run"/; s/"run.epoch-7"/"run\/checkpoints\/step_00000112"/')
  refused 78 2 '--vis_proj vit: run/checkpoints/step_00000128 was trained with baseline; leave the option out' \
    "$facet" generate --checkpoint_names run "${rest[@]}" --vis_proj vit --output x.jsonl
  refused 78 0 '--enable_mmca_attention false: run/checkpoints/step_00000128 was trained with true' \
    "$facet" generate --checkpoint_names run "${rest[@]}" --enable_mmca_attention false --output x.jsonl
  refused 78 0 'their frozen weights differ' "$facet" generate --checkpoint_names run "${rest[@]}" --lm_model_name_or_path run/epoch-1/lang_decoder \
    --output x.jsonl
  cp -r run/checkpoints/step_00000128 damaged
  printf 'x' | dd of=damaged/state.h5 bs=1 seek=$(($(stat -c %s damaged/state.h5) / 2)) conv=notrunc status=none
  refused 65 2 'damaged/state.h5: damaged' "$facet" generate --checkpoint_names damaged "${rest[@]}" --output x.jsonl
  refused 78 0 'facet chat talks with one model' "$facet" chat --checkpoint_names run damaged
  "$facet" chat --checkpoint_names run --threads 1 --max_new_tokens 12 --history talk.json >talk.txt 2>&1 <<<$'na\nHow are you?'
  cmp <(grep -o '"answer": .*"tokens"' talk.json.answers.jsonl) <(grep -F '"text only"' stored.jsonl | head -n 1 | grep -o '"answer": .*"tokens"')
  [ -z "$(find . -maxdepth 1 -name 'x.jsonl*')" ]
}
untimed() { sed 's/"seconds": [^,]*, //'; }

# The tools of DeepSpeed-VisualChat number the two images of a round differently: its probabilities differ.
as_the_original() {
  local tool
  printf '{"two": [["Compare.", "images/%s images/%s"], ["And now?", "images/%s"]]}' "${images[@]}" >pair.json
  for tool in auto batch chat; do
    run 0 0 "$facet" generate "${model[@]}" --compat visualchat --compat_tool "$tool" --input pair.json --output "$tool.jsonl" \
      --max_new_tokens 3 --logprobs
    grep -o '"logprobs": .*' "$tool.jsonl" >"$tool.txt"
  done
  cmp auto.txt batch.txt
  if cmp -s chat.txt batch.txt; then fail '--compat_tool changes nothing'; fi
  refused 78 0 '--compat_tool chooses between tools' "$facet" generate "${trained[@]}" --input pair.json --output x.csv --compat_tool batch
}

rubbish() {
  local count
  for count in 0 3; do
    echo '{"a": [["Q?", "images/none.jpg"]], "b": [["Q?"]]}' >missing.json
    refused 66 "$count" 'images/none.jpg' "$facet" generate "${trained[@]}" --input missing.json --output x.csv
    echo '{"a": [["Q?", "images/'"${images[0]}"'", 3]]}' >long.json
    refused 65 "$count" 'long.json' "$facet" generate "${trained[@]}" --input long.json --output x.csv
  done
  echo 'not an image' >images.jpg
  echo '{"a": [["Q?", "images.jpg"]]}' >text.json
  refused 65 0 'images.jpg' "$facet" generate "${trained[@]}" --input text.json --output x.csv
  refused 66 0 'no_such.json' "$facet" generate "${trained[@]}" --input no_such.json --output x.csv
  echo '{}' >empty.json
  refused 65 0 'empty.json' "$facet" generate "${trained[@]}" --input empty.json --output x.csv
  refused 74 0 'text.json/x.csv' "$facet" generate "${trained[@]}" --input tests.json --output text.json/x.csv
  refused 64 0 '--input is missing' "$facet" generate "${trained[@]}" --output x.csv
  refused 64 0 'is not an option of facet generate, but of facet train' "$facet" generate "${trained[@]}" --input tests.json --output x.csv \
    --learning_rate 1
  [ ! -e x.csv ]
}

check Generate.CsvOfAllRounds csv
check Generate.GreedyIsDetermined greedy_is_determined
check Generate.RanksShareTheTests ranks_share_the_tests
check Generate.GroupsShareTheWeights groups_share_the_weights
check Generate.OneOfAGroupFails one_of_a_group_fails
check Generate.ConversationsAtTheSameTime conversations_at_the_same_time
check Generate.SeedDecidesDraws seed_decides_draws
check Generate.TopKAndTopP top_k_and_top_p
check Generate.ImagesMatter images_matter
check Generate.Limits limits
check Generate.KilledAndGivenAgain killed_and_given_again
check Generate.DrawsOfATest draws_of_a_test
check Generate.JsonLines json_lines
check Generate.Scores scores
check Generate.RightAnswers right_answers
check Generate.AllWereAnsweredBefore all_were_answered_before
check Generate.SeveralModels several_models
check Generate.Checkpoints checkpoints
check Generate.AsTheOriginal as_the_original
check Generate.Rubbish rubbish
finish
