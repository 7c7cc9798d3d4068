#!/usr/bin/env bash
# A run from start to export, what can be done with the export, and how runs keep out of each other's way and end.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3)
exported() { # options that name an export instead of the tiny models
  echo "--lm_model_name_or_path $1/lang_decoder --vision_model_name_or_path $1/vis_encoder --threads 1"
}

# Weights as torch.save() writes them, without Python.
to_torch=$work/to_torch
"${CXX:-mpicxx}" -std=c++20 -I. -o "$to_torch" tests/e2e/to_torch.cpp -lz || exit 1

# value TEXT: what follows the last "TEXT=" in the last run's output.
value() { grep -o "$1=[^, ]*" "$output" | tail -n 1 | cut -d= -f2; }

# One run of every kind of parameter: LoRA and DoRA that are fused at export, the vit projection, MMCA.
kind=(--vis_proj vit --enable_mmca_attention)
one_run() {
  run 0 2 "${train[@]}" "${kind[@]}" --lang_lora_dim 4 --lang_lora_dora --vis_lora_dim 4 --vis_lora_rslora --lora_plus_ratio 4 \
    --num_train_epochs 2 --output_dir "$work/run" --steps_per_print 3 --peak_tflops 0.5
  once "EXIT code=0 reason=done step=16 checkpoint=$work/run/checkpoints/step_00000016"
  once "exported $work/run/epoch-1 (an adapter)"
  once "exported $work/run/epoch-2 (the model)"
  grep -q '^trained: [1-9][0-9]* elements, frozen: [1-9]' "$output"
  grep -q '^step=3, skipped=0, lr=\[.*\], mom=\[.*\], loss=' "$output"
  [ "$(grep -c '^eval: step=' "$output")" = 3 ]
  # The log of a job says when; what other programs read stays as it is.
  [ "$(grep -cE "^$(date +%Y)-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} step=3, " "$printed")" = 1 ]
  grep -q '^max_seq_len = ' "$printed"
  grep -q '^EXIT ' "$printed"
  local file
  for file in lang_decoder/{config.json,model.safetensors,tokenizer.model} vis_encoder/{config.json,model.safetensors,preprocessor_config.json} \
    projection.safetensors; do
    [ -s "$work/run/epoch-2/$file" ]
  done
  for file in {lang_decoder,vis_encoder}/adapter_{config.json,model.safetensors} lang_decoder/tokenizer.model projection.safetensors; do
    [ -s "$work/run/epoch-1/$file" ]
  done
  [ ! -e "$work/run/epoch-1/lang_decoder/config.json" ]
  grep -q '"use_rslora": *true' "$work/run/epoch-1/vis_encoder/adapter_config.json"
  grep -q '"use_rslora": *false' "$work/run/epoch-1/lang_decoder/adapter_config.json"
  grep -q '"use_dora": *true' "$work/run/epoch-1/lang_decoder/adapter_config.json"
  paste <(column "$work/run/loss_log.csv" lr_decay) <(column "$work/run/loss_log.csv" lr_decay_lora_b) |
    awk '$2 != 4 * $1 { bad = 1 } END { exit bad || NR != 16 }' # LoRA+
  [ -z "$(find "$work/run" -name '*partial*')" ]
  cp "$output" "$work/one_run.txt"
}

last() { column "$@" | tail -n 1; }
close_values() { awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; exit !((d < 0 ? -d : d) <= t * a) }' || fail "$1 and $2 differ"; }

# Fusing LoRA rounds the weights once: 1e-5 of the loss.
evaluation_of_the_export() {
  local ranks
  for ranks in 0 3; do
    # shellcheck disable=SC2046
    run 0 "$ranks" "$facet" evaluate $(exported "$work/run/epoch-2") "${data[@]}" "${kind[@]}"
    close_values "$(last "$work/run/eval_log.csv" loss)" "$(value loss)" 1e-5
    [ "$(value labelled_tokens)" = "$(last "$work/run/eval_log.csv" labelled_tokens)" ]
  done
}

# An adapter and the models that it was trained on are the model, LoRA beside the weights as in training. Options may repeat what it says.
second() { column "$@" | sed -n 2p; }
adapter() {
  local with=(--adapter "$work/run/epoch-1")
  run 0 0 "$facet" evaluate "${model[@]}" "${with[@]}" "${data[@]}" "${kind[@]}"
  once "adapter from $work/run/epoch-1"
  close_values "$(second "$work/run/eval_log.csv" loss)" "$(value loss)" 1e-6
  run 0 2 "${train[@]}" "${kind[@]}" "${with[@]}" --lang_lora_dim 4 --max_steps 2 --export adapter --zero_stage 3 \
    --stage3_param_persistence_threshold 0 --output_dir "$work/from_adapter"
  close_values "$(second "$work/run/eval_log.csv" loss)" "$(column "$work/from_adapter/eval_log.csv" loss | head -n 1)" 1e-6
  once "exported $work/from_adapter/epoch-1 (an adapter)"
  refused 78 0 'has LoRA of rank 4 and alpha 1, --lang_lora_dim says 8' "${train[@]}" "${kind[@]}" "${with[@]}" --lang_lora_dim 8 \
    --output_dir "$work/other_rank"
  refused 78 0 'has LoRA without use_rslora; leave --lang_lora_rslora out' "${train[@]}" "${kind[@]}" "${with[@]}" --lang_lora_rslora \
    --output_dir "$work/other_scale"
  refused 78 0 'has LoRA without use_dora; leave --vis_lora_dora out' "${train[@]}" "${kind[@]}" "${with[@]}" --vis_lora_dora \
    --output_dir "$work/other_form"
  cp -r "$work/run/epoch-1" "$work/other_alpha"
  sed -i 's/"lora_alpha": *1/"lora_alpha": 3/' "$work/other_alpha/lang_decoder/adapter_config.json"
  refused 78 0 "--lang_lora_alpha was '1', is '3'" "${train[@]}" "${kind[@]}" --adapter "$work/other_alpha" --max_steps 3 \
    --output_dir "$work/from_adapter"
  sed -i 's/"alpha_pattern": *{}/"alpha_pattern": {"q_proj": 5}/' "$work/other_alpha/lang_decoder/adapter_config.json"
  run 0 0 "$facet" inspect "$work/other_alpha"
  once '  of rank 4, alpha 5 on 3 of them'
  sed -i 's/"lora_alpha": *3/"lora_alpha": 1/' "$work/other_alpha/lang_decoder/adapter_config.json"
  refused 78 0 "LoRA's alpha on lang_decoder.model.layers.2.self_attn.q_proj was that of the others, is 5" "${train[@]}" "${kind[@]}" \
    --adapter "$work/other_alpha" --max_steps 3 --output_dir "$work/from_adapter"
  # The adapter itself is another one when the run is exported.
  mv "$work/run/epoch-1" "$work/as_it_was"
  ln -s "$work/other_alpha" "$work/run/epoch-1"
  refused 78 0 "from_adapter/checkpoints/step_00000002 was trained with another adapter than $work/run/epoch-1 is now:" \
    "$facet" export "$work/from_adapter" --to "$work/of_other_alpha"
  rm "$work/run/epoch-1"
  mv "$work/as_it_was" "$work/run/epoch-1"
  refused 78 0 'replaces and removes' "${train[@]}" --adapter "$work/run/epoch-1" --output_dir "$work/run"
  run 0 0 "$facet" inspect "$work/run/epoch-1"
  once "lang_decoder: DoRA of rank 4, alpha 1, on 21 linear layers of $tiny/lm"
  once 'vis_encoder: LoRA of rank 4, alpha 1, rank-stabilised, on '
  run 0 0 "$facet" inspect "$work/run/epoch-1/vis_encoder"
  once 'vis_encoder: LoRA of rank 4, alpha 1, rank-stabilised, on '
  # Answers that a killed call has left are of this adapter and no other.
  local answers=("$facet" generate "${model[@]}" "${with[@]}" "${kind[@]}" --input "$tiny/data/eval/held_out.json" --temperature 1
    --num_answers 100000 --output "$work/answers.csv")
  "${answers[@]}" >"$work/answers.txt" 2>&1 &
  until_true 60 [ -s "$work/answers.csv.unfinished/start-1-rank-0.jsonl" ]
  kill -KILL $!
  wait $! || true
  touch "$work/run/epoch-1/lang_decoder/adapter_config.json"
  refused 78 0 'answers.csv.unfinished holds the answers so far' "${answers[@]}"
}

# Long after the run: what it exported itself from its checkpoint, the model from an adapter, and 16 bits, with which a run begins.
exports_of_a_checkpoint() {
  run 0 0 "$facet" export "$work/run" --to "$work/again"
  equal_models "$work/run/epoch-2" "$work/again"
  refused 78 0 "--to $work/again: is there already" "$facet" export "$work/run" --to "$work/again"
  run 0 0 "$facet" export "$work/run/epoch-1" --to "$work/merged" --export_dtype bf16
  run 0 0 "$facet" inspect "$work/merged"
  [ "$(grep -c "^weights     complete in $work/merged/" "$output")" = 2 ]
  once "projection $work/merged/projection.safetensors: "
  mv "$work/merged/projection.safetensors" "$work/projection"
  refused 66 0 'merged/projection.safetensors' "$facet" inspect "$work/merged"
  mv "$work/projection" "$work/merged/projection.safetensors"
  run 0 0 "$facet" export "$work/run/checkpoints/step_00000008" --to "$work/first" --export adapter
  equal_models "$work/run/epoch-1" "$work/first"
  refused 78 0 'their frozen weights differ' "$facet" export "$work/run" --to "$work/wrong" \
    --lm_model_name_or_path "$work/run/epoch-2/lang_decoder"
  [ ! -e "$work/wrong" ]
  # shellcheck disable=SC2046
  run 0 2 "$facet" train $(exported "$work/merged") "${data[@]}" "${kind[@]}" --max_steps 1 --output_dir "$work/from_16_bits"
  close_values "$(second "$work/run/eval_log.csv" loss)" "$(column "$work/from_16_bits/eval_log.csv" loss | head -n 1)" 1e-2
  # shellcheck disable=SC2046
  run 0 2 "$facet" train $(exported "$work/merged") "${data[@]}" "${kind[@]}" --max_steps 2 --output_dir "$work/from_16_bits"
  once 'continuing from '
  cmp <(tail -c 100000 "$work/merged/vis_encoder/model.safetensors") <(tail -c 100000 "$work/from_16_bits/epoch-1/vis_encoder/model.safetensors")
}

run_to_export() {
  [ -e "$work/exported" ] || run 0 1 "${train[@]}" --lang_lora_dim 4 --max_steps 1 --export none --output_dir "$work/exported"
}

# What a killed export has left at its place goes with the next one; what may be another process's stays. The lock knows whose is whose.
killed_exports() {
  local to=$work/killed dead boot
  boot=$(cat /proc/sys/kernel/random/boot_id)
  true &
  dead=$!
  wait "$dead"
  mkdir -p "$to.exporting" "$to.partial-$dead/lang_decoder" "$to.partial-$dead-1" "$to.partial-1" "${to}2.exporting" "${to}2.partial-$dead"
  echo "host $(hostname) pid $dead job none boot $boot run r1" >"$to.exporting/run.lock"
  run_to_export
  run 0 0 "$facet" export "$work/exported" --to "$to" --export adapter
  once "removed $to.partial-$dead, which a killed export had left"
  once "$to.partial-1 lies there: "
  [ ! -e "$to.partial-$dead" ]
  [ ! -e "$to.partial-$dead-1" ]
  [ ! -e "$to.exporting" ]
  [ -e "$to.partial-1" ]
  [ -e "$to/lang_decoder/adapter_config.json" ]
  mkdir "$to.exporting"
  echo "host $(hostname) pid $dead job none boot $boot run r3" >"$to.exporting/run.lock" # that one, killed a moment after it had published
  refused 78 0 'killed: is there already' "$facet" export "$work/exported" --to "$to" --export adapter
  [ ! -e "$to.exporting" ]
  [ -e "$to/lang_decoder/adapter_config.json" ]
  (
    exec 9>"${to}2.exporting/run.lock"
    flock 9
    echo "host $(hostname) pid $BASHPID job none boot $boot run r2" >&9
    refused 78 0 'is in use by another run' "$facet" export "$work/exported" --to "${to}2" --export adapter
  )
  [ -e "${to}2.partial-$dead" ]
  echo 'another file' >"${to}2.exporting/run.lock"
  refused 74 0 'is no lock of this program; move it away or choose another --to' "$facet" export "$work/exported" --to "${to}2" --export adapter
}

# An export that waits for another one, which completes meanwhile, doesn't replace it. Nor does one replace a link.
late_export() {
  local to=$work/late process code=0
  run_to_export
  mkdir "$to.exporting"
  echo "host elsewhere pid 1 job none boot none run r1" >"$to.exporting/run.lock"
  "$facet" export "$work/exported" --to "$to" --export adapter >"$work/late.txt" 2>&1 &
  process=$!
  until grep -q 'waiting up to' "$work/late.txt" || ! kill -0 "$process"; do sleep 0.1; done
  mkdir "$to"
  rm "$to.exporting/run.lock"
  wait "$process" || code=$?
  [ "$code" = 78 ]
  grep -q "late: is there already, and nothing is replaced" "$work/late.txt"
  [ -z "$(ls "$to")" ]
  [ ! -e "$to.exporting" ]
  ln -s nowhere "$work/dangling"
  refused 78 0 'dangling: is there already' "$facet" export "$work/exported" --to "$work/dangling" --export adapter
}

# Training goes on where the export stands: the first evaluation is the last one of the run before.
training_from_the_export() {
  # shellcheck disable=SC2046
  run 0 2 "$facet" train $(exported "$work/run/epoch-2") "${data[@]}" "${kind[@]}" --max_steps 4 --output_dir "$work/second"
  once "projection and lang_embed from $work/run/epoch-2/projection.safetensors"
  close_values "$(last "$work/run/eval_log.csv" loss)" "$(column "$work/second/eval_log.csv" loss | head -n 1)" 1e-5
  # What was exported untouched comes out untouched.
  cmp "$work/run/epoch-2/lang_decoder/tokenizer.model" "$work/second/epoch-1/lang_decoder/tokenizer.model"
  cmp "$work/run/epoch-2/vis_encoder/preprocessor_config.json" "$work/second/epoch-1/vis_encoder/preprocessor_config.json"
}

# The projection of another kind is an error, not a fresh start.
export_of_another_kind() {
  # shellcheck disable=SC2046
  refused 78 0 'missing: projection.query ' "$facet" train $(exported "$work/run/epoch-2") "${data[@]}" --vis_proj perceiver --max_steps 4 \
    --output_dir "$work/other"
}

# A chat model with a tokenizer.json: trained in its own form, exported with that tokenizer, and used as it was trained.
chat_model() {
  local lm=$work/chat_lm form=(--chat_template llama3)
  cp -r "$tiny/lm" "$lm"
  rm "$lm/tokenizer.model"
  cp tests/golden/data/tokenizers/llama3/*.json "$lm"
  local chat=("$facet" train --lm_model_name_or_path "$lm" --vision_model_name_or_path "$tiny/clip" --threads 1 "${data[@]}" --max_steps 2)
  refused 78 2 "$lm/tokenizer.json has no token <|im_start|>, <|im_end|>" "${chat[@]}" --chat_template chatml --output_dir "$work/chat"
  refused 78 0 'is not the form of DeepSpeed-VisualChat' "${chat[@]}" "${form[@]}" --compat visualchat --output_dir "$work/chat"
  run 0 2 "${chat[@]}" "${form[@]}" --output_dir "$work/chat"
  # shellcheck disable=SC2046
  run 0 0 "$facet" evaluate $(exported "$work/chat/epoch-1") "${data[@]}"
  once 'conversations as the model was trained: --chat_template llama3'
  close_values "$(last "$work/chat/eval_log.csv" loss)" "$(value loss)" 1e-5
  # shellcheck disable=SC2046
  refused 78 0 'was trained with --chat_template llama3, not vicuna' "$facet" evaluate $(exported "$work/chat/epoch-1") "${data[@]}" \
    --chat_template vicuna
  # shellcheck disable=SC2046
  run 0 0 "$facet" generate $(exported "$work/chat/epoch-1") --input "$tiny/data/eval/held_out.json" \
    --output "$work/chat.csv" --max_new_tokens 3
  grep -q '^test_name,' "$work/chat.csv"
}

# SigLIP's encoder: trained in pieces with its last norm, exported, and used as it was trained; frozen, its features may be kept.
siglip() {
  local encoder=(--lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/siglip" --threads 1 "${data[@]}")
  local out=$work/siglip kind=(--vis_proj vit)
  refused 78 0 'the SigLIP vision encoder has no class token' "$facet" train "${encoder[@]}" --drop_class_token --output_dir "$out"
  run 0 2 "$facet" train "${encoder[@]}" "${kind[@]}" --vis_lora_dim 4 --unfreeze vis_encoder.vision_model.post_layernorm. --zero_stage 3 \
    --stage3_param_persistence_threshold 0 --learning_rate 2e-3 --max_steps 4 --output_dir "$out"
  cmp "$tiny/siglip/preprocessor_config.json" "$out/epoch-1/vis_encoder/preprocessor_config.json"
  run 0 0 "$facet" inspect "$out/epoch-1/vis_encoder"
  grep -qx 'family      SigLIP (SiglipVisionModel)' "$output"
  grep -qx 'tokens      36 patches of 8 pixels, of images of 52' "$output"
  grep -q '^weights     complete in ' "$output"
  mkdir "$out.bare"
  cp "$tiny/siglip/config.json" "$out.bare"
  run 66 0 "$facet" inspect "$out.bare"
  grep -qx 'missing     preprocessor_config.json' "$output"
  grep -q '^missing     weights: none are there' "$output"
  # shellcheck disable=SC2046
  run 0 0 "$facet" evaluate $(exported "$out/epoch-1") "${data[@]}" "${kind[@]}"
  close_values "$(last "$out/eval_log.csv" loss)" "$(value loss)" 1e-5
  # shellcheck disable=SC2046
  run 0 2 "$facet" train $(exported "$out/epoch-1") "${data[@]}" "${kind[@]}" --max_steps 1 --output_dir "$out.second"
  close_values "$(last "$out/eval_log.csv" loss)" "$(column "$out.second/eval_log.csv" loss | head -n 1)" 1e-5
  kind=(--vis_proj perceiver --max_steps 2 --seed 7)
  run 0 1 "$facet" train "${encoder[@]}" "${kind[@]}" --output_dir "$out.computed"
  run 0 0 "$facet" cache-features "${encoder[@]}" --feature_cache "$out.cache"
  run 0 1 "$facet" train "${encoder[@]}" "${kind[@]}" --feature_cache "$out.cache" --output_dir "$out.kept"
  grep -q ' images given, 0 computed' "$output"
  same_columns "$out.computed/loss_log.csv" "$out.kept/loss_log.csv" step loss grad_norm
}

# Qwen-VL's encoder out of a whole model's directory, likewise; its pool is trained alone and with the blocks' LoRA.
qwen_vl() {
  local encoder=(--lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/qwen_vl" --threads 1 "${data[@]}")
  local out=$work/qwen_vl lora=(--vis_lora_dim 4 --vis_lora_module_name resblocks)
  refused 78 0 'the Qwen-VL vision encoder has pooled its patches itself' "$facet" train "${encoder[@]}" --vis_proj perceiver --output_dir "$out"
  refused 78 0 'leave it out' "$facet" train "${encoder[@]}" --vision_feature_layer -2 --output_dir "$out"
  run 0 0 "$facet" inspect "$tiny/qwen_vl"
  grep -qx 'family      Qwen-VL (VisionTransformer)' "$output"
  grep -qx 'tokens      16 of width 256 from the pool, whatever the image size; positions of 16 patches of 8 pixels' "$output"
  grep -q '^pixels      each side 48, centre crop of 48' "$output"
  run 0 2 "$facet" train "${encoder[@]}" "${lora[@]}" --unfreeze vis_encoder.attn_pool. --zero_stage 3 --stage3_param_persistence_threshold 0 \
    --gradient_checkpointing --learning_rate 2e-3 --max_steps 4 --output_dir "$out"
  run 0 0 "$facet" inspect "$out/epoch-1/vis_encoder"
  grep -q '^weights     complete in ' "$output"
  grep -q '^pixels      each side 48, centre crop of 48' "$output"
  # shellcheck disable=SC2046
  run 0 0 "$facet" evaluate $(exported "$out/epoch-1") "${data[@]}"
  close_values "$(last "$out/eval_log.csv" loss)" "$(value loss)" 1e-5
  local kind=(--max_steps 2 --seed 7)
  run 0 1 "$facet" train "${encoder[@]}" "${kind[@]}" --output_dir "$out.computed"
  run 0 0 "$facet" cache-features "${encoder[@]}" --feature_cache "$out.cache"
  run 0 1 "$facet" train "${encoder[@]}" "${kind[@]}" --feature_cache "$out.cache" --output_dir "$out.kept"
  grep -q ' images given, 0 computed' "$output"
  same_columns "$out.computed/loss_log.csv" "$out.kept/loss_log.csv" step loss grad_norm
}

# decoder_family NAME MODEL_TYPE TEXT: a tiny decoder of it, with a tokenizer as it has one, is trained with LoRA, exported as what it was, and read again. At
# stage 3 biases and a tied head are cut up like everything else. TEXT is a line of inspect.
decoder_family() {
  local family=$1 type=$2 said=$3 from=$work/$1_made run=$work/$1 lm=$work/$1_made/lm
  "$BUILD/make_tiny" --output "$from" --scenes 8 --decoder "$family" >/dev/null
  mv "$lm/tokenizer.model" "$from"
  run 66 0 "$facet" inspect "$lm"
  once 'missing     tokenizer.model or tokenizer.json'
  echo '{"model": {"type": "Unigram"}}' >"$lm/tokenizer.json"
  run 66 0 "$facet" inspect "$lm"
  once "missing     tokenizer: $lm/tokenizer.json: model: type Unigram is not supported here, only BPE"
  rm "$lm/tokenizer.json"
  # Mistral comes with a SentencePiece model too; that of the tests is for a larger table.
  if [ "$family" = mistral ]; then mv "$from/tokenizer.model" "$lm"; else cp tests/golden/data/tokenizers/"$family"/*.json "$lm"; fi
  run 0 0 "$facet" inspect "$lm"
  once "$said"
  run 0 2 "$facet" train --lm_model_name_or_path "$lm" --vision_model_name_or_path "$tiny/clip" --threads 1 "${data[@]}" --max_steps 2 \
    --lang_lora_dim 2 --enable_mmca_attention --zero_stage 3 --unfreeze lang_decoder. --learning_rate 1e-3 --output_dir "$run"
  grep -q "\"model_type\": *\"$type\"" "$run/epoch-1/lang_decoder/config.json"
  run 0 0 "$facet" inspect "$run/epoch-1/lang_decoder"
  once "$said"
  # shellcheck disable=SC2046
  run 0 0 "$facet" evaluate $(exported "$run/epoch-1") "${data[@]}" --enable_mmca_attention
  close_values "$(last "$run/eval_log.csv" loss)" "$(value loss)" 1e-5
  # shellcheck disable=SC2046
  run 0 1 "$facet" train $(exported "$run/epoch-1") "${data[@]}" --enable_mmca_attention --max_steps 1 --output_dir "$run.again"
  close_values "$(last "$run/eval_log.csv" loss)" "$(column "$run.again/eval_log.csv" loss | head -n 1)" 1e-5
  # shellcheck disable=SC2046
  run 0 0 "$facet" generate $(exported "$run/epoch-1") --enable_mmca_attention --input "$tiny/data/eval/held_out.json" \
    --output "$run.csv" --max_new_tokens 3
  grep -q '^test_name,' "$run.csv"
}
decoder_families() {
  decoder_family mistral mistral 'window      24 positions in every layer'
  decoder_family qwen2 qwen2 'window      24 positions in layers 1 2'
  decoder_family llama3 llama 'positions   rotary, base 10000, scaled (llama3, factor 8)'
}

# An empty directory and a name that is none.
inspect_finds_nothing() {
  mkdir "$work/empty"
  refused 66 0 'empty: no checkpoint is there; looked for in it: manifest.json or checkpoints/step_N (a checkpoint, a run), config.json (a model)' \
    "$facet" inspect "$work/empty"
  once 'or adapter_config.json (an adapter)'
  HF_HUB_CACHE=$work refused 66 0 "no_such: no such directory; as a name of the Hugging Face hub: the cache $work has no models--no_such" \
    "$facet" inspect no_such
  refused 66 0 "$work/no/such: no such directory" "$facet" inspect "$work/no/such"
  refused 66 0 "$work/no/such: no such directory" "$facet" export "$work/no/such" --to "$work/exported_none"
  refused 66 0 "$tiny/lm: no checkpoint is there; it is a model, not what a run keeps of one" "$facet" export "$tiny/lm" --to "$work/exported_none"
}

# A file in place of a directory: the tensors of weights, and of others what they are and what to give.
inspect_of_a_file() {
  local lm=$tiny/lm file
  for file in "$lm/model.safetensors" "$work/whole_lm.bin"; do
    [ -e "$file" ] || "$to_torch" "$file" "" "$lm/model.safetensors"
    run 0 0 "$facet" inspect "$file"
    grep -qE '^model.embed_tokens.weight  \([0-9]+, 128\)  F32$' "$output"
  done
  refused 66 0 "tokenizer.model: a file of an unknown kind, not the directory of a model, an adapter, a checkpoint or a run; give the directory that it lies in, $lm" \
    "$facet" inspect "$lm/tokenizer.model"
  refused 66 0 "config.json: JSON, not the directory of" "$facet" generate --checkpoint_names "$lm/config.json" \
    --input "$tiny/data/eval/held_out.json" --output "$work/x.csv"
  cp "$lm/config.json" "$work/alone.json"
  refused 66 0 "alone.json: JSON, not the directory of a model, an adapter, a checkpoint or a run; facet data-stats --dataset_names json:$work/alone.json" \
    "$facet" inspect "$work/alone.json"
  echo 'to do' >"$work/notes.txt"
  refused 66 0 "notes.txt: a text file, not the directory of" "$facet" inspect "$work/notes.txt" "$work"
  refused 66 0 "notes.txt: a text file, not the directory of" "$facet" export "$work/notes.txt" --to "$work/of_notes"
  printf '\x89HDF\r\n\x1a\n' >"$work/some.h5"
  refused 66 0 "some.h5: an HDF5 file, not the directory of" "$facet" inspect "$work/some.h5"
}

# LLaVA 1.5 in its two stages: the projection alone; then the language model with it, from the one directory that the first has left.
llava() {
  local shape=(--vis_proj mlp2x_gelu --vision_feature_layer -2 --drop_class_token --chat_template vicuna --image_aspect_ratio pad)
  local first=$work/llava_first second=$work/llava_second
  run 0 2 "${train[@]}" "${shape[@]}" --freeze lang_embed. --max_steps 3 --output_dir "$first"
  [ ! -e "$first/epoch-1/lang_decoder" ]
  local whole=(--lm_model_name_or_path "$first/epoch-1" --threads 1)
  run 0 0 "$facet" inspect "$first/epoch-1"
  grep -qx 'projection  mlp2x_gelu from 128 to 128, 36 tokens an image' "$output"
  grep -q '^pixels      squares with bars of 219 219 219, short side 48, ' "$output"
  grep -q '^weights     complete in ' "$output"
  run 0 2 "$facet" evaluate "${whole[@]}" "${data[@]}"
  once "$first/epoch-1 is a whole LLaVA model: --vis_proj mlp2x_gelu --vision_feature_layer -2 --drop_class_token true --chat_template vicuna"
  close_values "$(last "$first/eval_log.csv" loss)" "$(value loss)" 1e-6
  local finetune=("$facet" train "${whole[@]}" "${data[@]}" --unfreeze lang_decoder. --learning_rate 2e-3 --zero_stage 3
    --stage3_param_persistence_threshold 0 --output_dir "$second")
  run 0 2 "${finetune[@]}" --max_steps 2
  once "projection and lang_embed from $first/epoch-1/model.safetensors; 0 rows of added tokens, 0 parameters drawn"
  close_values "$(last "$first/eval_log.csv" loss)" "$(column "$second/eval_log.csv" loss | head -n 1)" 1e-6
  run 0 2 "${finetune[@]}" --max_steps 4
  once 'continuing from '
  cmp "$first/epoch-1/config.json" "$second/epoch-1/config.json"
  cmp "$first/epoch-1/preprocessor_config.json" "$second/epoch-1/preprocessor_config.json"
  mv "$first/epoch-1" "$work/moved"
  run 0 0 "$facet" export "$second" --to "$work/llava_again" --lm_model_name_or_path "$work/moved"
  equal_models "$second/epoch-1" "$work/llava_again"
  run 0 0 "$facet" generate --lm_model_name_or_path "$second/epoch-1" --threads 1 --input "$tiny/data/eval/held_out.json" \
    --output "$work/llava.csv" --max_new_tokens 3
  grep -q '^held_out_000,' "$work/llava.csv"
  run 0 2 "$facet" generate --checkpoint_names "$second" --lm_model_name_or_path "$work/moved" --threads 1 \
    --input "$tiny/data/eval/held_out.json" --output "$work/llava_stored.csv" --max_new_tokens 3
  cmp "$work/llava.csv" <(sed 's/^[^,]*,//' "$work/llava_stored.csv")
  refused 78 0 '--vis_proj baseline: the model in' "$facet" generate --checkpoint_names "$second/epoch-1" --vis_proj baseline \
    --input "$tiny/data/eval/held_out.json" --output "$work/x.csv"
  refused 78 2 "--vis_proj vit: the model in $work/moved has mlp2x_gelu" "$facet" evaluate --lm_model_name_or_path "$work/moved" "${data[@]}" \
    --vis_proj vit
  refused 78 0 '--compat visualchat: the model was trained with --chat_template vicuna' "$facet" evaluate \
    --lm_model_name_or_path "$work/moved" "${data[@]}" --compat visualchat
  refused 66 0 "--lm_model_name_or_path $first/epoch-1: no such directory" "$facet" evaluate "${whole[@]}" "${data[@]}"
  sed -i 's/"vision_feature_layer": -2/"vision_feature_layer": [-2, -1]/' "$work/llava_again/config.json"
  refused 78 2 'features of several layers joined are not supported' "$facet" evaluate --lm_model_name_or_path "$work/llava_again" \
    "${data[@]}"
}

# Models as PyTorch pickles train as the same models as safetensors do, at the stage that cuts every parameter up.
pytorch_files() {
  local part
  cp -r "$tiny/clip" "$tiny/lm" "$work"
  for part in clip lm; do
    "$to_torch" "$work/$part/pytorch_model.bin" "" "$work/$part/model.safetensors"
    rm "$work/$part/model.safetensors"
  done
  local options=(--max_steps 2 --zero_stage 3 --lang_lora_dim 4)
  run 0 2 "${train[@]}" "${options[@]}" --output_dir "$work/from_safetensors"
  once "lang_decoder from $tiny/lm/model.safetensors; vis_encoder from $tiny/clip/model.safetensors"
  run 0 2 "$facet" train --lm_model_name_or_path "$work/lm" --vision_model_name_or_path "$work/clip" --threads 1 "${data[@]}" \
    --learning_rate 2e-3 "${options[@]}" --output_dir "$work/from_torch"
  once "lang_decoder from $work/lm/pytorch_model.bin; vis_encoder from $work/clip/pytorch_model.bin"
  same_columns "$work/from_safetensors/loss_log.csv" "$work/from_torch/loss_log.csv" step loss grad_norm
  equal_models "$work/from_safetensors/epoch-1" "$work/from_torch/epoch-1"
  [ "$(frozen_hash "$work/from_safetensors")" = "$(frozen_hash "$work/from_torch")" ]
}
frozen_hash() { grep -ho '"frozen_hash": *"[^"]*"' "$1"/checkpoints/step_*/manifest.json | head -n 1 | grep .; }

# One file with all four parts, as DeepSpeed-VisualChat saves a trained model; the directories keep their configuration only.
whole_model_in_one_file() {
  local export=$work/run/epoch-2 bare=$work/bare loss
  mkdir "$bare"
  cp -r "$tiny/clip" "$tiny/lm" "$bare"
  rm "$bare"/*/model.safetensors
  # shellcheck disable=SC2046
  run 0 0 "$facet" evaluate $(exported "$export") "${data[@]}" "${kind[@]}"
  loss=$(value loss)
  "$to_torch" "$work/whole.bin" lang_decoder. "$export/lang_decoder/model.safetensors" \
    vis_encoder. "$export/vis_encoder/model.safetensors" "" "$export/projection.safetensors"
  run 0 2 "$facet" evaluate --lm_model_name_or_path "$bare/lm" --vision_model_name_or_path "$bare/clip" --threads 1 \
    --projection "$work/whole.bin" "${data[@]}" "${kind[@]}"
  close_values "$loss" "$(value loss)" 1e-6
}

frozen_stays() {
  run 0 1 "${train[@]}" --max_steps 2 --output_dir "$work/frozen" --weight_decay 0.1
  cmp <(tail -c 1000000 "$tiny/clip/model.safetensors") <(tail -c 1000000 "$work/frozen/epoch-1/vis_encoder/model.safetensors")
  run 0 1 "${train[@]}" --max_steps 2 --output_dir "$work/unfrozen" --unfreeze vis_encoder.
  if cmp -s <(tail -c 1000000 "$tiny/clip/model.safetensors") <(tail -c 1000000 "$work/unfrozen/epoch-1/vis_encoder/model.safetensors"); then
    fail 'unfrozen weights did not move'
  fi
}

learns() {
  run 0 2 "${train[@]}" --num_train_epochs 12 --unfreeze vis_encoder. lang_decoder. --output_dir "$work/learns" --export_every 5 --keep_exports 2
  awk -v a="$(column "$work/learns/eval_log.csv" loss | head -n 1)" -v b="$(last "$work/learns/eval_log.csv" loss)" 'BEGIN { exit !(b < a / 2) }'
  # Of the exports after epochs 5 and 10 and at the end, those that have a place.
  [ "$(cd "$work/learns" && echo epoch-*)" = 'epoch-10 epoch-12' ]
}

loss_log() {
  local log=$work/run/loss_log.csv
  [ "$(head -n 1 "$log")" = '# facet loss log v2' ]
  sed -n 2p "$log" | grep -qE '^step,epoch,start,time,micro_batches,samples,tokens,labelled_tokens,loss,grad_norm,clip_factor,loss_scale,skipped(,lr_[a-z_]+)+,seconds,data_seconds,forward_seconds,backward_seconds,reduce_seconds,optimizer_seconds,memory_bytes,model_flops,mfu,loss_llava,loss_llava_dial,loss_coco_caption,labelled_tokens_llava,labelled_tokens_llava_dial,labelled_tokens_coco_caption$'
  [ "$(column "$log" step | tr '\n' ' ')" = "$(seq -s ' ' 16) " ]
  [ "$(column "$log" epoch | sort -n | uniq -c | tr -s ' \n' ' ')" = ' 8 1 8 2 ' ]
  # The rate of every step by the formula of the cosine schedule, in full precision.
  column "$log" lr_decay | awk '{ pi = atan2(0, -1); d = $1 / (2e-3 * 0.5 * (1 + cos(pi * (NR - 1) / 16))) - 1; if (!(d * d < 1e-28)) bad = 1 } END { exit bad }'
  # The loss is the mean over the data sets' labelled tokens; clipping follows the norm.
  awk -F, 'NR == 2 { for (i = 1; i <= NF; ++i) at[$i] = i }
    NR > 2 { n = sum = 0; split("llava llava_dial coco_caption", sets, " ")
      for (s in sets) { n += $at["labelled_tokens_" sets[s]]; sum += $at["loss_" sets[s]] * $at["labelled_tokens_" sets[s]] }
      if (n != $at["labelled_tokens"]) { print "labelled tokens", n; bad = 1 }
      d = sum / n / $at["loss"] - 1; if (!(d * d < 1e-12)) { print "loss", sum / n, $at["loss"]; bad = 1 }
      norm = $at["grad_norm"] + 1e-6; c = $at["clip_factor"] * (norm > 1 ? norm : 1) - 1; if (!(c * c < 1e-18)) { print "clip", NR; bad = 1 } }
    END { exit bad || NR != 18 }' "$log"
  # The clock goes on, the phases make up the step, the memory is what the end of the run says.
  column "$log" time | sort -c
  awk -F, 'NR == 2 { for (i = 1; i <= NF; ++i) at[$i] = i }
    NR > 2 { sum = 0; split("data forward backward reduce optimizer", phases, " "); for (p in phases) sum += $at[phases[p] "_seconds"]
      d = sum / $at["seconds"] - 1; if (!(d * d < 1e-12)) { print "seconds", sum, $at["seconds"]; bad = 1 }
      d = $at["model_flops"] / $at["seconds"] / (2 * 0.5e12) / $at["mfu"] - 1; if (!(d * d < 1e-12)) { print "mfu", $at["mfu"]; bad = 1 } }
    END { exit bad }' "$log"
  grep -q "^the arenas of a rank held $(last "$log" memory_bytes) bytes at most" "$work/one_run.txt"
  [ "$(head -n 1 "$work/run/eval_log.csv")" = '# facet eval log v2' ]
  [ "$(column "$work/run/eval_log.csv" step | tr '\n' ' ')" = '0 8 16 ' ]
  [ "$(column "$work/run/eval_log.csv" epoch | tr '\n' ' ')" = '0 1 2 ' ]
}

loss_curve() {
  head -c 200 "$work/run/loss_curve.svg" | grep -q '<svg'
  grep -q '</svg>' "$work/run/loss_curve.svg"
}

dry_run() {
  run 0 0 "${train[@]}" "${kind[@]}" --dry_run --output_dir "$work/dry"
  once 'data set llava: '
  once 'data set llava_dial: '
  once 'data set coco_caption: '
  once 'memory of each rank'
  once 'trained: '
  once '96 steps, '
  [ ! -e "$work/dry" ]
  # No weights are written or read, so no output directory is asked for either.
  run 0 0 "${train[@]}" --dry_run
}

# The options of a run, as it wrote them, make the same run; the command line beats the file.
config_file() {
  run 0 1 "${train[@]}" --max_steps 4 --output_dir "$work/written" --unfreeze lang_decoder.model.layers.0. lang_decoder.model.layers.1.
  run 0 1 "$facet" train --config "$work/written/options.cfg" --output_dir "$work/read"
  diff <(grep -v '^output_dir' "$work/written/options.cfg") <(grep -v '^output_dir' "$work/read/options.cfg")
  equal_models "$work/written/epoch-1" "$work/read/epoch-1"
  printf '# a comment\nmax_steps = 3\n\nseed = 5\nlearning_rate =\n' >"$work/three.cfg"
  run 0 1 "${train[@]}" --config "$work/three.cfg" --output_dir "$work/three"
  [ "$(rows "$work/three/loss_log.csv")" = 3 ]
  grep -qx 'seed = 5' "$work/three/options.cfg"
  run 0 1 "${train[@]}" --config "$work/three.cfg" --max_steps 2 --output_dir "$work/two"
  [ "$(rows "$work/two/loss_log.csv")" = 2 ]
}

# start_long NAME RANKS: a run of many steps in the background, in a directory of its own; returns when its log has rows.
start_long() {
  out=$work/long_$1
  (exec timeout -k 5 "$time_limit" mpirun -n "$2" --oversubscribe "${train[@]}" --num_train_epochs 1000000 --output_dir "$out") \
    >"$out.txt" 2>&1 </dev/null &
  long=$!
  until_true 60 has_rows
}
has_rows() { [ -e "$out/loss_log.csv" ] && [ "$(wc -l <"$out/loss_log.csv")" -gt 4 ]; }
holder() { sed -nE 's/^host .* pid ([0-9]+) job .*/\1/p' "$out/run.lock"; }

# The run ends within a minute, and does not say that all is well. The code is mpirun's own affair.
end_of_long() {
  local code=0 begin=$SECONDS
  wait "$long" || code=$?
  if [ "$code" = 0 ] || [ $((SECONDS - begin)) -ge 60 ]; then
    tail "$out.txt"
    fail "the run ended with $code after $((SECONDS - begin)) s"
  fi
}

second_run_is_refused() {
  local pid
  start_long locked 2
  pid=$(holder)
  kill -0 "$pid"
  refused 78 1 "is in use by another run (host $(hostname) pid $pid job none)" "${train[@]}" --output_dir "$out" --max_steps 1
  refused 78 2 "pid $pid" "${train[@]}" --output_dir "$out/../${out##*/}" --max_steps 1
  # A run of its own beside it goes its way, and the first is not disturbed.
  run 0 1 "${train[@]}" --output_dir "$work/beside" --max_steps 1
  kill -0 "$pid"
  # Rank 0 dies without a chance to clean up; its lock is taken over.
  kill -KILL "$pid"
  end_of_long
  until_true 10 no_ranks
  [ "$(holder)" = "$pid" ]
  mkdir -p "$out/epoch-9.partial-$pid/lang_decoder"
  : >"$out/notes.partial-2"
  run 0 2 "${train[@]}" --output_dir "$out" --num_train_epochs 1000000 --max_steps 1
  once "pid $pid job none); taking over"
  [ ! -s "$out/run.lock" ]
  # Its half-written exports are gone, and nothing else.
  [ ! -e "$out/epoch-9.partial-$pid" ]
  [ -e "$out/notes.partial-2" ]
}

# The ranks of the long run, rank 0 (the holder of the lock) left out.
other_ranks() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $out"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ] && [ "$pid" != "$(holder)" ]; then echo "$pid"; fi
  done
}

killed_rank() {
  start_long killed 3
  [ "$(other_ranks | wc -l)" = 2 ]
  kill -KILL "$(other_ranks | sed -n 1p)"
  end_of_long
  until_true 10 no_ranks
}
no_ranks() { [ -z "$(other_ranks)" ]; }

# SIGTERM to a rank, and to mpirun as a batch system does.
terminated_rank() {
  start_long terminated_rank 2
  kill -TERM "$(other_ranks | sed -n 1p)"
  end_of_long
  until_true 10 no_ranks
}
terminated_job() {
  start_long terminated_job 2
  kill -TERM "$long"
  end_of_long
  until_true 10 no_ranks
}

# As it stands in the original's script; with Slurm tests/e2e/slurm.sh starts it.
reference_launch_line() {
  reference_directory "$work/launch"
  cd "$work/launch"
  run 0 2 "$facet" train "${reference_line[@]}" --threads 1 --max_steps 2 --num_workers 0
  ls output/tb_logging/events.out.tfevents.* >/dev/null
  [ "$(rows output/loss_log.csv)" = 2 ]
}

check Run.TrainEvaluateExport one_run
check Run.LossLog loss_log
check Run.LossCurve loss_curve
check Run.EvaluationOfTheExport evaluation_of_the_export
check Run.Adapter adapter
check Run.ExportsOfACheckpoint exports_of_a_checkpoint
check Run.KilledExports killed_exports
check Run.LateExport late_export
check Run.TrainingFromTheExport training_from_the_export
check Run.ExportOfAnotherKind export_of_another_kind
check Run.ChatModel chat_model
check Run.Siglip siglip
check Run.QwenVl qwen_vl
check Run.DecoderFamilies decoder_families
check Run.InspectFindsNothing inspect_finds_nothing
check Run.InspectOfAFile inspect_of_a_file
check Run.Llava llava
check Run.PyTorchFiles pytorch_files
check Run.WholeModelInOneFile whole_model_in_one_file
check Run.FrozenStays frozen_stays
check Run.Learns learns
check Run.DryRun dry_run
check Run.ConfigFile config_file
check Run.SecondRunIsRefusedStaleLockTakenOver second_run_is_refused
check Run.KilledRankEndsTheJob killed_rank
check Run.TerminatedRankEndsTheJob terminated_rank
check Run.TerminatedJobEnds terminated_job
check Run.ReferenceLaunchLine reference_launch_line
finish
