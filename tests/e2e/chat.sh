#!/usr/bin/env bash
# facet chat: typed at a pseudo-terminal, and read from a file. Its answers are those of facet generate to the saved history.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

terminal=$work/terminal
"${CXX:-mpicxx}" -std=c++20 -O1 -o "$terminal" tests/e2e/terminal.cpp || exit 1
cd "$work" || exit 1
mapfile -t images < <(ls "$tiny/data/eval/images" | head -n 2)
mkdir images
cp "$tiny/data/eval/images/${images[0]}" images/a.jpg
cp "$tiny/data/eval/images/${images[1]}" 'images/b c.jpg'
echo 'not an image' >images/text.jpg
export HOME=$work TERM=xterm

answering=("${model[@]}" --max_new_tokens 12)
# chat NAME CODE option... <SCRIPT: at the terminal. NAME.json is the history, NAME.txt what was shown.
chat() {
  local name=$1 expected=$2 code=0
  shift 2
  timeout -k 5 "$time_limit" "$terminal" "$facet" chat "${answering[@]}" --history "$name.json" "$@" >"$name.txt" 2>"$name.err" || code=$?
  [ "$code" = "$expected" ] || { tail -n 20 "$name.txt"; cat "$name.err"; fail "chat ended with $code"; }
}
# same_as_generated NAME option...: generate answers NAME.json like that.
same_as_generated() {
  local name=$1
  shift
  run 0 0 "$facet" generate "${answering[@]}" --input "$name.json" --output "$name.jsonl" "$@"
  [ -s "$name.json.answers.jsonl" ]
  diff <(sed 's/"seconds": [^,]*, //' "$name.json.answers.jsonl") <(sed 's/"seconds": [^,]*, //' "$name.jsonl")
}
# rounds NAME: "test round question" of each that was answered.
rounds() { sed -E 's/.*"test": "([^"]*)".*"round": ([0-9]+), .*"question": (".*"), "answer".*/\1 \2 \3/' "$1.json.answers.jsonl"; }

conversation() {
  chat talk 0 <<'END'
wait Images (
type images/none.jpg
wait images/none.jpg
wait Images (
type images/text.jpg
wait images/text.jpg
wait Images (
type "images/a.jpg
wait is not closed
wait Images (
type "images/b c.jpg" ~/images/a.jpg
wait You: 
type What do you sée in “both”?
wait Images (
type
wait You: 
type 
wait You: 
type And why?
wait Images (
type undo
wait rounds left: 1
wait Images (
keys imagse/b
keys \x02\x02\x02\x7fe\x05\x7f\x7f\x7f
keys s/b\t images/a.j\t\r
wait You: 
type Another one?
wait Images (
type clear
wait a new conversation
type clear
wait Images (
type na
wait You: 
keys \e[200~First line\r  the second: ü\e[201~ and a third\r
wait Images (
type undo
wait rounds left: 0
wait Images (
type undo
wait no round to take back
wait Images (
type na
wait You: 
keys \e[A\r
keys \x04
END
  cat >expected.txt <<'END'
chat-1 0 "What do you sée in “both”?"
chat-1 1 "Another one?"
chat-2 0 "First line\n  the second: ü and a third"
END
  diff expected.txt <(rounds talk)
  grep -qF '"images": ["images/b c.jpg", "images/a.jpg"]' talk.json.answers.jsonl # completed by the tab key
  grep -qF "\"images\": [\"images/b c.jpg\", \"$work/images/a.jpg\"]" talk.json.answers.jsonl
  grep -qF $'\e[?2004h' talk.txt  # the terminal is asked to mark what is pasted
  same_as_generated talk
}

# The line is longer than what the system edits by itself (4096 bytes), and has 4500 tokens: it fits once.
long_line() {
  { printf 'wait Images (\ntype na\nwait You: \ntype '
    printf 'word%.0s ' {1..1500}
    printf '\n'
    cat <<'END'
wait Images (
type na
wait You: 
keys \e[A\r
wait that does not fit
wait Images (
type na
wait You: 
type Short?
wait Images (
type undo
wait rounds left: 1
type undo
wait rounds left: 0
wait Images (
type na
wait You: 
keys \e[A\e[A\r
wait Images (
type quit
END
  } | chat long 0 --max_seq_len 8000
  [ "$(rounds long | wc -lc | xargs)" = '1 7511' ]
  same_as_generated long --max_seq_len 8000
}

interrupts() {
  local answering=("${model[@]}")
  chat stop 0 --max_new_tokens 100000 --max_seq_len 100000 --stop_strings 'zq qz' <<'END'
wait Images (
type na
wait You: 
type Go on for ever.
wait ever.
wait  
keys \x03
wait (stopped)
wait Images (
keys half a line\x03
wait ^C
wait Images (
type na
wait You: 
keys \x03
wait Ctrl-C once more
wait You: 
keys \x03
END
  grep -q '"stop_reason": "interrupted"' stop.json.answers.jsonl
  # Terminals are left as they were found, whatever ends the program.
  chat terminated 143 <<'END'
wait Images (
keys half
wait half
kill 15
echoes
END
}

# What scripts and pipes type: no codes for a terminal, the last line may lack its end. Somebody who types slowly is no hang.
from_a_file() {
  local images_prompt='Images (paths separated by blanks, `na` for none): '
  { printf 'na\nHow are you?\n'
    sleep 2.5
    printf 'images/a.jpg\nAnd this?\nimages/a.jpg "images/b c.jpg"\nna\nWithout an end of line'
  } | "$facet" chat "${answering[@]}" --temperature 1 --seed 5 --max_images 2 --hang_seconds_compute 1.5 --history file.json \
    >file.txt 2>file.err
  grep -q 'more than --max_images 2 of a conversation' file.err
  [ "$(rounds file | wc -l)" = 3 ]
  same_as_generated file --temperature 1 --seed 5
  { sed -n 's/.*"answer": "\(.*\)", "tokens".*/\1/p' file.jsonl | sed 's/\\u00/\\x/g; s/\\\(["\\]\)/\1/g' | sed "1,2s/^/${images_prompt}You: /; 3s/^/$images_prompt${images_prompt}You: /"
    echo "$images_prompt"; } | diff - file.txt
  refused 78 0 'file.json is there already' "$facet" chat "${answering[@]}" --history file.json
}

# together RANK-1'S-DIRECTORY NAME option...: <SCRIPT on two ranks, whose process ids go to pid.0 and pid.1.
together() {
  local elsewhere=$1 name=$2
  local -a words
  shift 2
  # shellcheck disable=SC2016
  words=(bash -c 'echo $$ >"$0/pid.$OMPI_COMM_WORLD_RANK"; exec "$@"' "$work" "$facet" chat "${model[@]}" --inference_tp_size 2
    --history "$name.json" "$@")
  timeout -k 5 "$time_limit" mpirun --oversubscribe -n 1 "${words[@]}" : -n 1 --wdir "$elsewhere" "${words[@]}" >"$name.txt" 2>"$name.err"
}
# How often a rank has given its core away to wait for something.
times_asleep() { awk '/^voluntary/ { print $2 }' "/proc/$(cat "pid.$1")/status"; }
has_bytes() { [ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt "$2" ]; }
has_answers() { [ "$(rounds "$1" 2>/dev/null | wc -l)" = "$2" ]; }

# Ranks that hold the model together answer as one. While nobody types they sleep, and that is no hang.
on_two_ranks() {
  local drawing=(--max_new_tokens 12 --temperature 1 --seed 5)
  printf '%s\n' images/none.jpg 'images/a.jpg "images/b c.jpg"' 'What do you see?' na 'And why?' >first.txt
  printf '%s\n' undo na 'And now?' clear help images/a.jpg 'This one?' quit >second.txt
  { cat first.txt
    until_true 60 has_answers two 2
    sleep 0.3
    times_asleep 1 >before.txt
    sleep 2
    times_asleep 1 >after.txt
    cat second.txt
  } | together "$work" two "${drawing[@]}" --hang_seconds_compute 1.5
  [ "$(($(cat after.txt) - $(cat before.txt)))" -ge 20 ] # of 200 on an idle machine
  cat first.txt second.txt | "$facet" chat "${model[@]}" "${drawing[@]}" --history one.json >one.txt 2>one.err
  [ "$(rounds one | wc -l)" = 3 ]
  cmp one.txt two.txt
  cmp one.json two.json
  diff <(sed 's/"seconds": [^,]*, //' one.json.answers.jsonl) <(sed 's/"seconds": [^,]*, //' two.json.answers.jsonl)
  diff <(grep images/none.jpg one.err) <(grep images/none.jpg two.err)
  refused 78 2 '--inference_tp_size 1 is not the number of ranks, 2' "$facet" chat "${model[@]}"
}

# What one rank alone cannot read all refuse; Ctrl-C counts on the first one.
ranks_agree() {
  mkdir -p elsewhere/images
  cp images/text.jpg elsewhere/images/a.jpg
  cp images/a.jpg images/later.jpg
  cp images/a.jpg elsewhere/images/later.jpg
  { printf '%s\n' images/a.jpg images/later.jpg
    until_true 60 grep -q You: agree.txt
    cp images/text.jpg elsewhere/images/later.jpg
    printf '%s\n' 'What is this?' na 'Go on for ever.'
    until_true 60 has_bytes agree.txt 500
    kill -INT "$(cat pid.1)"
    sleep 0.3
    cp agree.err before.err
    kill -INT "$(cat pid.0)"
    until_true 30 has_answers agree 1
    echo quit
  } | together "$work/elsewhere" agree --max_new_tokens 100000 --max_seq_len 100000
  grep -q '^rank 1 .*images/a.jpg' agree.err
  grep -q '^rank 1 .*images/later.jpg' agree.err
  [ ! -e elsewhere/agree.json ]
  grep -qF '(stopped)' agree.err
  [ "$(grep -cF '(stopped)' before.err)" = 0 ]
  grep -q '"stop_reason": "interrupted"' agree.json.answers.jsonl
}

as_the_original() {
  chat original 0 --compat visualchat <<'END'
wait Images (
type images/a.jpg
wait You: 
type What do you see?
wait Images (
type na
wait You: 
type Never said.
wait Images (
type undo
wait rounds left: 1
wait Images (
type "images/b c.jpg" images/a.jpg
wait You: 
type And here?
wait Images (
type quit
END
  same_as_generated original --compat visualchat --compat_tool chat
}

check Chat.Conversation conversation
check Chat.AsTheOriginal as_the_original
check Chat.FromAFile from_a_file
check Chat.OnTwoRanks on_two_ranks
check Chat.RanksAgree ranks_agree
check Chat.LongLine long_line
check Chat.Interrupts interrupts
finish
