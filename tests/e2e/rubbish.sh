#!/usr/bin/env bash
# Invalid input: one message for the whole job, the right exit code on every rank, no hang.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" "${data[@]}" --num_train_epochs 1 --output_dir "$work/out")

before_case() { rm -rf "$work/out"; }

# A copy of the tiny models and data to spoil.
spoil() {
  rm -rf "$work/spoilt"
  cp -r "$tiny" "$work/spoilt"
  cd "$work/spoilt"
}
spoilt=("$facet" train --lm_model_name_or_path "$work/spoilt/lm" --vision_model_name_or_path "$work/spoilt/clip" --threads 1
  --data_path "$work/spoilt/data" --dataset_names llava llava_dial coco_caption --num_train_epochs 1 --output_dir "$work/out")

# Errors of set-up: without mpirun, and on 3 ranks.
refused_everywhere() {
  local ranks code=$1 text=$2
  shift 2
  for ranks in 0 3; do
    refused "$code" "$ranks" "$text" "$@"
    once "EXIT code=$code "
  done
}

unknown_option() { refused_everywhere 64 'unknown option --learnin_rate; did you mean --learning_rate?' "${train[@]}" --learnin_rate 1; }

unknown_command() {
  run 64 0 "$facet" trian
  once "there is no command 'trian'; did you mean facet train?"
  once 'facet --help lists the commands'
}

wrong_type() {
  refused_everywhere 64 '--max_seq_len: ' "${train[@]}" --max_seq_len long
  refused 64 0 '--vis_proj: ' "${train[@]}" --vis_proj linear
  refused 64 0 '--max_bad_steps: ' "${train[@]}" --max_bad_steps 0
  refused 64 0 '--seed: ' "${train[@]}" --seed 1.5
  refused 64 0 '--learning_rate: ' "${train[@]}" --learning_rate nan
}

several_mistakes() {
  refused_everywhere 64 '5 mistakes' "${train[@]}" --sead 3 --max_num_image_per_sample many --adam_betas 0.9 --dataset_samples 1 2 --precisoin bf16
  once 'did you mean --seed?'
  once '--max_num_image_per_sample: '
  once '--adam_betas takes two values'
  once '--dataset_samples has 2 values for 3 data sets'
  once 'did you mean --precision?'
}

mistakes_in_config_file() {
  printf 'lerning_rate = 1\nmax_seq_len = short\nno value here\n' >"$work/bad.cfg"
  refused 64 0 "$work/bad.cfg:1: " "${train[@]}" --config "$work/bad.cfg"
  once 'did you mean --learning_rate?'
  once 'no value here'
  once 'max_seq_len: '
  refused 64 0 "$work/none.cfg" "${train[@]}" --config "$work/none.cfg"
  refused_everywhere 64 "--config $tiny: a directory, not a regular file" "${train[@]}" --config "$tiny"
}

# A name that would begin lines of its own and clear the terminal stays a name, wherever it is told.
names_of_the_outside() {
  local ranks name=$'a\nEXIT code=0 reason=done step=9 checkpoint=none\x1b[2J.jpg'
  local shown='a\nEXIT code=0 reason=done step=9 checkpoint=none\x1b[2J.jpg'
  spoil
  sed -i '0,/"image": *"[^"]*"/s//"image": "a\\nEXIT code=0 reason=done step=9 checkpoint=none\\u001b[2J.jpg"/' \
    data/llava/detail_23k.json
  for ranks in 0 3; do
    refused 66 "$ranks" "$shown" "${spoilt[@]}" --data_train_split_ratio 1
    [ "$(grep -c '^EXIT ' "$output")" = 1 ]
    once 'EXIT code=66 reason=missing_input '
    if grep -q $'\x1b' "$output"; then fail 'a terminal would obey'; fi
    rm -rf "$work/out"
  done
  run 0 0 "${spoilt[@]}" --bad_samples skip --max_bad_fraction 1 --data_train_split_ratio 1
  [ "$(grep -cF 'train2017/a\n' "$work/out/bad_samples.rank-0.jsonl")" = "$(wc -l <"$work/out/bad_samples.rank-0.jsonl")" ]
  refused 64 0 "--replay: '$shown' has a control character in it" "${train[@]}" --replay "$name"
  refused 66 0 '--replay none\x9b2J: ' "${train[@]}" --replay $'none\x9b2J'
}

missing_paths() {
  refused_everywhere 66 "$work/no_lm" "$facet" train --lm_model_name_or_path "$work/no_lm" --vision_model_name_or_path "$work/no_clip" \
    --data_path "$work/no_data" --output_dir "$work/out"
  once "$work/no_clip"
  once "$work/no_data"
  spoil
  rm lm/tokenizer.model
  refused 66 0 "$work/spoilt/lm/tokenizer.model" "${spoilt[@]}"
  spoil
  rm clip/model.safetensors
  refused 66 0 "$work/spoilt/clip" "${spoilt[@]}"
  spoil
  rm data/coco_caption/dataset.json
  refused 66 0 'data set coco_caption: not found:' "${spoilt[@]}"
}

config_contradicts_tensors() {
  spoil
  sed -i 's/"intermediate_size": *352/"intermediate_size": 360/' lm/config.json
  refused_everywhere 78 'layers.0.mlp.gate_proj.weight' "${spoilt[@]}"
  refused 78 0 'layers.0.mlp.gate_proj.weight' "${spoilt[@]}" --dry_run
  spoil
  sed -i 's/"num_hidden_layers": *3/"num_hidden_layers": 4/' clip/config.json
  refused 78 0 'layers.3.self_attn.q_proj.weight' "${spoilt[@]}"
  spoil
  sed -i 's/"num_attention_heads": *4/"num_attention_heads": 5/' lm/config.json
  refused 78 0 'num_attention_heads' "${spoilt[@]}"
  spoil
  sed -i 's/"hidden_act": *"silu"/"hidden_act": "relu"/' lm/config.json
  refused 78 0 'relu' "${spoilt[@]}"
}

bad_config_json() {
  spoil
  echo '{"hidden_size": 128,' >lm/config.json
  refused_everywhere 78 "$work/spoilt/lm/config.json" "${spoilt[@]}"
  spoil
  sed -i 's/"hidden_size": *128/"hidden_size": "wide"/' clip/config.json
  refused 78 0 "$work/spoilt/clip/config.json" "${spoilt[@]}"
}

# Sizes that would fill the memory or never end.
impossible_sizes() {
  local plan=("$facet" plan --lm_model_name_or_path "$work/spoilt/lm" --vision_model_name_or_path "$work/spoilt/clip")
  spoil
  sed -i 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 1000000000/' clip/config.json
  refused_everywhere 78 'num_hidden_layers: 1000000000 is out of range' "${spoilt[@]}"
  refused 78 0 'num_hidden_layers: 1000000000 is out of range' "${plan[@]}"
  spoil
  # Within the range, but not what the weights hold: no memory is taken for it.
  sed -i 's/"hidden_size": *128/"hidden_size": 262144/; s/"intermediate_size": *352/"intermediate_size": 1048576/' lm/config.json
  refused 78 0 'the model files do not hold the model that the configuration describes' "${spoilt[@]}"
  refused 78 0 'the model files do not hold the model that the configuration describes' "$facet" evaluate "${spoilt[@]:2:8}" --dataset_names llava
}

# A file that never ends, or never begins.
no_regular_files() {
  spoil
  rm clip/config.json
  mkfifo clip/config.json
  refused_everywhere 66 'clip/config.json: a FIFO (named pipe), not a regular file' "${spoilt[@]}"
  spoil
  rm data/coco/train2017/000000000011.jpg
  mkfifo data/coco/train2017/000000000011.jpg
  refused 66 2 '000000000011.jpg: a FIFO (named pipe), not a regular file' "${spoilt[@]}" --data_train_split_ratio 1
}

# Where OpenMP has no memory for the stack of a thread it ends the process.
no_threads() {
  local ranks threaded=("$facet" train --lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/clip" --threads 2 "${data[@]}"
    --output_dir "$work/out")
  for ranks in 0 3; do
    run 71 "$ranks" env OMP_STACKSIZE=100000G "${threaded[@]}"
    grep -q 'a library has ended the process; .*raise ulimit -u' "$output"
    grep -q '^EXIT code=71 reason=system ' "$output"
  done
}

spoilt_safetensors() {
  local file
  for file in lm/model.safetensors clip/model.safetensors; do
    spoil
    truncate -s -1000 "$file"
    refused_everywhere 65 "$work/spoilt/$file" "${spoilt[@]}"
    refused 65 0 "$work/spoilt/$file" "${spoilt[@]}" --dry_run
    spoil
    : >"$file"
    refused 65 0 "$work/spoilt/$file" "${spoilt[@]}"
    spoil
    head -c 5000 /dev/urandom >"$file"
    refused 65 0 "$work/spoilt/$file" "${spoilt[@]}"
  done
}

narrow_perceiver() {
  spoil
  sed -i 's/"hidden_size": *128/"hidden_size": 96/' lm/config.json
  refused_everywhere 78 'multiple of 128' "${spoilt[@]}" --vis_proj perceiver
}

unwritable_output() {
  : >"$work/file"
  refused_everywhere 74 "$work/file/out" "${train[@]:0:${#train[@]}-1}" "$work/file/out"
}

# A full disk, played by a limit on the size of files: the export of the language model does not fit.
full_disk() {
  local ranks limited=(bash -c "trap '' XFSZ; ulimit -f 2048; exec \"\$0\" \"\$@\"")
  for ranks in 0 2; do
    PMIX_MCA_gds=hash OMPI_MCA_btl=self,tcp refused 74 "$ranks" 'lang_decoder/model.safetensors' "${limited[@]}" "${train[@]}" --max_steps 2
    [ "$(rows "$work/out/loss_log.csv")" = 2 ]
    once "checkpoint=$work/out/checkpoints/step_00000002" # that fits
    # Nothing that looks like a model is left.
    [ -z "$(find "$work/out" -name 'epoch-*')" ]
    rm -rf "$work/out"
  done
}

malformed_annotations() {
  spoil
  truncate -s -100 data/llava/detail_23k.json
  refused_everywhere 65 "$work/spoilt/data/llava/detail_23k.json" "${spoilt[@]}"
  spoil
  echo '{"no_images": []}' >data/coco_caption/dataset.json
  refused 65 0 "$work/spoilt/data/coco_caption/dataset.json" "${spoilt[@]}"
}

empty_data_set() {
  spoil
  echo '[]' >data/llava/conversation_58k.json
  refused_everywhere 65 'data set llava_dial' "${spoilt[@]}"
}

# Records without an answer have nothing to learn from.
no_labels() {
  local ranks
  spoil
  sed -i '/"from": "gpt"/{n;s/"value": "[^"]*"/"value": ""/}' data/llava/conversation_58k.json
  local silent=("$facet" train --lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/clip" --threads 1 --data_path "$work/spoilt/data"
    --dataset_names llava_dial --num_train_epochs 1 --output_dir "$work/out")
  refused_everywhere 65 'data set llava_dial: none of' "${silent[@]}"
  never 'eval: step=0'
  for ranks in 1 3; do refused 65 "$ranks" 'data set llava_dial: none of' "${silent[@]}" --bad_samples skip; done
}

missing_images() {
  local ranks
  spoil
  rm data/coco/train2017/*
  for ranks in 0 3; do
    refused 66 "$ranks" '--bad_samples skip' "${spoilt[@]}" --data_train_split_ratio 1
    rm -rf "$work/out" # what was done until then is kept there
  done
  # Skipped samples leave the others; the lists name each one.
  for ranks in 1 3; do
    run 0 "$ranks" "${spoilt[@]}" --bad_samples skip --max_bad_fraction 1 --data_train_split_ratio 1
    [ "$(cat "$work/out"/bad_samples.rank-*.jsonl | grep -c 'train2017')" -ge 10 ]
    rm -rf "$work/out"
  done
  refused 65 2 'max_bad_fraction' "${spoilt[@]}" --bad_samples skip --max_bad_fraction 0.1 --data_train_split_ratio 1
}

contradicting_options() {
  refused_everywhere 78 '--only_optimize_lora freezes what --unfreeze would train' "${train[@]}" --only_optimize_lora --lang_lora_dim 4 --unfreeze lang_decoder.
  refused 78 0 'lang_lora_module_name nowhere' "${train[@]}" --lang_lora_dim 4 --lang_lora_module_name nowhere
  refused 78 0 'no.such.parameter: no trainable parameter' "${train[@]}" --unfreeze no.such.parameter
  refused 78 0 '--image_size' "${train[@]}" --image_size 50
}

no_finite_gradient() {
  refused 87 2 '--max_bad_steps' "${train[@]}" --max_bad_steps 3 --learning_rate 1e3 --gradient_clipping 0 --unfreeze lang_decoder.
}

check Rubbish.UnknownOption unknown_option
check Rubbish.UnknownCommand unknown_command
check Rubbish.WrongType wrong_type
check Rubbish.SeveralMistakesInOneReport several_mistakes
check Rubbish.MistakesInConfigFile mistakes_in_config_file
check Rubbish.NamesOfTheOutsideBeginNoLine names_of_the_outside
check Rubbish.MissingPaths missing_paths
check Rubbish.ConfigContradictsTensors config_contradicts_tensors
check Rubbish.BadConfigJson bad_config_json
check Rubbish.ImpossibleSizes impossible_sizes
check Rubbish.NoRegularFiles no_regular_files
check Rubbish.NoThreads no_threads
check Rubbish.SpoiltSafetensors spoilt_safetensors
check Rubbish.NarrowPerceiver narrow_perceiver
check Rubbish.UnwritableOutput unwritable_output
check Rubbish.FullDisk full_disk
check Rubbish.MalformedAnnotations malformed_annotations
check Rubbish.EmptyDataSet empty_data_set
check Rubbish.NoLabels no_labels
check Rubbish.MissingImages missing_images
check Rubbish.ContradictingOptions contradicting_options
check Rubbish.NoFiniteGradient no_finite_gradient
finish
